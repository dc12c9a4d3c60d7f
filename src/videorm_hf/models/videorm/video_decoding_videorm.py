"""Frames of a video file: which ones a reward looks at, and how to decode those and no others.

A clip is sampled by time: it is cut into `num_frames` equal parts and the frame on screen at the middle of each part
is taken. The packets are listed once without decoding (their timestamps and keyframes), then each wanted frame is
decoded from the keyframe before it. Imports numpy and PyAV only, so that the file also works as remote code.
"""

import io
import itertools
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, Literal

import numpy as np

try:
    import av
except ImportError:  # decoded clips (arrays, tensors, PIL frames) need no reader
    av = None  # type: ignore[assignment]


DecodingFailure = Literal[
    "missing",  # no file at that path
    "unreadable",  # a folder, or no permission
    "empty",  # zero bytes
    "not_a_video",  # no known video format: text, a still image, a playlist, noise
    "no_video_stream",  # audio only; a cover picture does not count
    "no_frames",  # a video stream that holds not one frame
    "truncated",  # the container announces more than the file holds
    "decode_error",  # the codec is unknown or the pictures are damaged
    "decoder_crashed",  # the decoding process died (set by the decoding pool)
    "timeout",  # decoding took longer than allowed (set by the decoding pool)
]


class VideoDecodingError(ValueError):
    """A video that cannot be scored, with a `reason` that programs can count.

    Args:
        reason (`str`): One of `DecodingFailure`.
        message (`str`): What was found, for a person.
    """

    def __init__(self, reason: DecodingFailure, message: str) -> None:
        super().__init__(message)
        self.reason: DecodingFailure = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # crosses process borders with its reason
        return type(self), (self.reason, str(self))


@dataclass(frozen=True)
class DecodedFrames:
    """The sampled frames of one video file.

    Args:
        frames (`np.ndarray` of shape `(num_frames, height, width, 3)`): RGB, `uint8`, upright, alpha laid on white.
        timestamps (`np.ndarray` of shape `(num_frames,)`): `float64` seconds; NaN where the file has no timestamps.
        num_decoded (`int`): How many packets the decoder was given to get there.
    """

    frames: np.ndarray
    timestamps: np.ndarray
    num_decoded: int


def uniform_indices(total: int, num_frames: int) -> np.ndarray:
    """Choose the middle of each of `num_frames` equal parts of `total` frames.

    Index i is floor((i + 1/2) * total / num_frames), in whole numbers; a clip shorter than `num_frames` repeats.

    Args:
        total (`int`): Number of frames there are.
        num_frames (`int`): Number of frames wanted.
    Returns:
        `np.ndarray` of shape `(num_frames,)`: `int64`, ascending.
    Raises:
        ValueError: If either number is below one.
    """
    if total < 1 or num_frames < 1:
        raise ValueError(f"total and num_frames must be at least 1, got {total} and {num_frames}")
    return (2 * np.arange(num_frames, dtype=np.int64) + 1) * total // (2 * num_frames)


def time_indices(times: np.ndarray, durations: np.ndarray, num_frames: int, tolerance: int = 1) -> np.ndarray:
    """Choose the frames on screen at the middles of `num_frames` equal parts of a clip's time.

    Where the times form a regular grid (up to the container's rounding), this is exactly `uniform_indices`, so that a
    container's claimed frame rate and rounding cannot change the choice.

    Args:
        times (`np.ndarray` of shape `(total,)`): Integer presentation times, strictly ascending.
        durations (`np.ndarray` of shape `(total,)`): Integer durations in the same unit, 0 where unknown.
        num_frames (`int`): Number of frames wanted.
        tolerance (`int`): How far rounding may have moved a time.
    Returns:
        `np.ndarray` of shape `(num_frames,)`: `int64`, ascending.
    """
    total = len(times)
    if total == 1:
        return uniform_indices(1, num_frames)
    gap = int(np.median(np.diff(times)))
    # A last frame is held for its own duration; one equal to all others' is the container's claim, not a measurement.
    last = int(durations[-1])
    held = last > 0 and abs(last - int(np.median(durations))) > tolerance
    end = int(times[-1]) + (last if held else gap)

    step = float(times[-1] - times[0]) / (total - 1)
    deviation = np.abs(times - times[0] - step * np.arange(total)).max()
    allowed = tolerance if step >= 2 * tolerance else 1e-6
    if deviation <= allowed + 1e-6 and end - times[-1] <= step + 2 * tolerance:
        return uniform_indices(total, num_frames)
    middles = (2 * np.arange(num_frames, dtype=np.int64) + 1) * (end - int(times[0]))
    return np.searchsorted((times - times[0]) * 2 * num_frames, middles, side="right") - 1


