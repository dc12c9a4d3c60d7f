"""Whether videos can be decoded, asked once for each file and remembered in the working folder."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from videorm_hf.models.videorm.video_decoding_videorm import VideoDecodingError, read_frames
from videorm_hf.scoring.decode_pool import decode_ahead, default_num_workers
from videorm_hf.videoprefer.json_lines import read_lines

CHECKS_FILE = "video_checks.jsonl"
_TIMEOUT = 120.0  # seconds; a file that takes longer is unreadable


class VideoChecks:
    """Decodes a frame from the middle of each video, in processes that may crash, and remembers the answer.

    A file is known by its path, size and time of change. The answers are appended to `video_checks.jsonl`, so that an
    interrupted run continues.

    Args:
        folder (`Path`): The working folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._failures: dict[int, str | None] = {}  # hash of a file's identity, to keep many of them small
        path = folder / CHECKS_FILE
        for line in read_lines(path) if path.is_file() else ():
            record = line.record or {}
            identity = (record.get("video"), record.get("size"), record.get("mtime_ns"))
            self._failures[hash(identity)] = record.get("failure")

    def __call__(self, video: Path) -> str | None:
        """Say why a video is unreadable.

        Args:
            video (`Path`): A file in the folder.

        Returns:
            `str`, *optional*: the reason; `None` for a video that can be decoded.
        """
        key = hash(self._identity(video))
        if key not in self._failures:
            self.run([video], num_workers=0, progress=False)
        return self._failures[key]

    def run(self, videos: Iterable[Path], num_workers: int | None = None, progress: bool = True) -> None:
        """Check the videos that were not checked before.

        Args:
            videos (`Iterable[Path]`): Files in the folder; those that do not exist are left out.
            num_workers (`int`, *optional*): Decoding processes; 0 for none, all cores but one by default.
            progress (`bool`, defaults to `True`): Show a progress bar.
        """
        unknown = [
            video for video in videos if os.path.isfile(video) and hash(self._identity(video)) not in self._failures
        ]
        if not unknown:
            return
        workers = default_num_workers() if num_workers is None else num_workers
        answers = decode_ahead(_one_pixel, map(str, unknown), workers, _TIMEOUT)
        bar = tqdm(answers, desc="checking videos", unit="video", total=len(unknown), disable=not progress or None)
        with (self.folder / CHECKS_FILE).open("a", encoding="utf-8") as file:
            for path, answer in zip(unknown, bar, strict=True):
                failure = f"{answer.reason}: {answer}" if isinstance(answer, VideoDecodingError) else None
                video, size, mtime_ns = identity = self._identity(path)
                self._failures[hash(identity)] = failure
                record = {"video": video, "size": size, "mtime_ns": mtime_ns, "failure": failure}
                file.write(json.dumps(record) + "\n")

    def _identity(self, video: Path) -> tuple[str, int, int]:
        status = os.stat(video)
        return os.path.relpath(video, self.folder), status.st_size, status.st_mtime_ns


def _one_pixel(video: str) -> np.ndarray:
    """Decode a frame and return little of it: what matters is that it can be done."""
    return read_frames(video, num_frames=1).frames[:, :1, :1]
