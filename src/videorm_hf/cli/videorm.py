"""`videorm`: convert checkpoints to VIDEORM folders and score videos with them."""

from videorm_hf.cli.app import make_app
from videorm_hf.cli.best_of_n import best_of_n
from videorm_hf.cli.convert import convert
from videorm_hf.cli.evaluate import evaluate
from videorm_hf.cli.rank import rank
from videorm_hf.cli.score import score
from videorm_hf.cli.train import PASS_ON, train

app = make_app("VIDEORM, a reward model for video.", convert, score, evaluate, best_of_n, rank)
app.command(context_settings=PASS_ON)(train)


if __name__ == "__main__":  # for `accelerate launch -m videorm_hf.cli.videorm score ...`
    app()
