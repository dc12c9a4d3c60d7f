"""Benchmark: a set of videos that people have labelled, as items, as pairs, and with published metrics."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from videorm_hf.evaluation.labels import LabelledPair, pairs_of_items
from videorm_hf.evaluation.metrics import are_tied
from videorm_hf.videoprefer.items import MAX_RATING, MIN_RATING, Item
from videorm_hf.videoprefer.pairs import MEAN, PreferencePair, rated_dimensions

ALL = "all"  # the pairs of all dimensions of a set of votes, pooled


@dataclass(frozen=True)
class BenchmarkInfo:
    """What a labelled set is.

    Args:
        name (`str`): Under which [`get_benchmark`] finds it.
        title (`str`): Its name in print.
        content (`str`): What it holds.
        licence (`str`): Of labels and videos, as its authors state it.
        source (`str`): Where to get it.
        files (`str`): Which files are read.
        tie_policy (`str`): What a tie is, and what becomes of it.
        paper_test_size (`str`, *optional*): The test set of Wu et al. 2024 (NeurIPS); `None` where it was not used.
    """

    name: str
    title: str
    content: str
    licence: str
    source: str
    files: str
    tie_policy: str
    paper_test_size: str | None = None

    @property
    def where_to_get(self) -> str:
        """A sentence for error messages."""
        return f"{self.title} is read from {self.files}; get it from {self.source} (licence: {self.licence})."


@dataclass(frozen=True)
class Benchmark:
    """A labelled set.

    People either rated videos, then the ratings stand in the items, or compared two, then `votes` holds the pairs.

    Args:
        info ([`BenchmarkInfo`]): What it is.
        items (`tuple[Item, ...]`): Prompts with their videos. A video is the path where it is expected, also when it
            is not there (labels are often published without clips), or `None` where no file name is known.
        votes (`tuple[LabelledPair, ...]`): Pairs that people compared; empty for a set of ratings.
        metrics (`Mapping`): Name of a published metric to its value for each `(item_id, candidate_id)`.
    """

    info: BenchmarkInfo
    items: tuple[Item, ...]
    votes: tuple[LabelledPair, ...] = ()
    metrics: Mapping[str, Mapping[tuple[str, str], float]] = field(default_factory=dict)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """What people judged; with several, also `"mean"` (of ratings) or `"all"` (votes pooled)."""
        if self.votes:
            names = tuple(dict.fromkeys(vote.dimension for vote in self.votes))
            return (*names, ALL) if len(names) > 1 else names
        names = tuple(dict.fromkeys(name for item in self.items for name in rated_dimensions(item)))
        return (*names, MEAN) if len(names) > 1 else names

    def pairs(self, dimension: str) -> list[LabelledPair]:
        """Return the pairs of one dimension, ties among them.

        Args:
            dimension (`str`): One of `dimensions`.

        Returns:
            `list[LabelledPair]`: all pairs of each item's rated candidates, or the votes.

        Raises:
            ValueError: If the set has no such dimension.
        """
        if dimension not in self.dimensions:
            raise ValueError(f"{self.info.title} has no dimension {dimension!r}, only {', '.join(self.dimensions)}.")
        if self.votes:
            return [vote for vote in self.votes if dimension in (vote.dimension, ALL)]
        return pairs_of_items(self.items, dimension)

    def preference_pairs(self, dimension: str, ties: Literal["drop", "keep"] = "drop") -> list[PreferencePair]:
        """Return the pairs of one dimension in the shape that reward training takes.

        Args:
            dimension (`str`): One of `dimensions`.
            ties (`"drop"` or `"keep"`, defaults to `"drop"`): What becomes of pairs that people call tied.

        Returns:
            `list[PreferencePair]`: of a tie the first video is the chosen one. The margin of a vote is 1, of a tie 0.
        """
        videos = {(item.item_id, video.candidate_id): video.video for item in self.items for video in item.candidates}
        pairs = []
        for pair in self.pairs(dimension):
            is_tied = bool(are_tied(pair.human_a, pair.human_b))
            if is_tied and ties == "drop":
                continue
            a_first = is_tied or pair.human_a > pair.human_b
            chosen, rejected = (pair.a_id, pair.b_id) if a_first else (pair.b_id, pair.a_id)
            pairs.append(
                PreferencePair(
                    prompt=pair.prompt,
                    chosen=videos[pair.item_id, chosen],
                    rejected=videos[pair.item_id, rejected],
                    margin=0.0 if is_tied else abs(pair.human_a - pair.human_b),
                    dimension=pair.dimension,
                    item_id=pair.item_id,
                    chosen_id=chosen,
                    rejected_id=rejected,
                )
            )
        return pairs


def find_file(path: Path, names: Iterable[str], info: BenchmarkInfo) -> Path:
    """Return the file under a folder whose name ends as one of `names`, or `path` itself where it does.

    Of several files the one nearest to the folder is taken: repositories carry copies further down.

    Args:
        path (`Path`): A folder, searched to any depth, or a file.
        names (`Iterable[str]`): Endings of file names, the preferred one first.
        info ([`BenchmarkInfo`]): For the error message.

    Returns:
        `Path`: the file.

    Raises:
        FileNotFoundError: If there is none; the message names the file and where it comes from.
        ValueError: If several fit that are equally near.
    """
    names = tuple(names)
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for name in names:
        found = [file for file in files if file.name.endswith(name)]
        nearest = min((len(file.parts) for file in found), default=0)
        found = [file for file in found if len(file.parts) == nearest]
        if len(found) > 1:
            raise ValueError(f"Several files under {path} end in {name}, name one of them: {_listed(found)}.")
        if found:
            return found[0]
    raise FileNotFoundError(f"There is no {' and no '.join(names)} under {path}. {info.where_to_get}")


def checked_rating(value: object, place: str) -> float:
    """Return a rating from 1 to 5 as a float.

    Args:
        value (`object`): A number, or text that is one.
        place (`str`): Where it stands, for the error message.

    Returns:
        `float`: the rating.

    Raises:
        ValueError: If it is no number from 1 to 5.
    """
    try:
        rating = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        rating = float("nan")
    if not MIN_RATING <= rating <= MAX_RATING:
        raise ValueError(f"{place}: a rating must be a number from {MIN_RATING:g} to {MAX_RATING:g}, got {value!r}.")
    return rating


def first_existing(candidates: Iterable[Path]) -> str:
    """Return the first path that exists; where none does, the first one, which is where the video is expected."""
    paths = list(candidates)
    return os.fspath(next((path for path in paths if path.exists()), paths[0]))


def _listed(paths: list[Path]) -> str:
    return ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
