"""`videoprefer`: make, rate, check, describe and publish data sets of video preferences."""

from videorm_hf.cli.agree import agree
from videorm_hf.cli.annotate import annotate
from videorm_hf.cli.app import make_app
from videorm_hf.cli.build import build
from videorm_hf.cli.collect import collect
from videorm_hf.cli.export import export
from videorm_hf.cli.generate import generate
from videorm_hf.cli.push import push
from videorm_hf.cli.stats import stats
from videorm_hf.cli.sweep import sweep

app = make_app(
    "VIDEOPREFER: videos of the same prompt, rated and compared.",
    *(collect, generate, annotate, agree, sweep, build, stats, export, push),
)


if __name__ == "__main__":  # for `accelerate launch -m videorm_hf.cli.videoprefer generate ...`
    app()
