"""Clips as files, and cuts: to the frame, with the frames' own times, whole or not at all."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video_factory import numbered_frames, read_numbers, rotate_mp4, write_video
from videorm_hf.models.videorm.video_decoding_videorm import read_frames
from videorm_hf.videoprefer.video_io import cut_clip, encode_gif
from videorm_hf.videoprefer.video_io import write_video as write_clip


def frames_of(path: Path) -> tuple[np.ndarray, list[float]]:
    with av.open(str(path)) as video:
        decoded = [(frame.to_ndarray(format="rgb24"), float(frame.time)) for frame in video.decode(video=0)]
    return np.stack([pixels for pixels, _ in decoded]), [time for _, time in decoded]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0.0, 1.0, range(10)), (0.35, 1.0, range(4, 10)), (2.0, 2.01, range(20, 21)), (2.5, 99.0, range(25, 30))],
)
def test_the_cut_is_exact_to_the_frame(tmp_path: Path, start: float, end: float, expected: range) -> None:
    write_video(tmp_path / "video.mp4", numbered_frames(30), 10, options={"g": "12", "bf": "2"})
    frames, times = frames_of(cut_clip(tmp_path / "video.mp4", tmp_path / "new" / "clip.mp4", start, end))
    assert read_numbers(frames) == list(expected)
    assert times == pytest.approx([0.1 * number for number in range(len(expected))], abs=1e-3)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["clip.mp4"]


def test_uneven_times_are_kept(tmp_path: Path) -> None:
    times = [0, 10, 15, 40, 41, 80]
    write_video(tmp_path / "video.mkv", numbered_frames(6), 25, times=times, time_base=Fraction(1, 100))
    frames, found = frames_of(cut_clip(tmp_path / "video.mkv", tmp_path / "clip.mp4", 0.1, 0.5))
    assert read_numbers(frames) == [1, 2, 3, 4]
    assert found == pytest.approx([0, 0.05, 0.3, 0.31], abs=2e-3)


def test_odd_sides_lose_a_pixel(tmp_path: Path) -> None:
    frames = numbered_frames(4, height=49, width=64)[:, :, :63]
    write_video(tmp_path / "video.avi", np.ascontiguousarray(frames), 10, codec="ffv1", pix_fmt="yuv444p")
    cut, _ = frames_of(cut_clip(tmp_path / "video.avi", tmp_path / "clip.mp4", 0, 1))
    assert cut.shape == (4, 48, 62, 3)


def test_what_cannot_be_cut_leaves_nothing(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", numbered_frames(10), 10)
    with pytest.raises(ValueError, match="has no frame from 5 s to 6 s"):
        cut_clip(tmp_path / "video.mp4", tmp_path / "clip.mp4", 5, 6)
    (tmp_path / "noise.mp4").write_bytes(b"noise")
    with pytest.raises(ValueError, match="noise.mp4 cannot be cut"):
        cut_clip(tmp_path / "noise.mp4", tmp_path / "clip.mp4", 0, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["noise.mp4", "video.mp4"]


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (4, 8, 8, 3)])
def test_frames_that_are_no_tensor_are_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    for write in (lambda frames: write_clip(frames, tmp_path / "clip.mp4"), encode_gif):
        with pytest.raises(
            TypeError, match=r"must be a torch.Tensor .*: got ndarray\. Give torch.from_numpy\(frames\)"
        ):
            write(np.zeros(shape, dtype=np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_turned_video_is_cut_upright(tmp_path: Path, degrees: int) -> None:
    scene = np.zeros((64, 96, 3), np.uint8)
    scene[:20, :30] = 255  # one corner
    write_video(tmp_path / "turned.mp4", scene[None].repeat(4, 0))
    rotate_mp4(tmp_path / "turned.mp4", degrees)
    cut_clip(tmp_path / "turned.mp4", tmp_path / "clip.mp4", 0, 1)
    shown, cut = (read_frames(tmp_path / name, 1).frames[0].astype(int) for name in ("turned.mp4", "clip.mp4"))
    assert shown.shape == cut.shape and np.abs(shown - cut).mean() < 3
