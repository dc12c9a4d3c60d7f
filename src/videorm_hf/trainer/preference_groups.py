"""From the data sets' two views to groups: one prompt, its videos, and the pairs between them.

A row of the `preference` view is a group of two videos; an item of the `ratings` view one of all its candidates. What
is wrong with a row is found here, before training; files that cannot be decoded are found as they are read.
"""

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute
import torch
from datasets import Dataset

from videorm_hf.videoprefer.items import MAX_RATING, MIN_RATING, Candidate, Item
from videorm_hf.videoprefer.pairs import MEAN, make_preference_pairs

logger = logging.getLogger(__name__)

PreferenceData: TypeAlias = Dataset | Sequence[Mapping[str, Any]] | Sequence[Item]

_PREFERENCE = {"prompt", "chosen", "rejected"}
_RATINGS = {"prompt", "candidates"}
_SHOWN = 3  # examples in a message


@dataclass(frozen=True)
class PairSettings:
    """How pairs are made of ratings.

    Args:
        dimensions (`tuple[str, ...]`): What is compared; `"mean"` is the mean of an item's dimensions.
        keep_ties (`bool`): Whether pairs of equal ratings are kept.
        need_margin (`bool`): Whether every pair must have a margin.
    """

    dimensions: tuple[str, ...] = (MEAN,)
    keep_ties: bool = False
    need_margin: bool = False


@dataclass(frozen=True)
class PreferenceGroup:
    """A prompt with its videos and the pairs between them.

    Args:
        prompt (`str`): What the videos were to show.
        videos (`tuple[Any, ...]`): In any form that [`VideoRMVideoProcessor`] takes.
        names (`tuple[str, ...]`): What messages call them.
        pairs (`tuple[tuple[int, int], ...]`): Places of the better and the other video.
        margins (`tuple[float, ...]`): Each pair's difference of ratings; 0 is a tie, and 1 where none is known.
        draw (`int`): The number it was asked for with, from which random frames derive.
    """

    prompt: str
    videos: tuple[Any, ...]
    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    margins: tuple[float, ...]
    draw: int = 0


