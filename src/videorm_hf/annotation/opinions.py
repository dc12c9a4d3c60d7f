"""Opinions on videos, from judges or people: ratings of one video each, or comparisons of two."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from videorm_hf.annotation.types import Choice
from videorm_hf.evaluation.labels import LabelledPair, human_ratings
from videorm_hf.scoring.tables import read_table
from videorm_hf.videoprefer.items import Item
from videorm_hf.videoprefer.pairs import MEAN

Video = tuple[str, str]  # item_id, candidate_id
Pair = tuple[str, str, str]  # item_id and two candidate_ids in alphabetical order

_SCORES: dict[Choice, tuple[float, float]] = {"first": (1.0, 0.0), "second": (0.0, 1.0), "tie": (0.5, 0.5)}


@dataclass(frozen=True)
class Opinions:
    """What one judge, or people together, think of videos in one dimension.

    Args:
        name (`str`): Whose opinions, for tables and figures.
        dimension (`str`): What was judged.
        ratings (`Mapping`): Video to rating; empty for comparisons.
        pairs (`Mapping`): Pair to what its two videos are worth; of ratings, the ratings of the two.
        failures (`Counter`): Of records without an answer, by reason.
        position (`PositionBias`, *optional*): Of a judge that was asked in both orders.
    """

    name: str
    dimension: str
    ratings: Mapping[Video, float]
    pairs: Mapping[Pair, tuple[float, float]]
    failures: Counter[str] = field(default_factory=Counter)
    position: "PositionBias | None" = None

    def of_items(self, item_ids: Collection[str]) -> "Opinions":
        """Return the same about some items alone; counts of failures and of positions stay those of all."""
        ratings = {video: rating for video, rating in self.ratings.items() if video[0] in item_ids}
        return replace(self, ratings=ratings, pairs={pair: v for pair, v in self.pairs.items() if pair[0] in item_ids})


@dataclass(frozen=True)
class PositionBias:
    """How far a judge's verdicts depend on which video it is shown first.

    Args:
        num_pairs (`int`): Pairs that were answered in both orders.
        num_swapped (`int`): Of these, pairs whose verdict was another one in the other order; they count as ties.
        num_one_order (`int`): Pairs answered in one order only, which are not used.
        num_first (`int`): Verdicts for the video shown first.
        num_second (`int`): Verdicts for the video shown second.
    """

    num_pairs: int
    num_swapped: int
    num_one_order: int
    num_first: int
    num_second: int

    @property
    def swap_rate(self) -> float | None:
        """Share of pairs whose verdict the order changes; `None` without pairs."""
        return self.num_swapped / self.num_pairs if self.num_pairs else None

    @property
    def first_share(self) -> float | None:
        """Share of the video shown first in the verdicts that are no ties: 0.5 without bias, `None` without any."""
        decided = self.num_first + self.num_second
        return self.num_first / decided if decided else None


def opinions_of_ratings(
    ratings: Mapping[Video, float], name: str, dimension: str, failures: Counter[str] | None = None
) -> Opinions:
    """Turn ratings into opinions: all pairs of an item's rated videos.

    Args:
        ratings (`Mapping`): Video to rating.
        name (`str`): Whose.
        dimension (`str`): What was rated.
        failures (`Counter`, *optional*): Of records without a rating.

    Returns:
        [`Opinions`]
    """
    by_item: dict[str, list[str]] = {}
    for item_id, candidate_id in sorted(ratings):
        by_item.setdefault(item_id, []).append(candidate_id)
    pairs = {
        (item_id, a, b): (ratings[item_id, a], ratings[item_id, b])
        for item_id, candidates in by_item.items()
        for number, a in enumerate(candidates)
        for b in candidates[number + 1 :]
    }
    return Opinions(name, dimension, ratings, pairs, failures or Counter())


def opinions_of_items(items: Iterable[Item], name: str, dimension: str) -> Opinions:
    """Return what people say about a labelled set's items, in one dimension or on the mean of all."""
    ratings = {
        (item.item_id, candidate_id): rating
        for item in items
        for candidate_id, rating in human_ratings(item, dimension).items()
    }
    return opinions_of_ratings(ratings, name, dimension)


def opinions_of_votes(votes: Iterable[LabelledPair], name: str, dimension: str) -> Opinions:
    """Return people's comparisons of two videos each; of several votes on a pair, their mean."""
    found: dict[Pair, list[tuple[float, float]]] = {}
    for vote in votes:
        pair, values = _ordered(vote.item_id, vote.a_id, vote.b_id, (vote.human_a, vote.human_b))
        found.setdefault(pair, []).append(values)
    means = {pair: (fmean(a for a, _ in each), fmean(b for _, b in each)) for pair, each in found.items()}
    return Opinions(name, dimension, {}, means)


