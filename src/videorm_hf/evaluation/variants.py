"""A video as it is, and altered: frames out of order, or encoded anew at another rate, size or in another container.

Frames are `uint8` `(num_frames, height, width, 3)` throughout, as a reward then sees them.
"""

import io
import os
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import PIL.Image

from videorm_hf.models.videorm.video_decoding_videorm import read_frames

ORIGINAL = "original"
_FPS = 8
# Of these many frames for each one that is scored the middle one is the very frame that the original is scored on.
_OVERSAMPLING = 3


def read_variant(num_frames: int, source: tuple[str | os.PathLike[str], str]) -> np.ndarray:
    """Read the frames of a file for a reward, altered as asked.

    Args:
        num_frames (`int`): Frames sampled, uniformly by time.
        source (`tuple[str, str]`): The file and one of `"original"` and the names in `VARIANTS`.

    Returns:
        `np.ndarray` of shape `(num_frames, height, width, 3)`: RGB, `uint8`.

    A file that cannot be read is a `VideoDecodingError`, whose `reason` names why.
    """
    path, variant = source
    if variant == ORIGINAL:
        return read_frames(path, num_frames).frames
    if variant in _FRAME_ORDERS:
        return np.ascontiguousarray(_FRAME_ORDERS[variant](read_frames(path, num_frames).frames))
    encoded = _ENCODERS[variant](read_frames(path, _OVERSAMPLING * num_frames).frames)
    return read_frames(encoded, num_frames).frames


def _shuffled(frames: np.ndarray) -> np.ndarray:
    """Put frames in an order that is the same for all videos of this length, and not their own."""
    order = np.random.default_rng(0).permutation(len(frames))
    return frames[np.roll(order, 1) if (order == np.arange(len(frames))).all() else order]


def _frozen(frames: np.ndarray) -> np.ndarray:
    return np.repeat(frames[len(frames) // 2][None], len(frames), axis=0)


def _smaller(frames: np.ndarray) -> np.ndarray:
    """Shrink to three quarters of width and height, bicubic."""
    height, width = frames.shape[1:3]
    size = (max(1, width * 3 // 4), max(1, height * 3 // 4))
    return np.stack(
        [np.asarray(PIL.Image.fromarray(frame).resize(size, PIL.Image.Resampling.BICUBIC)) for frame in frames]
    )


def _encode(
    frames: np.ndarray,
    fps: int = _FPS,
    container: str = "mp4",
    codec: str = "libx264rgb",
    pix_fmt: str = "rgb24",
    options: dict[str, str] | None = None,
) -> bytes:
    """Encode frames, without loss unless `options` ask for it."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=Fraction(fps), options=options or {"qp": "0"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        for pixels in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        output.mux(stream.encode())
    return file.getvalue()


_FRAME_ORDERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "reversed": lambda frames: frames[::-1],
    "shuffled": _shuffled,
    "frozen": _frozen,
}
_ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "fps_doubled": lambda frames: _encode(np.repeat(frames, 2, axis=0), fps=2 * _FPS),
    "fps_halved": lambda frames: _encode(frames[::2], fps=_FPS // 2),
    "container": lambda frames: _encode(
        frames, container="matroska", codec="ffv1", pix_fmt="bgr0", options={"g": "1"}
    ),
    "compression": lambda frames: _encode(frames, codec="libx264", pix_fmt="yuv444p", options={"crf": "28"}),
    "resolution": lambda frames: _encode(_smaller(frames)),
}
VARIANTS = (*_FRAME_ORDERS, *_ENCODERS)