class DrawnDataset(torch.utils.data.Dataset):
    """A data set indexed by draws: a number beyond the end is a row of a later epoch."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        # Without it Python would count up for ever.
        return (self[row] for row in range(len(self)))


class PreferenceGroups(DrawnDataset):
    """The groups of one data set; only rows with at least one pair are among them.

    Args:
        data (`datasets.Dataset`, or a list of rows, or of [`Item`]):
            The `preference` or the `ratings` view.
        name (`str`):
            What messages call it.
        settings ([`PairSettings`], *optional*):
            How pairs are made.
        fraction (`float`, defaults to 1.0):
            Share of the rows that is used.
        seed (`int`, defaults to 0):
            Which rows these are.

    Raises:
        TypeError: If `data` has another type.
        ValueError: If it is empty, has other columns, is not rated in a dimension of the settings, or holds impossible
            ratings, margins, prompts or pairs.
    """

    def __init__(
        self,
        data: PreferenceData,
        name: str,
        settings: PairSettings | None = None,
        fraction: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.name = name
        self.settings = settings or PairSettings()
        self._data = _checked_data(data, name)
        self.view = _view(_columns(self._data), name)
        order = np.random.default_rng(seed).permutation(len(self._data))
        chosen = np.zeros(len(order), dtype=bool)
        chosen[order[: max(1, round(fraction * len(order)))]] = True
        self.num_ties = 0
        self._problems: dict[str, list[str]] = {}
        self._rated: set[str] = set()  # the dimensions found
        self._names: list[tuple[str, ...]] = []
        self._groups: list[tuple[int, tuple[tuple[int, int], ...], tuple[float, ...]]] = []
        for number, row in enumerate(_light_rows(self._data)):
            if chosen[number]:
                self._add(number, row)
        self._raise_problems()
        self._check_dimensions()
        self.num_pairs = sum(len(pairs) for _, pairs, _ in self._groups)
        if not self._groups:
            raise ValueError(
                f"{name} gives no pair: {int(chosen.sum())} rows, {self.num_ties} ties, which are "
                f"{'kept' if self.settings.keep_ties else 'left out'}; dimensions {list(self.settings.dimensions)}."
            )
        logger.info(
            "%s: %d rows with %d pairs (%s view, %d ties %s).",
            *(name, len(self), self.num_pairs, self.view, self.num_ties),
            "kept" if self.settings.keep_ties else "left out",
        )

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, draw: int) -> PreferenceGroup:
        number, pairs, margins = self._groups[draw % len(self)]
        row = self._data[number]
        if isinstance(self._data, Dataset):
            row = row.to_pylist()[0]
        prompt, videos, names = self._parts(number, _as_mapping(row))
        return PreferenceGroup(prompt, videos, names, pairs, margins, draw)

    def outline(self, place: int) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...], tuple[float, ...]]:
        """Return the names of a group's videos, its pairs and their margins, without reading its row.

        Args:
            place (`int`): Of the group.

        Returns:
            `tuple`: as in [`PreferenceGroup`].
        """
        _, pairs, margins = self._groups[place]
        return self._names[place], pairs, margins

    def _parts(self, number: int, row: Mapping[str, Any]) -> tuple[str, tuple[Any, ...], tuple[str, ...]]:
        """Return prompt, videos and their names of a row."""
        item = row.get("item_id") or f"{self.name} row {number}"
        if self.view == "preference":
            ids = (row.get("chosen_id") or "chosen", row.get("rejected_id") or "rejected")
            return row["prompt"], (row["chosen"], row["rejected"]), tuple(f"{item}/{name}" for name in ids)
        candidates = [_as_mapping(candidate) for candidate in row["candidates"]]
        names = tuple(f"{item}/{candidate.get('candidate_id') or i}" for i, candidate in enumerate(candidates))
        return row["prompt"], tuple(candidate["video"] for candidate in candidates), names

    def _add(self, number: int, row: Mapping[str, Any]) -> None:
        """Check a row, which may lack its videos' bytes, and note its pairs."""
        if missing := self._missing_columns(row):
            self._problem(f"rows have no {' and no '.join(missing)}", f"row {number}: {sorted(row)}")
            return
        prompt, videos, names = self._parts(number, row)
        if not isinstance(prompt, str) or not prompt.strip():
            self._problem("prompts hold no text", f"row {number}: {prompt!r}")
            return
        found = self._preference_pair(number, row) if self.view == "preference" else self._rated_pairs(row, names)
        self.num_ties += sum(margin == 0 for *_, margin in found)
        kept = [pair for pair in found if pair[2] > 0 or self.settings.keep_ties]
        for chosen, rejected, _ in kept:
            if _same_source(videos[chosen], videos[rejected]):
                self._problem("pairs compare a video with itself", f"{names[chosen]} and {names[rejected]}")
        if kept:
            self._names.append(names)
            self._groups.append((number, tuple(pair[:2] for pair in kept), tuple(pair[2] for pair in kept)))

    def _missing_columns(self, row: Mapping[str, Any]) -> list[str]:
        """Return the columns that one row of a list lacks, or leaves empty; tables have them in every row."""
        if isinstance(self._data, Dataset):
            return []
        return sorted(
            name for name in (_PREFERENCE if self.view == "preference" else _RATINGS) if row.get(name) is None
        )

    def _preference_pair(self, number: int, row: Mapping[str, Any]) -> list[tuple[int, int, float]]:
        margin = row.get("margin")
        if margin is None:
            if self.settings.need_margin:
                self._problem("pairs have no margin, which use_margin=True needs", f"row {number}")
            return [(0, 1, 1.0)]
        if not (math.isfinite(margin) and margin >= 0):
            self._problem("margins are not numbers of at least 0", f"row {number}: {margin}")
            return []
        return [(0, 1, float(margin))]

    def _rated_pairs(self, row: Mapping[str, Any], names: Sequence[str]) -> list[tuple[int, int, float]]:
        candidates = []
        for place, candidate in enumerate(map(_as_mapping, row["candidates"])):
            ratings = {name: rating for name, rating in (candidate["ratings"] or {}).items() if rating is not None}
            self._rated |= ratings.keys()
            for dimension, rating in ratings.items():
                if not MIN_RATING <= rating <= MAX_RATING:  # also where it is NaN
                    self._problem("ratings are not numbers from 1 to 5", f"{names[place]} {dimension}: {rating}")
                    return []
            candidates.append(Candidate(str(place), place, "", ratings=ratings))
        item = Item("", row["prompt"], "", tuple(candidates))
        pairs = [p for name in self.settings.dimensions for p in make_preference_pairs(item, name, ties="keep")]
        return [(pair.chosen, pair.rejected, pair.margin) for pair in pairs]

    def _check_dimensions(self) -> None:
        """Raise if no row of the `ratings` view is rated in one of the dimensions."""
        unknown = [name for name in self.settings.dimensions if name not in {MEAN, *self._rated}]
        if unknown and self.view == "ratings":
            raise ValueError(
                f"{self.name} is not rated in {', '.join(unknown)}: dimensions must be among {MEAN}"
                f"{''.join(f', {name}' for name in sorted(self._rated))}."
            )

    def _problem(self, kind: str, example: str) -> None:
        self._problems.setdefault(kind, []).append(example)

    def _raise_problems(self) -> None:
        """Raise if any row was found wrong, with counts and the first examples."""
        if self._problems:
            found = "; ".join(
                f"{len(examples)} {kind} (first: {', '.join(examples[:_SHOWN])})"
                for kind, examples in self._problems.items()
            )
            raise ValueError(f"{self.name} cannot be trained or evaluated on: {found}. Mend or remove these rows.")


