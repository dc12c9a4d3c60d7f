"""The demo, as small as it goes: the page shows what was computed, and all that it shows is there."""

import json
import re
from pathlib import Path

import av
import pytest

from draftv_trainer.cli.draftv import main
from draftv_trainer.comparison import compare_rewards
from draftv_trainer.demo.demo import MEASURES, in_words


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--smoke", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def page(output: Path) -> str:
    return (output / "index.html").read_text(encoding="utf-8")


def test_every_picture_and_video_is_in_the_folder(output: Path, page: str) -> None:
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 6 + 2 + 4  # strips, curves, two pairs of videos
    assert all((output / source).is_file() for source in sources)


def test_videos_are_h264_that_browsers_play(output: Path) -> None:
    videos = sorted(output.rglob("*.mp4"))
    assert len(videos) == 6 + 4
    for video in videos:
        with av.open(video) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert sum(1 for _ in container.decode(stream)) == 8


def test_tuning_changed_the_videos(output: Path) -> None:
    for number in range(2):
        before, after = (output / "videos" / f"{number}_{name}.mp4" for name in ("before", "after"))
        assert before.read_bytes() != after.read_bytes()
    assert (output / "lora" / "pytorch_lora_weights.safetensors").is_file()


def test_the_page_says_what_was_measured(output: Path, page: str) -> None:
    results = json.loads((output / "demo.json").read_text(encoding="utf-8"))
    assert tuple(results["compared"]) == MEASURES
    assert results["facts"]["train_steps"] in (1, 2)  # two, unless the guard ended it
    for name, result in results["compared"].items():
        assert name.replace("'", "&#39;") in page
        assert f"{result['mean_a']:.3f} &rarr; {result['mean_b']:.3f}" in page
        assert result["num_pairs"] == 4


@pytest.mark.parametrize(
    ("after", "words"),
    [([2.0, 3.0, 4.0], "improved"), ([0.0, 1.0, 1.5], "got worse"), ([1.5, 1.0, 3.0], "did not change beyond chance")],
)
def test_results_in_words(after: list[float], words: str) -> None:
    result = compare_rewards("video quality", [1.0, 2.0, 3.0], after, ["a", "b", "c"])
    assert words in in_words(result)
