"""Frames as files: H.264 in MP4, which browsers play, and animated GIF, which TensorBoard's image tab plays.

Layout: frames_TCHW has axes time, channel, height, width.
"""

import io
import os
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image


def write_video(frames_TCHW: torch.Tensor, path: str | os.PathLike[str], fps: int = 8, scale: int = 1) -> Path:
    """Write one clip as H.264 in an MP4 file.

    Args:
        frames_TCHW (`torch.Tensor` of shape `(num_frames, 3, height, width)`):
            Floats in `[0, 1]`, clamped, or bytes.
        path (`str` or `os.PathLike`):
            The file; its folder is made if it does not exist.
        fps (`int`, defaults to `8`):
            Frames per second.
        scale (`int`, defaults to `1`):
            How many times each pixel is enlarged, so that tiny clips stay visible.

    Returns:
        `Path`: the written file.

    Raises:
        ValueError: If the frames have another rank, or a side that is odd after scaling, which H.264 cannot hold.
    """
    frames_THWC = _to_pictures(frames_TCHW).repeat(scale, axis=1).repeat(scale, axis=2)
    _, height, width, _ = frames_THWC.shape
    if height % 2 or width % 2:
        raise ValueError(f"H.264 needs even sides: got {height}x{width}. Enlarge the clip with scale=2.")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for frame_HWC in frames_THWC:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(stream.encode())
    return path


def encode_gif(frames_TCHW: torch.Tensor, fps: int = 8) -> bytes:
    """Encode one clip as an endless GIF.

    Args:
        frames_TCHW (`torch.Tensor` of shape `(num_frames, 3, height, width)`):
            Floats in `[0, 1]`, clamped, or bytes.
        fps (`int`, defaults to `8`):
            Frames per second.

    Returns:
        `bytes`: the file's content. Frames that are not of rank 4 with three channels are a `ValueError`.
    """
    first, *others = [Image.fromarray(frame_HWC) for frame_HWC in _to_pictures(frames_TCHW)]
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0)
    return buffer.getvalue()


def to_bytes(frames: torch.Tensor) -> torch.Tensor:
    """Round frames to the 256 levels that a file holds.

    Args:
        frames (`torch.Tensor`):
            Floats in `[0, 1]`, clamped, or bytes, which stay as they are.

    Returns:
        `torch.Tensor` of the same shape, uint8, without a graph.
    """
    return frames if frames.dtype == torch.uint8 else (frames.detach().float().clamp(0, 1) * 255).round().byte()


def _to_pictures(frames_TCHW: torch.Tensor) -> np.ndarray:
    """Return frames as uint8 of shape (T, H, W, 3)."""
    if frames_TCHW.ndim != 4 or frames_TCHW.shape[1] != 3:
        raise ValueError(f"frames must have shape (num_frames, 3, height, width): got {tuple(frames_TCHW.shape)}.")
    return to_bytes(frames_TCHW).permute(0, 2, 3, 1).cpu().numpy()