def _checked_data(data: Any, name: str) -> Any:
    """Return data that can be indexed, as Arrow tables where it is a `datasets.Dataset`."""
    if isinstance(data, Dataset):
        if len(data) == 0:
            raise ValueError(f"{name} must hold at least one row: got an empty split.")
        return data.with_format("arrow")  # undecoded, nested videos too
    if not isinstance(data, Sequence) or isinstance(data, str | bytes):
        raise TypeError(
            f"{name} must be a datasets.Dataset or a list of rows or Items: got {type(data).__name__}. Name a "
            "split of a DatasetDict; a streamed data set cannot be drawn from at random."
        )
    if len(data) == 0:
        raise ValueError(f"{name} must hold at least one row: got an empty list.")
    return data


def _columns(data: Any) -> list[str]:
    """Return the names of the columns."""
    return list(data.column_names) if isinstance(data, Dataset) else sorted(_as_mapping(data[0]))


def _view(columns: Sequence[str], name: str) -> str:
    """Tell the `preference` from the `ratings` view."""
    if set(columns) >= _PREFERENCE:
        return "preference"
    if set(columns) >= _RATINGS:
        return "ratings"
    raise ValueError(
        f"{name} must be a preference view, with the columns {sorted(_PREFERENCE)}, or a ratings view, with the "
        f"columns {sorted(_RATINGS)}: got {list(columns)}."
    )


def _as_mapping(row: Any) -> Mapping[str, Any]:
    """Return a row, an Item or a Candidate by the names of its fields."""
    if is_dataclass(row) and not isinstance(row, type):
        return vars(row)
    if not isinstance(row, Mapping):
        raise TypeError(f"A row must be a mapping of columns or an Item: got {type(row).__name__}.")
    return row


def _light_rows(data: Any) -> Iterator[Mapping[str, Any]]:
    """Yield all rows, those of a `datasets.Dataset` without reading any video's bytes."""
    if not isinstance(data, Dataset):
        yield from map(_as_mapping, data)
        return
    for table in data.iter(batch_size=1000):
        columns = [
            pa.chunked_array([_without_bytes(chunk) for chunk in table.column(name).chunks])
            for name in table.column_names
        ]
        yield from pa.Table.from_arrays(columns, names=table.column_names).to_pylist()


def _without_bytes(array: pa.Array) -> pa.Array:
    """Replace videos stored as bytes and path by their path, or null where bytes are there."""
    if pa.types.is_struct(array.type):
        names = [field.name for field in array.type]
        if set(names) == {"bytes", "path"}:
            has_bytes = array.field("bytes").is_valid()
            return pa.compute.if_else(has_bytes, pa.scalar(None, array.type.field("path").type), array.field("path"))
        return pa.StructArray.from_arrays([_without_bytes(part) for part in array.flatten()], names)
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        lengths = pa.compute.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        return pa.ListArray.from_arrays(offsets, _without_bytes(array.flatten()))
    return array


def _same_source(a: Any, b: Any) -> bool:
    """Tell whether two videos are the same file, or the same bytes."""
    first, second = _source(a), _source(b)
    return first is not None and second is not None and first == second


def _source(video: Any) -> str | bytes | None:
    """Return what a video is read from, None where this is not known without decoding."""
    if isinstance(video, Mapping):
        video = video.get("bytes") or video.get("path")
    if isinstance(video, str | os.PathLike):
        return os.path.realpath(video)
    return video if isinstance(video, bytes) else None


class ConcatGroups(DrawnDataset):
    """Several data sets' groups laid end to end; a draw beyond the end counts from the beginning again.

    Args:
        parts (`Iterable[DrawnDataset]`): The data sets.
    """

    def __init__(self, parts: Iterable[DrawnDataset]) -> None:
        self.parts = list(parts)

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, draw: int) -> Any:
        place = draw % len(self)
        for part in self.parts:
            if place < len(part):
                # The part counts the epoch in passes over itself.
                return part[place + draw // len(self) * len(part)]
            place -= len(part)
        raise IndexError(draw)