def read_frames(source: str | os.PathLike[str] | bytes | BinaryIO, num_frames: int) -> DecodedFrames:
    """Decode `num_frames` frames of a video file, sampled uniformly by time, and as few others as possible.

    A video that cannot be decoded is a [`VideoDecodingError`], whose `reason` names the cause.

    Args:
        source (`str`, `os.PathLike`, `bytes` or a seekable binary file): The video, a local path or its content.
        num_frames (`int`): Number of frames wanted; a shorter clip repeats frames.
    Returns:
        [`DecodedFrames`]: RGB frames in the order of time.
    Raises:
        ImportError: If PyAV is not installed.
        ValueError: If `num_frames` is below one.
    """
    if av is None:
        raise ImportError("Reading video files needs PyAV: pip install av. Decoded frames can be given without it.")
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    target = _checked_source(source)
    with _opened(target) as (container, stream):
        packets = _list_packets(container, stream)
        # AVI stores no presentation times; those that FFmpeg makes up are wrong where pictures are reordered.
        is_timed = not (container.format.name == "avi" and stream.codec_context.has_b_frames)
    times = [packet.pts for packet in packets]
    if is_timed and None not in times and len(set(times)) == len(times):
        return _read_by_time(target, packets, num_frames)
    return _read_in_order(target, num_frames)


# --- Opening -------------------------------------------------------------------------------------------------------

# Of one picture: twice those of 8K. A file of a few bytes can claim more than any memory holds.
MAX_PIXELS = 2**26
# Stills, text and playlists; these FFmpeg must not even open, for it would open the files that they name.
_NOT_VIDEO_FORMATS = ("image2", "tty", "hls", "dash", "concat", "imf", "ico")
VIDEO_FORMATS = ",".join(
    name
    for name in sorted(av.formats_available if av is not None else ())
    if name not in _NOT_VIDEO_FORMATS and not name.endswith("_pipe")
)


def _checked_source(source: str | os.PathLike[str] | bytes | BinaryIO) -> str | BinaryIO:
    """Return a path or a binary file that holds at least a byte and is not cut short."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise VideoDecodingError("unreadable", f"{path!r} is not a regular file")
            with open(path, "rb") as opened:
                _check_content(opened, repr(path))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise VideoDecodingError("missing", f"no file at {path!r}") from error
        except OSError as error:
            raise VideoDecodingError("unreadable", f"cannot read {path!r}: {error}") from error
        return path
    file = io.BytesIO(source) if isinstance(source, (bytes, bytearray, memoryview)) else source
    _check_content(file, "the given bytes")
    return file


def _check_content(file: BinaryIO, name: str) -> None:
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise VideoDecodingError("empty", f"{name} holds no data")
    if _is_cut_short(file, size):
        raise VideoDecodingError("truncated", f"{name} ends before its container does; fetch or write it again")
    file.seek(0)


@contextmanager
def _opened(target: str | BinaryIO) -> Iterator[tuple[Any, Any]]:
    """Open a container and its video stream; FFmpeg's errors leave as `VideoDecodingError`."""
    name = repr(target) if isinstance(target, str) else "the given bytes"
    if not isinstance(target, str):
        target.seek(0)
    try:
        # The prefix keeps a colon in a file name from being read as a protocol.
        where = f"file:{target}" if isinstance(target, str) else target
        container = av.open(where, container_options={"format_whitelist": VIDEO_FORMATS})
    except av.EOFError as error:
        raise VideoDecodingError("no_frames", f"{name} holds nothing but a header") from error
    except (av.FFmpegError, ValueError) as error:
        raise VideoDecodingError("not_a_video", f"{name} is not a video FFmpeg can open: {error}") from error
    with container:
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not container.streams:
            raise VideoDecodingError("no_frames", f"{name} holds nothing but a header")
        if not streams:
            raise VideoDecodingError("no_video_stream", f"{name} has no video stream")
        width, height = streams[0].width, streams[0].height
        if width * height > MAX_PIXELS:
            raise VideoDecodingError("decode_error", f"{name} has pictures of {width} x {height}, too large to read")
        try:
            yield container, streams[0]
        except av.FFmpegError as error:
            raise VideoDecodingError("decode_error", f"{name} is damaged: {error}") from error


