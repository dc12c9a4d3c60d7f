"""The frames of a video that a judge sees, as JPEG files: the same moments that VIDEORM looks at."""

import io
import os
from collections.abc import Sequence

from PIL import Image

from videorm_hf.models.videorm.video_decoding_videorm import read_frames

_JPEG_QUALITY = 90


def jpeg_frames(video: str | os.PathLike[str], num_frames: int, frame_size: int) -> list[bytes]:
    """Decode frames spread over a video's time and encode them.

    A video that cannot be decoded is a [`VideoDecodingError`].

    Args:
        video (`str` or `os.PathLike`): A video file.
        num_frames (`int`): How many frames; a shorter video repeats some.
        frame_size (`int`): Longest side in pixels; larger frames are scaled down.

    Returns:
        `list[bytes]`: JPEG files in the order of time.
    """
    encoded = []
    for pixels in read_frames(video, num_frames).frames:
        image = Image.fromarray(pixels)
        image.thumbnail((frame_size, frame_size), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
        encoded.append(buffer.getvalue())
    return encoded


def jpeg_frames_of_all(videos: Sequence[str], num_frames: int, frame_size: int) -> list[list[bytes]]:
    """Encode the frames of several videos that are shown together; see [`jpeg_frames`]."""
    return [jpeg_frames(video, num_frames, frame_size) for video in videos]
