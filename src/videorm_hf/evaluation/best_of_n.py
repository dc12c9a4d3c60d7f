"""Best-of-n: how good is the video that a reward chooses out of n (Wu et al. 2024, NeurIPS, Sec. 4)?

Of a prompt's m rated videos, n are drawn without replacement and the reward's highest is chosen. Instead of one random
draw, the expectation over all C(m, n) draws is computed exactly. The paper leaves open what the choice must win
against: here another video of the prompt, drawn at random, and the prompt's best.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videorm_hf.evaluation import metrics
from videorm_hf.evaluation.evaluator import DEFAULT_BOOTSTRAP, Bootstrap, Scores
from videorm_hf.evaluation.labels import human_ratings
from videorm_hf.videoprefer.items import Item


@dataclass(frozen=True)
class BestOfN:
    """What a reward's choice out of n is worth, averaged over prompts and over all draws.

    Args:
        reward (`str`): Who chooses.
        n (`int`): Out of how many.
        num_items (`int`): Prompts with at least n (and two) rated and scored videos.
        rating (`float`): Mean rating that people gave the chosen video.
        win_over_random (`float`): How often people prefer the chosen video to another of the prompt drawn at random, a
            tie counting one half. 0.5 at n = 1.
        interval (`tuple[float, float]`, *optional*): Its bootstrap interval over prompts.
        win_over_best (`float`): The same against the video that people rate highest, which can only be tied: 0.5 is
            perfect.
        best_rate (`float`): How often the chosen video is rated as high as the best; twice `win_over_best`.
    """

    reward: str
    n: int
    num_items: int
    rating: float
    win_over_random: float
    interval: tuple[float, float] | None
    win_over_best: float
    best_rate: float


def choice_probabilities(scores: Sequence[float], n: int) -> NDArray[np.float64]:
    """Return how likely each of m videos is the highest-scoring of n drawn without replacement.

    Of a group of t equal scores with L lower ones, the group holds the highest with probability
    `(C(L + t, n) - C(L, n)) / C(m, n)`, and each of its members is chosen alike.

    Args:
        scores (`Sequence[float]` of length m): The reward of each video; higher is better.
        n (`int`): How many are drawn.

    Returns:
        `np.ndarray` of shape `(m,)`: probabilities, summing to 1.

    Raises:
        ValueError: If `n` is not between 1 and m, or a score is not finite.
    """
    if not 1 <= n <= len(scores):
        raise ValueError(f"n must be between 1 and the number of videos, {len(scores)}, got {n}.")
    values = np.asarray(scores, dtype=float)
    if not np.isfinite(values).all():
        raise ValueError(f"Scores must be finite, got {list(scores)}.")
    probabilities = np.empty(len(values))
    for value in np.unique(values):
        lower, equal = int((values < value).sum()), int((values == value).sum())
        ways = math.comb(lower + equal, n) - math.comb(lower, n)
        probabilities[values == value] = ways / (equal * math.comb(len(values), n))
    return probabilities


def win_rates(human: Sequence[float]) -> NDArray[np.float64]:
    """Return how often each of m videos beats another of them drawn at random, a tie counting one half.

    Args:
        human (`Sequence[float]` of length m): People's ratings; at least two.

    Returns:
        `np.ndarray` of shape `(m,)`: in [0, 1], with a mean of 0.5.

    Raises:
        ValueError: If there are fewer than two ratings.
    """
    if len(human) < 2:
        raise ValueError(f"A video needs another one to win against, got {len(human)}.")
    ratings = np.asarray(human, dtype=float)
    wins = np.where(metrics.are_tied(ratings[:, None], ratings), 0.5, ratings[:, None] > ratings)
    return (wins.sum(axis=1) - 0.5) / (len(ratings) - 1)  # less the tie with itself


def judge_best_of_n(
    reward: str,
    items: Iterable[Item],
    dimension: str,
    scores: Scores,
    ns: Sequence[int] = (1, 2, 4, 8),
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> list[BestOfN]:
    """Compute best-of-n for several n.

    Args:
        reward (`str`): Name of who chooses.
        items (`Iterable[Item]`): Prompts with rated videos.
        dimension (`str`): Which ratings decide.
        scores (`Mapping[tuple[str, str], float]`): `(item_id, candidate_id)` to score.
        ns (`Sequence[int]`, defaults to `(1, 2, 4, 8)`): Out of how many to choose.
        bootstrap ([`Bootstrap`]): How intervals are made.

    Returns:
        `list[BestOfN]`: one for each n that some prompt has enough videos for.
    """
    groups = []
    for item in items:
        ratings = human_ratings(item, dimension)
        rated = {name: rating for name, rating in ratings.items() if (item.item_id, name) in scores}
        if len(rated) > 1:
            groups.append((item.prompt, list(rated.values()), [scores[item.item_id, name] for name in rated]))
    return [result for n in ns if (result := _judge(reward, n, groups, bootstrap)) is not None]


def people_choose(
    items: Iterable[Item], dimension: str, scored: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], float]:
    """Return people's own ratings as scores of the same videos: the upper bound of best-of-n."""
    wanted = set(scored)
    return {
        (item.item_id, name): rating
        for item in items
        for name, rating in human_ratings(item, dimension).items()
        if (item.item_id, name) in wanted
    }


def _judge(
    reward: str, n: int, groups: list[tuple[str, list[float], list[float]]], bootstrap: Bootstrap
) -> BestOfN | None:
    enough = [group for group in groups if len(group[1]) >= n]
    if not enough:
        return None
    rows: dict[str, list[float]] = {"rating": [], "win": [], "best": []}
    for _, human, scores in enough:
        chosen = choice_probabilities(scores, n)
        rows["rating"].append(float(chosen @ np.asarray(human)))
        rows["win"].append(float(chosen @ win_rates(human)))
        rows["best"].append(float(chosen @ metrics.are_tied(np.asarray(human), max(human))))
    means: Mapping[str, float] = {name: float(np.mean(values)) for name, values in rows.items()}
    return BestOfN(
        reward=reward,
        n=n,
        num_items=len(enough),
        rating=means["rating"],
        win_over_random=means["win"],
        interval=bootstrap.interval(rows["win"], [prompt for prompt, _, _ in enough]),
        win_over_best=means["best"] / 2,
        best_rate=means["best"],
    )
