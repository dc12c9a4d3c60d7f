"""Agreement of a score with people: pure functions of numbers.

Pairwise accuracy drops human ties and counts a tied score one half. How a tied score counts moves a published metric
of TVGE by 20 points, so it is a setting and is said with every accuracy. Three-way accuracy also asks for ties, with
the threshold of Deutsch et al. 2023 (EMNLP, 2305.14324). Intervals resample prompts, not pairs: the pairs of a prompt
share its videos and are not independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from videorm_hf.videoprefer.items import TIE_TOLERANCE

ScoreTies = Literal["half", "wrong", "drop"]

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairwiseAccuracy:
    """How often a score orders two videos as people do.

    Args:
        accuracy (`float`): In [0, 1]; 0.5 is chance.
        num_pairs (`int`): Pairs that count.
        num_human_ties (`int`): Pairs dropped because people see no difference.
        num_score_ties (`int`): Pairs on which people differ and the score does not.
    """

    accuracy: float
    num_pairs: int
    num_human_ties: int
    num_score_ties: int


@dataclass(frozen=True)
class ThreeWayAccuracy:
    """How often a score says A, B or tie as people do.

    Args:
        accuracy (`float`): In [0, 1].
        threshold (`float`): Scores that differ by at most this count as tied.
        num_pairs (`int`): All pairs, human ties among them.
        num_human_ties (`int`): Pairs that people call tied.
    """

    accuracy: float
    threshold: float
    num_pairs: int
    num_human_ties: int


def pairwise_accuracy(
    human_a: ArrayLike,
    human_b: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    score_ties: ScoreTies = "half",
) -> PairwiseAccuracy:
    """Count the pairs that a score orders as people do; pairs that people call tied are dropped.

    Args:
        human_a (`ArrayLike` of shape `(num_pairs,)`): People's rating of the first video of each pair.
        human_b (`ArrayLike` of shape `(num_pairs,)`): People's rating of the second.
        score_a (`ArrayLike` of shape `(num_pairs,)`): The score of the first video.
        score_b (`ArrayLike` of shape `(num_pairs,)`): The score of the second.
        score_ties (`"half"`, `"wrong"` or `"drop"`, defaults to `"half"`):
            What a tied score counts where people differ: one half, nothing, or the pair is left out.

    Returns:
        [`PairwiseAccuracy`]

    Raises:
        ValueError: If a value is NaN, the shapes differ, `score_ties` is unknown, or no pair is left to count.

    Example:

    ```python
    >>> from videorm_hf.evaluation.metrics import pairwise_accuracy

    >>> pairwise_accuracy([5, 3, 2], [1, 3, 4], [0.9, 0.1, 0.5], [0.2, 0.8, 0.5])
    PairwiseAccuracy(accuracy=0.75, num_pairs=2, num_human_ties=1, num_score_ties=1)
    ```
    """
    if score_ties not in get_args(ScoreTies):
        raise ValueError(f"score_ties must be one of {', '.join(get_args(ScoreTies))}, got {score_ties!r}.")
    human, score = _signs(human_a, human_b, score_a, score_b)
    untied = human != 0
    num_score_ties = int((score[untied] == 0).sum())
    credit = pair_credit(human_a, human_b, score_a, score_b, score_ties)
    if len(credit) == 0:
        raise ValueError(
            f"None of {len(human)} pairs can be counted: people see a difference in {int(untied.sum())}, and of "
            f"these the score is tied in {num_score_ties} (score_ties={score_ties!r})."
        )
    return PairwiseAccuracy(float(credit.mean()), len(credit), int((~untied).sum()), num_score_ties)


def pair_credit(
    human_a: ArrayLike, human_b: ArrayLike, score_a: ArrayLike, score_b: ArrayLike, score_ties: ScoreTies = "half"
) -> _Floats:
    """Return what each pair that counts adds to the accuracy: 1, 0.5 or 0; see [`pairwise_accuracy`]."""
    human, score = _signs(human_a, human_b, score_a, score_b)
    counted = human != 0
    if score_ties == "drop":
        counted &= score != 0
    tied = 0.5 if score_ties == "half" else 0.0
    return np.where(score == 0, tied, (human == score).astype(float))[counted]


def are_tied(human_a: ArrayLike, human_b: ArrayLike) -> Any:
    """Tell, element by element, whether people see no difference: ratings closer than 1e-9 are equal."""
    return np.abs(np.asarray(human_a, float) - np.asarray(human_b, float)) < TIE_TOLERANCE


def fit_tie_threshold(human_a: ArrayLike, human_b: ArrayLike, score_a: ArrayLike, score_b: ArrayLike) -> float:
    """Choose the difference of scores up to which to say "tie", for the best three-way accuracy on these pairs.

    Tried are 0 and every difference that occurs; of equally good ones the smallest is taken.

    Args:
        human_a (`ArrayLike` of shape `(num_pairs,)`): People's rating of the first video of each pair.
        human_b (`ArrayLike` of shape `(num_pairs,)`): People's rating of the second.
        score_a (`ArrayLike` of shape `(num_pairs,)`): The score of the first video.
        score_b (`ArrayLike` of shape `(num_pairs,)`): The score of the second.

    Returns:
        `float`: at least 0.

    Raises:
        ValueError: If there is no pair.

    Reference:
        Deutsch et al. 2023 (arXiv 2305.14324), tie calibration. Differs: none.
    """
    human, score = _signs(human_a, human_b, score_a, score_b)
    if len(human) == 0:
        raise ValueError("A tie threshold needs at least one pair.")
    size = np.abs(np.asarray(score_a, float) - np.asarray(score_b, float))
    order = np.argsort(size, kind="stable")
    size, human, score = size[order], human[order], score[order]
    # At a threshold of size[i], pairs 0..i are called tied and the others by their sign.
    ties_right = np.cumsum(human == 0)
    signs_right = ((human == score) & (score != 0)).astype(int)
    right = ties_right + signs_right.sum() - np.cumsum(signs_right)
    last_of_equal = np.append(size[1:] != size[:-1], True)
    thresholds, right = size[last_of_equal], right[last_of_equal]
    if thresholds[0] > 0:
        thresholds, right = np.append(0.0, thresholds), np.append(signs_right.sum(), right)
    return float(thresholds[np.argmax(right)])


def three_way_accuracy(
    human_a: ArrayLike,
    human_b: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    threshold: float | None = None,
) -> ThreeWayAccuracy:
    """Count the pairs of which a score says A, B or tie as people do.

    Args:
        human_a (`ArrayLike` of shape `(num_pairs,)`): People's rating of the first video of each pair.
        human_b (`ArrayLike` of shape `(num_pairs,)`): People's rating of the second.
        score_a (`ArrayLike` of shape `(num_pairs,)`): The score of the first video.
        score_b (`ArrayLike` of shape `(num_pairs,)`): The score of the second.
        threshold (`float`, *optional*):
            Scores that differ by at most this are tied. Fit it on other pairs with [`fit_tie_threshold`]; by default
            it is fitted on these very pairs, and the accuracy is then optimistic.

    Returns:
        [`ThreeWayAccuracy`]

    Raises:
        ValueError: If a value is NaN, the shapes differ, or `threshold` is negative.
    """
    threshold = fit_tie_threshold(human_a, human_b, score_a, score_b) if threshold is None else float(threshold)
    if not threshold >= 0:
        raise ValueError(f"threshold must be at least 0, got {threshold}.")
    human, score = _signs(human_a, human_b, score_a, score_b)
    size = np.abs(np.asarray(score_a, float) - np.asarray(score_b, float))
    said = np.where(size <= threshold, 0, score)
    return ThreeWayAccuracy(float((said == human).mean()), threshold, len(human), int((human == 0).sum()))


def kendall_tau_b(human: ArrayLike, score: ArrayLike) -> float | None:
    """Return Kendall's tau-b of ratings and scores, both of shape `(num_videos,)`; `None` where one is constant."""
    return _correlation(stats.kendalltau, human, score)


