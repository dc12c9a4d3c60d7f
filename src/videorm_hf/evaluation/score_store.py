"""ScoreStore: the scores of one reward on disk, so that an interrupted evaluation goes on and nothing is scored twice.

A JSON Lines file: first the settings that the scores depend on, then a line a score, appended as they come. Scores are
kept by the content of the video, so files may be moved, and a file that changed is scored anew.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple


class ScoreKey(NamedTuple):
    """What a score is of.

    Args:
        video (`str`): SHA-256 of the file.
        prompt (`str`): The prompt.
        variant (`str`): `"original"`, or how the video was altered; see `variants.py`.
    """

    video: str
    prompt: str
    variant: str = "original"


@dataclass(frozen=True)
class Score:
    """A reward and what it cost.

    Args:
        reward (`float`): Finite.
        seconds (`float`): The video's share of the forward pass it was in; decoding is not counted.
    """

    reward: float
    seconds: float


class ScoreStore:
    """The scores of one reward under one setting, in a file or, without a path, in memory.

    Args:
        path (`str` or `os.PathLike`, *optional*): A `.jsonl` file, begun where it does not exist.
        settings (`dict`): What the scores depend on: the reward, its weights, the number of frames.

    Raises:
        ValueError: If the file was begun with other settings, or is no score file.
    """

    def __init__(self, path: str | os.PathLike[str] | None, settings: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.scores: dict[ScoreKey, Score] = {}
        if self.path is None:
            return
        if self.path.exists() and self.path.stat().st_size:
            self._read(self.path, settings)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")

    def add(self, scores: Iterable[tuple[ScoreKey, Score]]) -> None:
        """Keep scores; they survive whatever interrupts the evaluation afterwards."""
        new = dict(scores)
        self.scores |= new
        if self.path is not None and new:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(_line(key, score) for key, score in new.items())

    def _read(self, path: Path, settings: dict[str, Any]) -> None:
        """Read what is there, but for a last line that an interruption tore, which is cut off."""
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        header, *lines = whole.splitlines() or [b""]
        try:
            then = json.loads(header)["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no score file: its first line does not hold the settings.") from error
        changed = sorted(key for key in settings.keys() | then.keys() if settings.get(key) != then.get(key))
        if changed:
            differences = ", ".join(f"{key} was {then.get(key)!r}, is {settings.get(key)!r}" for key in changed)
            raise ValueError(
                f"{path} holds the scores of another reward or setting: {differences}. Choose another output "
                "folder, or delete the file."
            )
        for number, line in enumerate(lines, start=2):
            try:
                row = json.loads(line)
                key = ScoreKey(row["video"], row["prompt"], row["variant"])
                self.scores[key] = Score(float(row["reward"]), float(row["seconds"]))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number} is no score: {line[:100]!r}.") from error
        if len(whole) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))


def _line(key: ScoreKey, score: Score) -> str:
    return json.dumps(key._asdict() | asdict(score), ensure_ascii=False) + "\n"