# --- Choosing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Packet:
    pts: int | None
    dts: int | None
    duration: int
    is_keyframe: bool
    is_shown: bool


def _stream_packets(container: Any, stream: Any) -> Iterator[Any]:
    """Yield the stream's packets in decoding order, without the empty one that ends a stream."""
    with closing(container.demux(stream)) as packets:  # PyAV leaks a packet of a walk that is only dropped half-way
        yield from (packet for packet in packets if packet.size)


def _list_packets(container: Any, stream: Any) -> list[_Packet]:
    """List the stream's packets in decoding order."""
    packets, is_corrupt = [], False
    is_vp8 = stream.codec_context.name == "vp8"
    for packet in _stream_packets(container, stream):
        # VP8 keeps references that are never shown in packets of their own: bit 4 of the first byte says so.
        is_hidden = packet.is_discard or (is_vp8 and not bytes(packet)[0] & 0x10)
        packets.append(
            _Packet(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, is_shown=not is_hidden)
        )
        is_corrupt = packet.is_corrupt
    if not any(packet.is_shown for packet in packets):
        raise VideoDecodingError("no_frames", "the video stream holds no frame")
    if is_corrupt:
        raise VideoDecodingError("truncated", "the last frame is incomplete: the file was cut short")
    return packets


@dataclass(frozen=True)
class _Run:
    """Packets `start` to `stop`, both included, and the times of the frames they are decoded for."""

    start: int
    stop: int
    times: tuple[int, ...]


def _read_by_time(target: str | BinaryIO, packets: list[_Packet], num_frames: int) -> DecodedFrames:
    """Decode the frames sampled by time, each from the keyframe before it."""
    shown = sorted((packet.pts, packet.duration) for packet in packets if packet.is_shown)
    times, durations = np.array(shown, dtype=np.int64).T
    with _opened(target) as (container, stream):
        time_base = Fraction(stream.time_base)
        # Only where times are stored with the packets: after a seek, an MPEG stream gives others than before.
        can_seek = not {"mov", "matroska", "avi"}.isdisjoint(container.format.name.split(","))
    tolerance = max(1, int(Fraction(1, 1000) / time_base))  # one tick, or the millisecond of a Matroska ancestor
    wanted = times[time_indices(times, durations, num_frames, tolerance)]

    unique, inverse = np.unique(wanted, return_inverse=True)
    runs = _plan_runs(packets, unique.tolist())
    whole = [_Run(0, runs[-1].stop, tuple(unique.tolist()))]
    num_decoded = 0
    # Seek; where that fails, read past what is not needed; where a keyframe does not stand alone (a recovery point),
    # decode from the start.
    for plan, is_seeking in ([(runs, True)] if can_seek else []) + [(runs, False), (whole, False)]:
        frames = _decode_runs(target, packets, plan, is_seeking)
        num_decoded += sum(run.stop - run.start + 1 for run in plan)
        if frames is not None:
            return DecodedFrames(_stacked(frames)[inverse], wanted * float(time_base), num_decoded)
    raise VideoDecodingError("decode_error", "the decoder reports damage in a frame that is needed")


def _plan_runs(packets: list[_Packet], times: list[int]) -> list[_Run]:
    """Return the runs of packets that must be decoded to show the frames at the given ascending times."""
    position = {packet.pts: index for index, packet in enumerate(packets)}
    keyframes = sorted((packet.pts, index) for index, packet in enumerate(packets) if packet.is_keyframe)
    key_times = np.array([pts for pts, _ in keyframes], dtype=np.int64)
    runs: list[_Run] = []
    for time in times:
        # By time, not by position: pictures shown before a keyframe may need the group of pictures before it.
        key = int(np.searchsorted(key_times, time, side="right")) - 1
        run = _Run(keyframes[key][1] if key >= 0 else 0, position[time], (time,))
        if runs and run.start <= runs[-1].stop + 1:
            last = runs.pop()
            run = _Run(last.start, max(last.stop, run.stop), (*last.times, time))
        runs.append(run)
    return runs