def read_opinions(path: Path, dimension: str, name: str | None = None) -> Opinions:
    """Read a rating file, a pairwise journal, or any table with the same columns.

    Args:
        path (`Path`):
            A `.jsonl`, `.csv` or `.parquet` file with `item_id`, `candidate_id`, `dimension` and `rating`, or with
            `first_id`, `second_id` and `verdict` for the last two. The last record of a video counts, as everywhere.
        dimension (`str`): Which one, or `"mean"` of all that the file has, of videos rated in all of them.
        name (`str`, *optional*): Whose opinions; the file's name by default.

    Returns:
        [`Opinions`]

    Raises:
        ValueError: If the file is none of these or has no answer for the dimension.
    """
    last: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, row in enumerate(read_table(path), start=1):
        names = ("first_id", "second_id") if row.get("first_id") is not None else ("candidate_id",)
        if any(row.get(column) is None for column in ("item_id", "dimension", *names)):
            raise ValueError(
                f"{path}, row {number} must have item_id, dimension and candidate_id (or first_id, second_id)"
            )
        key = (str(row["item_id"]), *(str(row[column]) for column in names), str(row["dimension"]))
        last[key] = row
    dimensions = sorted({key[-1] for key in last})
    if dimension not in dimensions and not (dimension == MEAN and dimensions):
        raise ValueError(f"{path} has no {dimension!r}; it has {', '.join(dimensions) or 'no records'}.")
    wanted = dimensions if dimension == MEAN else [dimension]
    records = {key: row for key, row in last.items() if key[-1] in wanted}
    failures = Counter(str(row.get("failure") or "no_rating") for row in records.values() if _answer(row) is None)
    if failures.total() == len(records):
        reasons = ", ".join(f"{count} {reason}" for reason, count in failures.most_common())
        raise ValueError(
            f"{path} holds {len(records)} records for {dimension!r}, none with a rating or verdict: {reasons}. "
            "Ask again: videoprefer annotate --retry-failures."
        )
    if {len(key) for key in records} == {4}:
        if dimension == MEAN:
            raise ValueError(
                f"{path} compares pairs: choose one of its dimensions {', '.join(dimensions)}, not a mean."
            )
        return _opinions_of_verdicts(records, name or path.name, dimension, failures)
    if any(len(key) == 4 for key in records):
        raise ValueError(f"{path} mixes ratings and verdicts; keep them in files of their own.")
    ratings = _ratings(path, records, len(wanted))
    return opinions_of_ratings(ratings, name or path.name, dimension, failures)


def read_dimensions(path: Path) -> list[str]:
    """Return the dimensions of a rating file's records, in alphabetical order.

    Args:
        path (`Path`): As for [`read_opinions`].
    """
    return sorted({str(row["dimension"]) for row in read_table(path) if row.get("dimension") is not None})


def mean_opinions(opinions: Sequence[Opinions]) -> Opinions:
    """Return the mean over several dimensions, of videos rated in all of them.

    Args:
        opinions (`Sequence[Opinions]`): Of one judge, a dimension each.

    Returns:
        [`Opinions`]

    Raises:
        ValueError: If they are comparisons.
    """
    dimensions = ", ".join(each.dimension for each in opinions)
    if not all(each.ratings for each in opinions):
        raise ValueError(f"{opinions[0].name} compares pairs: choose one of its dimensions {dimensions}, not a mean.")
    videos = set.intersection(*(set(each.ratings) for each in opinions))
    ratings = {video: fmean(each.ratings[video] for each in opinions) for video in videos}
    failures = sum((each.failures for each in opinions), Counter[str]())
    return opinions_of_ratings(ratings, opinions[0].name, f"mean of {dimensions}", failures)


def _ratings(path: Path, records: Mapping[tuple[str, ...], dict[str, Any]], num_dimensions: int) -> dict[Video, float]:
    """Return the rating of each video, the mean where several dimensions are wanted and all are there."""
    found: dict[Video, list[float]] = {}
    for (item_id, candidate_id, _), row in records.items():
        answer = _answer(row)
        if answer is None:
            continue
        try:
            found.setdefault((item_id, candidate_id), []).append(float(answer))
        except ValueError:
            raise ValueError(
                f"{path}: {item_id}/{candidate_id} has the rating {answer!r}, which is no number"
            ) from None
    return {video: fmean(values) for video, values in found.items() if len(values) == num_dimensions}


def _opinions_of_verdicts(
    records: Mapping[tuple[str, ...], dict[str, Any]], name: str, dimension: str, failures: Counter[str]
) -> Opinions:
    """Bring both orders of each pair together: where they disagree, the pair is a tie."""
    choices: Counter[Choice] = Counter()
    orders: dict[Pair, list[tuple[float, float]]] = {}
    for (item_id, first, second, _), row in records.items():
        choice = _answer(row)
        if choice is None:
            continue
        if choice not in _SCORES:
            raise ValueError(f"{name}, item {item_id}: a verdict is one of {', '.join(_SCORES)}, got {choice!r}.")
        choices[choice] += 1
        pair, values = _ordered(item_id, first, second, _SCORES[choice])
        orders.setdefault(pair, []).append(values)
    both = {pair: values for pair, values in orders.items() if len(values) == 2}
    swapped = {pair for pair, (one, other) in both.items() if one != other}
    pairs = {pair: (0.5, 0.5) if pair in swapped else values[0] for pair, values in both.items()}
    position = PositionBias(len(both), len(swapped), len(orders) - len(both), choices["first"], choices["second"])
    return Opinions(name, dimension, {}, pairs, failures, position)


def _answer(row: Mapping[str, Any]) -> Any:
    """Return the rating or verdict of a record; `None` where the call failed."""
    if row.get("failure") is not None:
        return None
    return row["verdict"] if row.get("rating") is None and "verdict" in row else row.get("rating")


def _ordered(item_id: str, a: str, b: str, values: tuple[float, float]) -> tuple[Pair, tuple[float, float]]:
    return ((item_id, a, b), values) if a < b else ((item_id, b, a), values[::-1])
