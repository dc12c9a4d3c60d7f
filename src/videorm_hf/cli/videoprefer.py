"""`videoprefer`: make, rate, check, describe and publish data sets of video preferences."""

import typer

from videorm_hf.cli.agree import agree
from videorm_hf.cli.annotate import annotate
from videorm_hf.cli.build import build
from videorm_hf.cli.collect import collect
from videorm_hf.cli.export import export
from videorm_hf.cli.generate import generate
from videorm_hf.cli.push import push
from videorm_hf.cli.stats import stats
from videorm_hf.cli.sweep import sweep

app = typer.Typer(
    help="VIDEOPREFER: videos of the same prompt, rated and compared.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(collect)
app.command()(generate)
app.command()(annotate)
app.command()(agree)
app.command()(sweep)
app.command()(build)
app.command()(stats)
app.command()(export)
app.command()(push)


if __name__ == "__main__":  # for `accelerate launch -m videorm_hf.cli.videoprefer generate ...`
    app()
