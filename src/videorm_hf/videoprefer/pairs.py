"""From an item's ratings to preference pairs (Wu et al. 2024, NeurIPS, Sec. 3.1: all pairs, on the mean, no ties)."""

import itertools
import statistics
from dataclasses import dataclass
from typing import Any, Literal

from videorm_hf.videoprefer.items import TIE_TOLERANCE, Candidate, Item

MEAN = "mean"


@dataclass(frozen=True)
class PreferencePair:
    """One choice between two videos of a prompt.

    Args:
        prompt (`str`): What both videos were to show.
        chosen (`Any`): The better video; of a tie, the one that stands first in the item.
        rejected (`Any`): The other video.
        margin (`float`): Rating of `chosen` minus that of `rejected`, at least 0; 0 is a tie.
        dimension (`str`): What was rated, or `"mean"`.
        item_id (`str`): The item both come from.
        chosen_id (`str`): `candidate_id` of `chosen`.
        rejected_id (`str`): `candidate_id` of `rejected`.
    """

    prompt: str
    chosen: Any
    rejected: Any
    margin: float
    dimension: str
    item_id: str
    chosen_id: str
    rejected_id: str


def make_preference_pairs(
    item: Item, dimension: str = MEAN, ties: Literal["drop", "keep"] = "drop", min_margin: float = 0.0
) -> list[PreferencePair]:
    """Compare every two candidates of an item; with four, at most six pairs.

    A candidate without the rating (for `"mean"`: without one of those that the item is rated in) is in no pair.

    Args:
        item ([`Item`]): The prompt with its rated videos.
        dimension (`str`, defaults to `"mean"`): One dimension, or the mean of all that the item is rated in.
        ties (`"drop"` or `"keep"`, defaults to `"drop"`): What becomes of pairs with equal ratings.
        min_margin (`float`, defaults to 0.0): Leave out pairs, other than kept ties, whose ratings differ by less.

    Returns:
        `list[PreferencePair]`: in the order of the item's candidates.

    Raises:
        ValueError: If `ties` is neither of the two or `min_margin` is negative.

    Reference:
        Wu et al. 2024 (NeurIPS), Sec. 3.1: mean, ties dropped. Differs: none by default.
    """
    if ties not in ("drop", "keep"):
        raise ValueError(f'ties must be "drop" or "keep", got {ties!r}.')
    if min_margin < 0:
        raise ValueError(f"min_margin must be at least 0, got {min_margin}.")
    ratings = candidate_ratings(item, dimension)
    rated = [candidate for candidate in item.candidates if candidate.candidate_id in ratings]
    pairs = []
    for a, b in itertools.combinations(rated, 2):
        difference = ratings[b.candidate_id] - ratings[a.candidate_id]
        margin = abs(difference) if abs(difference) >= TIE_TOLERANCE else 0.0
        chosen, rejected = (b, a) if margin and difference > 0 else (a, b)
        if (margin == 0 and ties == "keep") or (margin > 0 and margin >= min_margin):
            pairs.append(_pair(item, dimension, chosen, rejected, margin))
    return pairs


def candidate_ratings(item: Item, dimension: str = MEAN) -> dict[str, float]:
    """Return the rating of each candidate of an item.

    Args:
        item ([`Item`]): A prompt with its rated videos.
        dimension (`str`, defaults to `"mean"`): One dimension, or the mean of all that the item is rated in.

    Returns:
        `dict[str, float]`: `candidate_id` to rating; candidates without it (for `"mean"`: without one of those that
        the item is rated in) are absent.
    """
    dimensions = rated_dimensions(item) if dimension == MEAN else (dimension,)
    return {
        candidate.candidate_id: statistics.fmean(candidate.ratings[name] for name in dimensions)
        for candidate in item.candidates
        if dimensions and all(name in candidate.ratings for name in dimensions)
    }


def rated_dimensions(item: Item) -> tuple[str, ...]:
    """Return the dimensions in which any candidate of the item is rated, in order of first appearance."""
    return tuple(dict.fromkeys(name for candidate in item.candidates for name in candidate.ratings))


def _pair(item: Item, dimension: str, chosen: Candidate, rejected: Candidate, margin: float) -> PreferencePair:
    return PreferencePair(
        prompt=item.prompt,
        chosen=chosen.video,
        rejected=rejected.video,
        margin=margin,
        dimension=dimension,
        item_id=item.item_id,
        chosen_id=chosen.candidate_id,
        rejected_id=rejected.candidate_id,
    )
