"""Frames as files: H.264 in MP4, which browsers play, GIF, which TensorBoard's image tab plays, and cuts of videos.

Layout: frames_TCHW has axes time, channel, height, width.
"""

import errno
import io
import os
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from videorm_hf.models.videorm.video_decoding_videorm import VIDEO_FORMATS, upright

# Where a clip cannot be written, which says nothing about the video that it is cut from.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


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
            Frames that are no tensor are a `TypeError`.
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


def cut_clip(source: str | os.PathLike[str], target: str | os.PathLike[str], start: float, end: float) -> Path:
    """Write a part of a video as H.264 in an MP4 file, to the frame, with the frames' own times and without sound.

    The file appears when it is complete. Sides are cropped by a pixel where they are odd.

    Args:
        source (`str` or `os.PathLike`):
            The video.
        target (`str` or `os.PathLike`):
            The MP4 file to write; its folder is made if it does not exist.
        start (`float`):
            Seconds from the beginning; the first frame is the one on screen then or the next one.
        end (`float`):
            Seconds from the beginning, exclusive.

    Returns:
        `Path`: the written file.

    Raises:
        ValueError: If the source cannot be decoded, or has no frame in this part. A target that cannot be written is
            an `OSError`.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.stem}.unfinished.mp4")
    try:
        # The prefix keeps a colon in a file name from being read as a protocol.
        video = av.open(f"file:{os.fspath(source)}", container_options={"format_whitelist": VIDEO_FORMATS})
        with video, av.open(unfinished, "w") as clip:
            num_frames = _copy_frames(video, clip, start, end)
    except (av.FFmpegError, IndexError) as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise
        raise ValueError(f"{os.fspath(source)} cannot be cut: {error}") from error
    if num_frames == 0:
        unfinished.unlink(missing_ok=True)
        raise ValueError(f"{os.fspath(source)} has no frame from {start:g} s to {end:g} s")
    os.replace(unfinished, target)
    return target


def _copy_frames(
    video: av.container.InputContainer, clip: av.container.OutputContainer, start: float, end: float
) -> int:
    """Encode the frames of a part; return how many there are."""
    stream = video.streams.video[0]
    time_base = stream.time_base
    if time_base is None:
        raise IndexError("the video stream has no times")
    zero = stream.start_time or 0
    video.seek(zero + int(start / time_base), stream=stream, backward=True)
    encoder: av.VideoStream | None = None
    first, num_frames = 0, 0
    for frame in video.decode(stream):
        if frame.pts is None or float((frame.pts - zero) * time_base) < start:
            continue
        if float((frame.pts - zero) * time_base) >= end:
            break
        shown = _as_shown(frame)
        if encoder is None:
            encoder = clip.add_stream("libx264", rate=stream.average_rate or 25, options={"crf": "18"})
            encoder.width, encoder.height = shown.width, shown.height
            encoder.pix_fmt, encoder.time_base = "yuv420p", time_base
            encoder.codec_context.time_base, first = time_base, frame.pts
        shown.pts, shown.time_base, shown.pict_type = frame.pts - first, time_base, av.video.frame.PictureType.NONE
        clip.mux(encoder.encode(shown))
        num_frames += 1
    if encoder is not None:
        clip.mux(encoder.encode())
    return num_frames


def _as_shown(frame: av.VideoFrame) -> av.VideoFrame:
    """Return a frame upright, in H.264's usual format; odd sides lose a pixel instead of being scaled."""
    if frame.width % 2 == 0 and frame.height % 2 == 0 and frame.side_data.get("DISPLAYMATRIX") is None:
        return frame.reformat(format="yuv420p")
    pixels = upright(frame.to_ndarray(format="rgb24"), frame)
    even = np.ascontiguousarray(pixels[: len(pixels) // 2 * 2, : pixels.shape[1] // 2 * 2])
    return av.VideoFrame.from_ndarray(even, format="rgb24").reformat(format="yuv420p")


def encode_gif(frames_TCHW: torch.Tensor, fps: int = 8) -> bytes:
    """Encode one clip as an endless GIF.

    Args:
        frames_TCHW (`torch.Tensor` of shape `(num_frames, 3, height, width)`):
            Floats in `[0, 1]`, clamped, or bytes.
        fps (`int`, defaults to `8`):
            Frames per second.

    Returns:
        `bytes`: the file's content. Frames that are no tensor are a `TypeError`, those that are not of rank 4 with
        three channels a `ValueError`.
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
    if not isinstance(frames_TCHW, torch.Tensor):
        raise TypeError(
            f"frames must be a torch.Tensor (num_frames, 3, height, width): got {type(frames_TCHW).__name__}. "
            "Give torch.from_numpy(frames), with .permute(0, 3, 1, 2) if channels are last."
        )
    if frames_TCHW.ndim != 4 or frames_TCHW.shape[1] != 3:
        raise ValueError(f"frames must have shape (num_frames, 3, height, width): got {tuple(frames_TCHW.shape)}.")
    return to_bytes(frames_TCHW).permute(0, 2, 3, 1).cpu().numpy()
