"""`videorm`: convert checkpoints to VIDEORM folders and score videos with them."""

import typer

from videorm_hf.cli.best_of_n import best_of_n
from videorm_hf.cli.convert import convert
from videorm_hf.cli.evaluate import evaluate
from videorm_hf.cli.rank import rank
from videorm_hf.cli.score import score
from videorm_hf.cli.train import PASS_ON, train

app = typer.Typer(
    help="VIDEORM, a reward model for video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(convert)
app.command()(score)
app.command()(evaluate)
app.command()(best_of_n)
app.command()(rank)
app.command(context_settings=PASS_ON)(train)


if __name__ == "__main__":  # for `accelerate launch -m videorm_hf.cli.videorm score ...`
    app()