# --- Decoding ------------------------------------------------------------------------------------------------------


def _decode_runs(
    target: str | BinaryIO, packets: list[_Packet], runs: list[_Run], is_seeking: bool
) -> list[np.ndarray] | None:
    """Return the runs' frames in RGB, or None where this way of reading does not give all of them undamaged."""
    frames: list[np.ndarray] = []
    with _opened(target) as (container, stream):
        decoder = _decoder(stream)
        walk = _stream_packets(container, stream)
        position = 0
        for run in runs:
            if is_seeking and run.start > position:
                found = _seek(container, stream, packets, run.start)
                if found is None:
                    return None
                walk, position = found
            feed = itertools.islice(walk, run.start - position, run.stop - position + 1)
            found_frames = _decode_run(decoder, feed, run.times)
            if found_frames is None:
                return None
            frames.extend(found_frames)
            decoder.flush_buffers()
            position = run.stop + 1
    return frames


def _seek(container: Any, stream: Any, packets: list[_Packet], start: int) -> tuple[Iterator[Any], int] | None:
    """Move to packet `start` or a little before; return the packets from there and the first one's position."""
    if packets[start].dts is None:
        return None
    try:
        container.seek(packets[start].dts, stream=stream)
        walk = _stream_packets(container, stream)
        first = next(walk, None)
    except av.FFmpegError:
        return None
    position = next((i for i in range(start, -1, -1) if first is not None and packets[i].pts == first.pts), None)
    return None if position is None else (itertools.chain([first], walk), position)


def _decode_run(decoder: Any, packets: Iterable[Any], times: tuple[int, ...]) -> list[np.ndarray] | None:
    """Decode packets and return the RGB frames on screen at the given times, None if one is missing or damaged."""
    kept: list[np.ndarray] = []
    on_screen = None
    for packet in itertools.chain(packets, [None]):  # None drains the decoder
        for frame in decoder.decode(packet):
            if frame.pts is None:
                return None
            while len(kept) < len(times) and frame.pts > times[len(kept)]:
                if on_screen is None or on_screen.is_corrupt:
                    return None
                kept.append(_to_rgb(on_screen))
            on_screen = frame
    while len(kept) < len(times):
        if on_screen is None or on_screen.is_corrupt:
            return None
        kept.append(_to_rgb(on_screen))
    return kept


def _read_in_order(target: str | BinaryIO, num_frames: int) -> DecodedFrames:
    """Decode a stream without timestamps from its start: once to count the frames, once to keep the sampled ones."""
    with _opened(target) as (container, stream):
        total = sum(1 for _ in _all_frames(container, stream))
    if total == 0:
        raise VideoDecodingError("no_frames", "the decoder gives no frame")
    wanted = uniform_indices(total, num_frames)
    unique, inverse = np.unique(wanted, return_inverse=True)
    needed = set(unique.tolist())
    with _opened(target) as (container, stream):
        frames = [_to_rgb(frame) for index, frame in enumerate(_all_frames(container, stream)) if index in needed]
    return DecodedFrames(_stacked(frames)[inverse], np.full(num_frames, np.nan), 2 * total)


def _all_frames(container: Any, stream: Any) -> Iterator[Any]:
    decoder = _decoder(stream)
    for packet in itertools.chain(_stream_packets(container, stream), [None]):
        yield from decoder.decode(packet)


def _decoder(stream: Any) -> Any:
    """Return the stream's decoder, which for VP9 with transparency is not FFmpeg's default one."""
    context = stream.codec_context
    if context is None:
        raise VideoDecodingError("decode_error", "FFmpeg has no decoder for this video's codec")
    alpha_mode = stream.metadata.get("alpha_mode") or stream.metadata.get("ALPHA_MODE")
    if context.name == "vp9" and alpha_mode == "1" and "libvpx-vp9" in av.codecs_available:
        return av.CodecContext.create("libvpx-vp9", "r")
    context.thread_count = 1  # clips are decoded side by side; threads inside one would only decode further ahead
    return context


# --- Pixels --------------------------------------------------------------------------------------------------------


def _stacked(frames: list[np.ndarray]) -> np.ndarray:
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) > 1:
        raise VideoDecodingError("decode_error", f"the frame size changes within the video: {sizes}")
    return np.stack(frames)


