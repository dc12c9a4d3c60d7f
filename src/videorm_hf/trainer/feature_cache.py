"""FeatureCache: what frozen towers say of videos and prompts, computed once and memory-mapped from disk.

The folder says in `settings.json` what its features depend on (weights, preprocessing, frame times); another model is
refused. Each process appends to a part of its own: numbers to `<kind>-<process>.f32`, then a line for each row to
`<kind>-<process>.jsonl`, so that an interrupted computation goes on and loses nothing.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

SETTINGS_NAME = "settings.json"


class FeatureStore:
    """Rows of one shape under keys, in parts that grow.

    Args:
        folder (`Path`):
            Where the parts are.
        kind (`str`):
            Their first name.
        shape (`tuple[int, ...]`):
            Of a row.
    """

    def __init__(self, folder: Path, kind: str, shape: tuple[int, ...]) -> None:
        self.folder = folder
        self.kind = kind
        self.shape = shape
        self._places: dict[str, tuple[Path, int]] = {}
        self._maps: dict[Path, np.ndarray] = {}
        self.refresh()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __getstate__(self) -> dict[str, Any]:
        # A memory map would travel to a dataloader's worker with its whole content.
        return {**self.__dict__, "_maps": {}}

    def refresh(self) -> None:
        """Read which rows there are, also those that other processes wrote."""
        self._maps = {}
        self._places = {
            key: (part, row)
            for part in sorted(self.folder.glob(f"{self.kind}-*.f32"))
            for row, key in enumerate(self._keys(part))
        }

    def get(self, key: str) -> torch.Tensor:
        """Return a row, a copy in memory.

        Args:
            key (`str`): One that is there.

        Returns:
            `torch.FloatTensor`: of the store's shape.
        """
        part, row = self._places[key]
        if part not in self._maps:
            # Without what a killed process may have left half-written at the end.
            num_rows = part.stat().st_size // self._row_bytes()
            self._maps[part] = np.memmap(part, dtype=np.float32, mode="r", shape=(num_rows, *self.shape))
        return torch.from_numpy(self._maps[part][row].copy())

    def append(self, process: int, keys: Sequence[str], rows: torch.Tensor) -> None:
        """Add rows to the part of a process that holds its lock; [`FeatureStore.refresh`] makes them readable.

        Args:
            process (`int`): Whose part.
            keys (`Sequence[str]`): Of the rows.
            rows (`torch.FloatTensor` of shape `(num_keys, *shape)`): Finite numbers.

        Raises:
            ValueError: If rows have another shape, or hold numbers that are not finite.
        """
        if tuple(rows.shape) != (len(keys), *self.shape) or not rows.isfinite().all():
            raise ValueError(
                f"Features must be finite, of shape {(len(keys), *self.shape)}: got {tuple(rows.shape)}, "
                f"{int((~rows.isfinite()).sum())} numbers not finite. Try a wider dtype."
            )
        part = self.folder / f"{self.kind}-{process:05d}.f32"
        with open(part, "ab") as file:
            file.write(rows.float().cpu().contiguous().numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())
        with open(part.with_suffix(".jsonl"), "a", encoding="utf-8") as index:
            index.write("".join(json.dumps(key) + "\n" for key in keys))

    def mend(self, process: int) -> None:
        """Cut off what a killed process left half-written in its part.

        Args:
            process (`int`): Whose part.
        """
        part = self.folder / f"{self.kind}-{process:05d}.f32"
        if part.exists():
            keys = self._keys(part)
            part.with_suffix(".jsonl").write_text("".join(json.dumps(key) + "\n" for key in keys), encoding="utf-8")
            os.truncate(part, len(keys) * self._row_bytes())

    def _row_bytes(self) -> int:
        return 4 * int(np.prod(self.shape))

    def _keys(self, part: Path) -> list[str]:
        """Return the keys of a part's whole rows."""
        index = part.with_suffix(".jsonl")
        if not index.exists() or not part.exists():
            return []
        lines = index.read_bytes().split(b"\n")[:-1]  # what follows the last line break was cut short
        return [json.loads(line) for line in lines[: part.stat().st_size // self._row_bytes()]]


class FeatureCache:
    """Features of videos and prompts under settings that must stay the same.

    Args:
        folder (`str` or `os.PathLike`):
            Made where there is none.
        settings (`dict[str, Any]`):
            What the features depend on, as JSON can hold it.
        frame_shape (`tuple[int, int]`):
            `(num_frames, dim)` of a video's features.

    Raises:
        ValueError: If the folder holds features made with other settings.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: dict[str, Any], frame_shape: tuple[int, int]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / SETTINGS_NAME
        settings = json.loads(json.dumps(settings, sort_keys=True))
        with FileLock(self.folder / "settings.lock"):
            if not file.exists():
                if any(self.folder.glob("*.f32")):
                    raise ValueError(f"{folder} holds features but no {SETTINGS_NAME}: delete it or name another.")
                partial = file.with_suffix(".partial")
                partial.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
                partial.replace(file)
        found = json.loads(file.read_text(encoding="utf-8"))
        if found != settings:
            names = sorted(name for name in {*found, *settings} if found.get(name) != settings.get(name))
            raise ValueError(
                f"The features in {folder} are stale: they were computed with other {', '.join(names)}. Delete the "
                "folder, or name another with feature_cache_dir."
            )
        self.frames = FeatureStore(self.folder, "frames", frame_shape)
        self.prompts = FeatureStore(self.folder, "prompts", frame_shape[1:])

    def lock(self, process: int) -> FileLock:
        """Claim a process's part, whatever an earlier owner left half-written mended.

        Args:
            process (`int`): Its number.

        Returns:
            `FileLock`: held; release it.

        Raises:
            ValueError: If another run is writing it.
        """
        lock = FileLock(self.folder / f"process-{process:05d}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(
                f"Another run is computing features in {self.folder}: wait for its end, or set feature_cache_dir."
            ) from error
        self.frames.mend(process)
        self.prompts.mend(process)
        return lock

    def refresh(self) -> None:
        """Read what all processes wrote."""
        self.frames.refresh()
        self.prompts.refresh()


def video_key(video: Any) -> str:
    """Return what tells a video from every other: a file by path, size and time of change, others by their content.

    Args:
        video (`Any`):
            In any form that [`VideoRMVideoProcessor`] takes.

    Returns:
        `str`: equal for equal videos; a file that is not there has a key too.

    Raises:
        TypeError: If it is of a form that has no content to hash, such as a list of images.
    """
    if isinstance(video, dict):
        video = video["bytes"] if video.get("bytes") is not None else video["path"]
    if isinstance(video, str | os.PathLike):
        path = os.path.realpath(video)
        if not os.path.exists(path):
            return f"{path} (missing)"
        status = os.stat(path)
        return f"{path} {status.st_size} {status.st_mtime_ns}"
    if isinstance(video, bytes):
        return hashlib.sha256(video).hexdigest()
    if isinstance(video, torch.Tensor | np.ndarray):
        array = np.ascontiguousarray(video)
        return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).hexdigest()
    raise TypeError(f"cache_features=True takes files, bytes, arrays and tensors: got a {type(video).__name__}.")
