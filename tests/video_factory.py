"""Video files written with PyAV for the tests: odd ones, broken ones, and ones whose every frame can be told apart."""

import io
import struct
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def numbered_frames(total: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames `(total, height, width, 3)` whose number is written in grey bars, robust to compression."""
    bits = (np.arange(total)[:, None] >> np.arange(8)) & 1
    bars = np.repeat(bits, width // 8, axis=1)[:, None, :, None]
    frames = np.where(bars, 220, 40).astype(np.uint8)
    return np.broadcast_to(frames, (total, height, width // 8 * 8, 3)).copy()


def read_numbers(frames: np.ndarray) -> list[int]:
    """Read back the numbers of `numbered_frames`."""
    bars = frames[..., 0].astype(float).mean(axis=1).reshape(len(frames), 8, -1).mean(axis=2) > 130
    return (bars * (1 << np.arange(8))).sum(axis=1).tolist()


def write_video(
    path: str | Path | io.BytesIO,
    frames: np.ndarray,
    fps: Fraction | float = 30,
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    source_format: str = "rgb24",
    times: list[int] | None = None,
    time_base: Fraction | None = None,
    container: str | None = None,
    faststart: bool = False,
    options: dict[str, str] | None = None,
) -> None:
    """Encode frames `(T, H, W, C)`; `times`, in units of `time_base`, give a variable frame rate."""
    rate = Fraction(fps).limit_denominator(1001)
    muxer = {"movflags": "+faststart"} if faststart else {}
    with av.open(path, "w", format=container, options=muxer) as output:
        stream = output.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        if time_base is not None:
            stream.time_base = stream.codec_context.time_base = time_base
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=source_format)
            frame.pts = index if times is None else times[index]
            frame.time_base = time_base or 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def rotate_mp4(path: Path, degrees: int) -> None:
    """Say in an MP4's track header that players must turn it, counterclockwise, by 90, 180 or -90 degrees."""
    a, b, c, d = {90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), -90: (0, 1, -1, 0)}[degrees]
    content = path.read_bytes()
    header, one = content.index(b"tkhd"), 1 << 16
    upright = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:header] + content[header:].replace(upright, turned, 1))


def write_sound(path: Path, seconds: float = 0.2) -> None:
    """Write a WAV file of silence."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(int(16000 * seconds)))


def write_video_without_frames(path: Path) -> None:
    """Write a file that announces a video stream and holds not one frame."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()


def cut(source: Path, target: Path, share: float) -> Path:
    """Copy the first part of a file."""
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target
