"""`videorm`: convert checkpoints to VIDEORM folders and score videos with them."""

import typer

from videorm_hf.cli.convert import convert
from videorm_hf.cli.score import score

app = typer.Typer(
    help="VIDEORM, a reward model for video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(convert)
app.command()(score)


if __name__ == "__main__":  # for `accelerate launch -m videorm_hf.cli.videorm score ...`
    app()
