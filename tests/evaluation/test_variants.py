"""Altered videos: what becomes of numbered frames."""

from pathlib import Path

import numpy as np
import pytest

from tests.video_factory import numbered_frames, read_numbers, write_video
from videorm_hf.evaluation.variants import VARIANTS, read_variant
from videorm_hf.models.videorm.video_decoding_videorm import VideoDecodingError


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("variants") / "clip.mp4"
    write_video(path, numbered_frames(50))
    return path


@pytest.fixture(scope="module")
def original(clip: Path) -> np.ndarray:
    return read_variant(8, (clip, "original"))


def test_frames_out_of_order(clip: Path, original: np.ndarray) -> None:
    numbers = read_numbers(original)
    assert numbers == sorted(numbers) and len(set(numbers)) == 8
    assert read_numbers(read_variant(8, (clip, "reversed"))) == numbers[::-1]
    assert read_numbers(read_variant(8, (clip, "frozen"))) == [numbers[4]] * 8
    shuffled = read_numbers(read_variant(8, (clip, "shuffled")))
    assert sorted(shuffled) == numbers and shuffled not in (numbers, numbers[::-1])


@pytest.mark.parametrize("num_frames", range(2, 9))
def test_shuffled_is_never_the_order_it_was(clip: Path, num_frames: int) -> None:
    shuffled = read_numbers(read_variant(num_frames, (clip, "shuffled")))
    assert shuffled != sorted(shuffled)


@pytest.mark.parametrize("variant", ["fps_doubled", "container"])
def test_encoding_without_loss_shows_the_same_frames(clip: Path, original: np.ndarray, variant: str) -> None:
    assert np.array_equal(read_variant(8, (clip, variant)), original)


def test_half_the_rate_shows_frames_close_by(clip: Path, original: np.ndarray) -> None:
    halved, numbers = read_numbers(read_variant(8, (clip, "fps_halved"))), read_numbers(original)
    assert halved != numbers
    assert max(abs(a - b) for a, b in zip(halved, numbers, strict=True)) <= 50 / 16


def test_compression_loses_a_little_and_resolution_a_quarter(clip: Path, original: np.ndarray) -> None:
    compressed = read_variant(8, (clip, "compression"))
    difference = np.abs(compressed.astype(int) - original).mean()
    assert compressed.shape == original.shape and 0 < difference < 10
    assert read_variant(8, (clip, "resolution")).shape == (8, 36, 48, 3)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("height", "width", "num_frames"), [(45, 47, 3), (17, 16, 1)])
def test_odd_sizes_and_few_frames(tmp_path: Path, variant: str, height: int, width: int, num_frames: int) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, height, width, 3), dtype=np.uint8)
    write_video(tmp_path / "odd.mkv", frames, codec="ffv1", pix_fmt="bgr0")
    altered = read_variant(num_frames, (tmp_path / "odd.mkv", variant))
    assert len(altered) == num_frames and altered.dtype == np.uint8


@pytest.mark.parametrize("variant", ["original", "reversed", "container"])
def test_an_unreadable_file_has_a_reason(tmp_path: Path, variant: str) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(VideoDecodingError) as raised:
        read_variant(8, (tmp_path / "a.mp4", variant))
    assert raised.value.reason == "not_a_video"