def _to_rgb(frame: Any) -> np.ndarray:
    """Convert a decoded frame to upright RGB of shape `(height, width, 3)`, `uint8`, alpha laid on white."""
    has_alpha = frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)
    arguments: dict[str, Any] = {"format": "rgba" if has_alpha else "rgb24", "interpolation": "BICUBIC"}
    if frame.format.name.startswith("yuv") or frame.format.name.startswith(("nv", "p0")):
        # Said outright: PyAV before 17 ignores the frame's own matrix and range.
        is_full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
        arguments |= {"src_color_range": 2 if is_full else 1, "dst_color_range": 2}
        arguments |= {"src_colorspace": frame.colorspace, "dst_colorspace": 0}
    pixels = frame.reformat(**arguments).to_ndarray()
    if has_alpha:
        alpha = pixels[..., 3:].astype(np.uint16)
        pixels = ((pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return upright(pixels, frame)


def upright(pixels: np.ndarray, frame: Any) -> np.ndarray:
    """Apply the quarter turns and flips of the frame's display matrix.

    Args:
        pixels (`np.ndarray` of shape `(height, width, ...)`):
            As they are stored.
        frame (`av.VideoFrame`):
            Where they come from.

    Returns:
        `np.ndarray`: as they are shown; a turn by a quarter exchanges height and width.
    """
    side = frame.side_data.get("DISPLAYMATRIX")
    if side is None:
        return pixels
    # Rows (a, b, u), (c, d, v), (x, y, w): a pixel at (p, q) is shown at (a p + c q + x, b p + d q + y).
    a, b, _, c, d = np.frombuffer(bytes(side), dtype=np.int32)[:5].tolist()
    is_turned = abs(b) > abs(a)
    if is_turned:
        pixels = pixels.swapaxes(0, 1)
    row_sign, column_sign = (b, c) if is_turned else (d, a)
    return pixels[:: -1 if row_sign < 0 else 1, :: -1 if column_sign < 0 else 1]


# --- Is the file all there? ------------------------------------------------------------------------------------------

_MP4_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"uuid", b"meta", b"sidx"}


def _is_cut_short(file: BinaryIO, size: int) -> bool:
    """Tell whether the container announces more bytes than the file holds (MP4, Matroska, AVI and GIF do)."""
    file.seek(0)
    start = file.read(64)
    if start[4:8] in _MP4_BOXES:
        return _is_cut_mp4(file, size)
    if start.startswith(b"\x1aE\xdf\xa3"):
        return _is_cut_matroska(start, size)
    if start.startswith(b"RIFF") and start[8:12] == b"AVI ":
        return int.from_bytes(start[4:8], "little") + 8 > size
    if start.startswith((b"GIF87a", b"GIF89a")):
        file.seek(max(0, size - 64))
        return not file.read().rstrip(b"\0").endswith(b";")
    return False


def _is_cut_mp4(file: BinaryIO, size: int) -> bool:
    """Walk the top-level boxes: one that runs past the end, or no index at all, means a cut file."""
    position, has_index = 0, False
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        kind, length = header[4:8], int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        has_index |= kind in (b"moov", b"meta")
        if length == 0:  # the last box, which reaches to the end
            break
        if length < 8 or position + length > size:
            if kind in _MP4_BOXES:
                return True
            break  # not a box: bytes that another program appended
        position += length
    return not has_index


def _is_cut_matroska(start: bytes, size: int) -> bool:
    """Compare the size of the segment, the element after the EBML header, with what is left of the file."""
    header_size, body = _ebml_size(start, 4)
    segment = body + header_size
    if header_size < 0 or start[segment : segment + 4] != b"\x18\x53\x80\x67":
        return False
    segment_size, body = _ebml_size(start, segment + 4)
    return segment_size >= 0 and body + segment_size > size


def _ebml_size(data: bytes, position: int) -> tuple[int, int]:
    """Read an EBML length; return it (-1 if unknown) and the position after it."""
    if position >= len(data) or data[position] == 0:
        return -1, position
    width = 9 - data[position].bit_length()
    value = int.from_bytes(data[position : position + width], "big") & ((1 << 7 * width) - 1)
    return (-1 if value == (1 << 7 * width) - 1 else value), position + width
