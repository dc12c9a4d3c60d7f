"""LabelledPair: two videos of one prompt as people compare them, from ratings or from votes."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from videorm_hf.videoprefer.items import Item
from videorm_hf.videoprefer.pairs import MEAN, candidate_ratings


@dataclass(frozen=True)
class LabelledPair:
    """Two videos of a prompt and what people think of each.

    Args:
        item_id (`str`): The item both come from.
        prompt (`str`): What both videos were to show.
        dimension (`str`): What people judged.
        a_id (`str`): `candidate_id` of the first video.
        b_id (`str`): `candidate_id` of the second video.
        human_a (`float`): Rating of the first video; of a vote 1 if it won, 0.5 if tied, 0 if it lost.
        human_b (`float`): Rating of the second video; of a vote 1 minus `human_a`.
    """

    item_id: str
    prompt: str
    dimension: str
    a_id: str
    b_id: str
    human_a: float
    human_b: float


# In a labelled set the ratings are people's.
human_ratings = candidate_ratings


def pairs_of_items(items: Iterable[Item], dimension: str = MEAN) -> list[LabelledPair]:
    """Compare every two rated candidates of each item; ties are kept, for the metric to count.

    Args:
        items (`Iterable[Item]`): Prompts with rated videos.
        dimension (`str`, defaults to `"mean"`): See [`candidate_ratings`].

    Returns:
        `list[LabelledPair]`: in the order of items and candidates.
    """
    return [
        LabelledPair(item.item_id, item.prompt, dimension, a_id, b_id, human_a, human_b)
        for item in items
        for (a_id, human_a), (b_id, human_b) in itertools.combinations(human_ratings(item, dimension).items(), 2)
    ]
