"""The demo, as small as it goes: the page says what it is, and all that it shows is there."""

import re
import subprocess
import sys
from pathlib import Path

import av
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, str(ROOT / "docs/examples/demo.py"), "--smoke", "--output", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert "weights are random" in result.stdout
    return folder


@pytest.fixture(scope="module")
def page(output: Path) -> str:
    return (output / "index.html").read_text(encoding="utf-8")


def test_first_line_says_that_the_weights_are_random(page: str) -> None:
    body = page.split("<body>")[1]
    first_line = re.sub(r"<[^>]+>", "", body).strip().splitlines()[0]
    assert first_line == "The weights on this page are random, and the numbers mean nothing about quality."


def test_every_picture_and_video_is_in_the_folder(output: Path, page: str) -> None:
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 3 + 1 + 8  # strips, the curve, four pairs of videos
    assert all((output / source).is_file() for source in sources)


def test_videos_are_h264_that_browsers_play(output: Path) -> None:
    videos = sorted((output / "videos").glob("*.mp4"))
    assert len(videos) == 8
    for video in videos:
        with av.open(video) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert stream.codec_context.pix_fmt == "yuv420p"
            assert sum(1 for _ in container.decode(stream)) == 5


def test_tuning_changed_the_videos(output: Path) -> None:
    for index in range(4):
        before, after = (output / "videos" / f"{name}_{index}.mp4" for name in ("before", "after"))
        assert before.read_bytes() != after.read_bytes()


def test_rewards_are_cosines_and_named_clips_are_shown(page: str) -> None:
    rewards = [float(value) for value in re.findall(r'<td class="number">([^<]+)</td>', page)]
    assert len(rewards) == 3
    assert all(-1 <= value <= 1 for value in rewards)
    assert "bikes.mp4" in page


def test_the_lora_is_saved(output: Path) -> None:
    assert (output / "lora" / "pytorch_lora_weights.safetensors").is_file()
