"""Facts about a set of rated items: sizes, pairs, ties, ratings, which model wins; computed in one pass."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from videorm_hf.videoprefer.items import Item
from videorm_hf.videoprefer.pairs import MEAN, PreferencePair, make_preference_pairs, rated_dimensions


@dataclass
class DimensionStatistics:
    """What one dimension, or the mean, says.

    Args:
        num_pairs (`int`): Pairs of an item's rated videos with different ratings.
        num_ties (`int`): Pairs with equal ratings.
        wins (`Counter[str]`): Model to the pairs that it won against another model.
        losses (`Counter[str]`): Model to those that it lost.
        ratings (`Counter[int]`):
            Rating to videos; ratings between whole numbers count for the nearest, halves upwards.
        rating_sum (`float`): Of all ratings.
    """

    num_pairs: int = 0
    num_ties: int = 0
    wins: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    ratings: Counter[int] = field(default_factory=Counter)
    rating_sum: float = 0.0

    @property
    def tie_rate(self) -> float | None:
        """Share of tied pairs among all; `None` without any."""
        total = self.num_pairs + self.num_ties
        return self.num_ties / total if total else None

    @property
    def mean_rating(self) -> float | None:
        """Mean over all videos; `None` without ratings."""
        return self.rating_sum / self.ratings.total() if self.ratings else None

    @property
    def win_rates(self) -> dict[str, float]:
        """Model to the share that it won of its pairs with other models, ties left out; the best first."""
        models = self.wins.keys() | self.losses.keys()
        rates = {model: self.wins[model] / (self.wins[model] + self.losses[model]) for model in sorted(models)}
        return dict(sorted(rates.items(), key=lambda entry: -entry[1]))


@dataclass
class DatasetStatistics:
    """Facts about a set; see [`compute_statistics`].

    Args:
        num_items (`int`): Prompts.
        num_videos (`int`): Candidates of all items.
        num_real (`int`): Of these, real clips.
        num_unrated (`int`): Videos that lack the rating of a dimension that the set is rated in.
        prompt_sources (`Counter[str]`): Where prompts come from.
        candidates (`Counter[int]`): Number of candidates to items.
        models (`Counter[str]`): Model to videos.
        judges (`Counter[str]`): Judge, as text, to videos.
        guidance (`dict[str, tuple[float, float]]`): Model to the smallest and largest guidance scale.
        dimensions (`dict[str, DimensionStatistics]`): Each rated dimension, and `"mean"` if there are several.
        agreement (`dict[str, tuple[int, int]]`):
            `"a / b"` to the pairs untied in both dimensions: same winner, and all.
    """

    num_items: int = 0
    num_videos: int = 0
    num_real: int = 0
    num_unrated: int = 0
    prompt_sources: Counter[str] = field(default_factory=Counter)
    candidates: Counter[int] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    judges: Counter[str] = field(default_factory=Counter)
    guidance: dict[str, tuple[float, float]] = field(default_factory=dict)
    dimensions: dict[str, DimensionStatistics] = field(default_factory=lambda: defaultdict(DimensionStatistics))
    agreement: dict[str, tuple[int, int]] = field(default_factory=dict)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the set's rows in a table of sets, one for each dimension.

        Args:
            name (`str`): What to call the set.

        Returns:
            `list[dict]`: sizes, pairs, ties and ratings.
        """
        return [
            {
                "set": name,
                "items": self.num_items,
                "videos": self.num_videos,
                "dimension": dimension,
                "pairs": facts.num_pairs,
                "ties": facts.num_ties,
                "tie rate": facts.tie_rate,
                "mean rating": facts.mean_rating,
            }
            for dimension, facts in self.dimensions.items()
        ]

    def agreement_rows(self, name: str) -> list[dict[str, Any]]:
        """Return how often two dimensions prefer the same video.

        Args:
            name (`str`): What to call the set.

        Returns:
            `list[dict]`: a row for every two dimensions; pairs are those that are tied in neither.
        """
        return [
            {"set": name, "dimensions": names, "pairs": total, "same winner": same, "agreement": same / total}
            for names, (same, total) in self.agreement.items()
            if total
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        dimensions = {
            name: {
                "pairs": facts.num_pairs,
                "ties": facts.num_ties,
                "tie_rate": facts.tie_rate,
                "mean_rating": facts.mean_rating,
                "ratings": {str(rating): facts.ratings[rating] for rating in range(1, 6)},
                "win_rates": facts.win_rates,
                "wins": dict(facts.wins),
                "losses": dict(facts.losses),
            }
            for name, facts in self.dimensions.items()
        }
        agreement = {
            names: {"same_winner": same, "pairs": total, "rate": same / total if total else None}
            for names, (same, total) in self.agreement.items()
        }
        return {
            "items": self.num_items,
            "videos": self.num_videos,
            "real_clips": self.num_real,
            "videos_not_rated_in_every_dimension": self.num_unrated,
            "prompt_sources": dict(self.prompt_sources.most_common()),
            "candidates_per_item": {str(count): items for count, items in sorted(self.candidates.items())},
            "models": dict(self.models.most_common()),
            "guidance_scales": {model: list(bounds) for model, bounds in sorted(self.guidance.items())},
            "judges": dict(self.judges.most_common()),
            "dimensions": dimensions,
            "agreement": agreement,
        }


def compute_statistics(items: Iterable[Item]) -> DatasetStatistics:
    """Count what is in a set; items are taken one by one and not kept.

    Args:
        items (`Iterable[Item]`): The rated items.

    Returns:
        [`DatasetStatistics`]
    """
    statistics = DatasetStatistics()
    rated: Counter[frozenset[str]] = Counter()  # the dimensions that a video is rated in, to videos
    for item in items:
        _count_videos(statistics, item, rated)
        dimensions = rated_dimensions(item)
        pairs = {name: make_preference_pairs(item, name, ties="keep") for name in dimensions}
        if len(dimensions) > 1:
            pairs[MEAN] = make_preference_pairs(item, MEAN, ties="keep")
        models = {candidate.candidate_id: candidate.model for candidate in item.candidates}
        for name, found in pairs.items():
            _count_pairs(statistics.dimensions[name], found, models)
        for names in itertools.combinations(sorted(dimensions), 2):
            _count_agreement(statistics, names, pairs)
    all_dimensions = frozenset().union(*rated)
    statistics.num_unrated = sum(count for names, count in rated.items() if names != all_dimensions or not names)
    # The mean last, whichever item came first.
    ordered = sorted(statistics.dimensions.items(), key=lambda entry: (entry[0] == MEAN, entry[0]))
    statistics.dimensions = dict(ordered)
    return statistics


def _count_videos(statistics: DatasetStatistics, item: Item, rated: Counter[frozenset[str]]) -> None:
    statistics.num_items += 1
    statistics.prompt_sources[item.prompt_source] += 1
    statistics.candidates[len(item.candidates)] += 1
    for candidate in item.candidates:
        statistics.num_videos += 1
        statistics.num_real += candidate.is_real
        statistics.models[candidate.model] += 1
        scale, model = candidate.guidance_scale, candidate.model
        if scale is not None:
            low, high = statistics.guidance.get(model, (scale, scale))
            statistics.guidance[model] = (min(low, scale), max(high, scale))
        if candidate.judge is not None:
            judge = {name: value for name, value in vars(candidate.judge).items() if value is not None}
            statistics.judges[", ".join(f"{name} {value}" for name, value in judge.items())] += 1
        rated[frozenset(candidate.ratings)] += 1
        for dimension, rating in candidate.ratings.items():
            statistics.dimensions[dimension].ratings[int(rating + 0.5)] += 1
            statistics.dimensions[dimension].rating_sum += rating


def _count_pairs(facts: DimensionStatistics, pairs: list[PreferencePair], models: dict[str, str]) -> None:
    for pair in pairs:
        if pair.margin == 0:
            facts.num_ties += 1
            continue
        facts.num_pairs += 1
        chosen, rejected = models[pair.chosen_id], models[pair.rejected_id]
        if chosen != rejected:
            facts.wins[chosen] += 1
            facts.losses[rejected] += 1


def _count_agreement(
    statistics: DatasetStatistics, names: tuple[str, str], pairs: dict[str, list[PreferencePair]]
) -> None:
    winners = [
        {frozenset((pair.chosen_id, pair.rejected_id)): pair.chosen_id for pair in pairs[name] if pair.margin > 0}
        for name in names
    ]
    both = winners[0].keys() & winners[1].keys()
    same, total = statistics.agreement.get(" / ".join(names), (0, 0))
    same += sum(winners[0][key] == winners[1][key] for key in both)
    statistics.agreement[" / ".join(names)] = (same, total + len(both))
