"""Whether videos can be decoded, asked once for each file and remembered in the working folder."""

import bisect
import itertools
import json
import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from videorm_hf.models.videorm.video_decoding_videorm import VideoDecodingError, read_frames
from videorm_hf.scoring.decode_pool import decode_ahead, default_num_workers
from videorm_hf.videoprefer.json_lines import read_lines, text_key

CHECKS_FILE = "video_checks.jsonl"
_TIMEOUT = 120.0  # seconds; a file that takes longer is unreadable
# What a busy or a full machine may be to blame for: asked again by the next run.
_PASSING = ("timeout", "decoder_crashed")


class VideoChecks:
    """Decodes a frame from the middle of each video, in processes that may crash, and remembers the answer.

    A file is known by its path, size and time of change. The answers are appended to `video_checks.jsonl`, so that an
    interrupted run continues.

    Args:
        folder (`Path`): The working folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._readable = array("q")  # keys of files, sorted: eight bytes a video
        self._failures: dict[int, str] = {}
        path = folder / CHECKS_FILE
        for line in read_lines(path) if path.is_file() else ():
            record = line.record or {}
            self._remember(
                _key(record.get("video"), record.get("size"), record.get("mtime_ns")), record.get("failure")
            )

    def __call__(self, video: str) -> str | None:
        """Say why a video is unreadable.

        Args:
            video (`str`): A file in the folder.

        Returns:
            `str`, *optional*: the reason; `None` for a video that can be decoded.
        """
        key = _key(*self._identity(video))
        if not self._is_known(key):
            self.run([video], num_workers=0, progress=False)
        return self._failures.get(key)

    def run(
        self,
        videos: Iterable[str],
        num_workers: int | None = None,
        progress: bool = True,
        num_videos: int | None = None,
    ) -> None:
        """Check the videos that were not checked before.

        Args:
            videos (`Iterable[str]`): Files in the folder; those that do not exist are left out.
            num_workers (`int`, *optional*): Decoding processes; 0 for none, all cores but one by default.
            progress (`bool`, defaults to `True`): Show a progress bar.
            num_videos (`int`, *optional*): How many videos there are, for the progress bar.
        """
        workers = default_num_workers() if num_workers is None else num_workers
        with tqdm(desc="checking videos", unit="video", total=num_videos, disable=not progress or None) as bar:
            unknown, same = itertools.tee(self._unknown(videos, bar))  # apart by the videos that are decoded ahead
            answers = decode_ahead(_one_pixel, same, workers, _TIMEOUT)
            for path, answer in zip(unknown, answers, strict=True):
                reason = answer.reason if isinstance(answer, VideoDecodingError) else None
                failure = None if reason is None else f"{reason}: {answer}"
                video, size, mtime_ns = self._identity(path)
                self._remember(_key(video, size, mtime_ns), failure)
                if reason not in _PASSING:
                    record = {"video": video, "size": size, "mtime_ns": mtime_ns, "failure": failure}
                    with (self.folder / CHECKS_FILE).open("a", encoding="utf-8") as file:
                        file.write(json.dumps(record) + "\n")
                bar.update()

    def _unknown(self, videos: Iterable[str], bar: tqdm) -> Iterator[str]:
        for video in videos:
            if os.path.isfile(video) and not self._is_known(_key(*self._identity(video))):
                yield video
            else:
                bar.update()

    def _remember(self, key: int, failure: str | None) -> None:
        if failure is None:
            bisect.insort(self._readable, key)
        else:
            self._failures[key] = failure

    def _is_known(self, key: int) -> bool:
        place = bisect.bisect_left(self._readable, key)
        return key in self._failures or (place < len(self._readable) and self._readable[place] == key)

    def _identity(self, video: str) -> tuple[str, int, int]:
        status = os.stat(video)
        return os.path.relpath(video, self.folder), status.st_size, status.st_mtime_ns


def _key(video: str | None, size: int | None, mtime_ns: int | None) -> int:
    return text_key(f"{video}\0{size}\0{mtime_ns}")


def _one_pixel(video: str) -> np.ndarray:
    """Decode a frame and return little of it: what matters is that it can be done."""
    return read_frames(video, num_frames=1).frames[:, :1, :1]
