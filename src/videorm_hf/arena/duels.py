"""Duel: two videos of one prompt that people compare, read from the folders in which comparisons are written."""

import hashlib
import itertools
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videorm_hf.videoprefer.bad_data import Report
from videorm_hf.videoprefer.items import Candidate, Item
from videorm_hf.videoprefer.working_folder import ITEMS_FILE, read_items

logger = logging.getLogger(__name__)
COMPARISON_FILE = "comparison.json"  # what `draftv compare` writes


@dataclass(frozen=True)
class Duel:
    """Two videos of one prompt.

    Args:
        item_id (`str`): The item both come from.
        prompt (`str`): What both were to show.
        a ([`Candidate`]): The one that stands first in the item; its video is an absolute path.
        b ([`Candidate`]): The other one.
        content (`str`): Digest of both files: votes on videos that were since made anew do not count for the new ones.
    """

    item_id: str
    prompt: str
    a: Candidate
    b: Candidate
    content: str = ""

    @property
    def duel_id(self) -> str:
        """A name for pages, from which nobody can tell which model made what."""
        key = json.dumps([self.item_id, self.prompt, self.a.candidate_id, self.b.candidate_id, self.content])
        return hashlib.sha256(key.encode("utf-8")).hexdigest()[:16]


def read_duels(folder: str | os.PathLike[str]) -> list[Duel]:
    """Read what a folder gives to compare: every two videos of each prompt.

    Args:
        folder (`str` or `os.PathLike`):
            What `draftv compare` wrote, or a working folder of VIDEOPREFER (docs/dataset_formats.md); its ratings are
            not read.

    Returns:
        `list[Duel]`: in the order of the folder. Faulty items of a working folder are left out and logged.

    Raises:
        FileNotFoundError: If the folder is neither of the two.
        ValueError: If it holds no duel, or names a video that it does not hold.
    """
    folder = Path(folder)
    if (folder / ITEMS_FILE).is_file():
        report = Report()
        items = list(read_items(folder, ratings=(), num_candidates=None, report=report))
        if report.problems:
            logger.warning("%s", report.describe())
    elif (folder / COMPARISON_FILE).is_file():
        items = _items_of_comparison(folder)
    else:
        raise FileNotFoundError(
            f"{folder} holds nothing to compare: it must have {COMPARISON_FILE}, which `draftv compare` writes, or "
            f"{ITEMS_FILE} of a working folder."
        )
    duels = duels_of(replace(item, candidates=_with_paths(item, folder)) for item in items)
    if not duels:
        raise ValueError(f"{folder} holds no prompt with two usable videos.")
    return [replace(duel, content=_digest(duel.a.video, duel.b.video)) for duel in duels]


def duels_of(items: Iterable[Item]) -> list[Duel]:
    """Pair every two candidates of each item.

    Args:
        items (`Iterable[Item]`): Prompts with videos.

    Returns:
        `list[Duel]`: in the order of items and candidates.
    """
    return [
        Duel(item.item_id, item.prompt, a, b) for item in items for a, b in itertools.combinations(item.candidates, 2)
    ]


def _items_of_comparison(folder: Path) -> list[Item]:
    """Read the table of videos of `draftv compare`: the i-th video of A and of B are of one prompt and noise."""
    results = json.loads((folder / COMPARISON_FILE).read_text(encoding="utf-8"))
    sides = [[row for row in results["videos"] if row["variant"] == results[side]] for side in ("a", "b")]
    return [
        Item(f"{number:04d}", a["prompt"], "draftv-compare", (_candidate(a), _candidate(b)))
        for number, (a, b) in enumerate(zip(*sides, strict=True))
    ]


def _candidate(row: dict[str, Any]) -> Candidate:
    return Candidate(row["variant"], row["file_name"], row["variant"], seed=row["seed"])


def _digest(*videos: Path) -> str:
    return "".join(hashlib.sha256(video.read_bytes()).hexdigest() for video in videos)


def _with_paths(item: Item, folder: Path) -> tuple[Candidate, ...]:
    """Make the videos' paths absolute; none may lead out of the folder, as they are shown to visitors."""
    root = folder.resolve()
    found = []
    for candidate in item.candidates:
        path = (root / candidate.video).resolve()
        if not (path.is_relative_to(root) and path.is_file()):
            raise ValueError(f"{folder} names the video {candidate.video!r}, which is no file in it.")
        found.append(replace(candidate, video=path))
    return tuple(found)