def spearman(human: ArrayLike, score: ArrayLike) -> float | None:
    """Return Spearman's rank correlation of ratings and scores; `None` where one of them is constant."""
    return _correlation(stats.spearmanr, human, score)


def mean_interval(
    values: ArrayLike,
    clusters: Sequence[Any],
    *,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of a mean, resampling whole clusters.

    Args:
        values (`ArrayLike` of shape `(num_values,)`): What is averaged, such as [`pair_credit`].
        clusters (`Sequence` of length `num_values`): What each value belongs to, such as its prompt.
        confidence (`float`, defaults to 0.95): Share of resamples inside.
        num_resamples (`int`, defaults to 1000): How often all clusters are drawn anew.
        seed (`int`, defaults to 0): Of the draws.

    Returns:
        `tuple[float, float]`: both ends; `None` for fewer than two clusters, of which nothing can be said.

    Raises:
        ValueError: If a value is NaN or the lengths differ.
    """
    array = _floats("values", values)
    if len(array) != len(clusters):
        raise ValueError(f"Expected one cluster a value, got {len(clusters)} for {len(array)}.")
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    if len(numbers) < 2:
        return None
    index = np.array([numbers[cluster] for cluster in clusters])
    sums, counts = np.bincount(index, array), np.bincount(index)
    interval = stats.bootstrap(
        (sums, counts),
        lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=confidence,
        n_resamples=num_resamples,
        batch=100,
        rng=seed,
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _signs(*arrays: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Check `human_a, human_b, score_a, score_b` and return who wins by people and by score: 1, 0 or -1."""
    names = ("human_a", "human_b", "score_a", "score_b")
    human_a, human_b, score_a, score_b = (_floats(name, array) for name, array in zip(names, arrays, strict=True))
    if len({len(human_a), len(human_b), len(score_a), len(score_b)}) > 1:
        lengths = ", ".join(f"{name} {np.size(array)}" for name, array in zip(names, arrays, strict=True))
        raise ValueError(f"Expected four arrays of one length, got {lengths}.")
    human = np.where(are_tied(human_a, human_b), 0, np.sign(human_a - human_b))
    return human.astype(int), np.sign(score_a - score_b).astype(int)


def _floats(name: str, array: ArrayLike) -> _Floats:
    values = np.asarray(array, dtype=float)
    if values.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {values.shape}.")
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(f"{name} holds {values[place]} at position {place}; leave such videos out and count them.")
    return values


def _correlation(function: Any, human: ArrayLike, score: ArrayLike) -> float | None:
    human, score = _floats("human", human), _floats("score", score)
    if len(human) != len(score):
        raise ValueError(f"Expected one score a rating, got {len(score)} for {len(human)}.")
    if len(np.unique(human)) < 2 or len(np.unique(score)) < 2:
        return None
    return float(function(human, score).statistic)
