"""Scores against labels: a reward's agreement with people, by dimension and by source model. No model is run here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from videorm_hf.evaluation import metrics
from videorm_hf.evaluation.labels import LabelledPair, human_ratings
from videorm_hf.evaluation.results import DimensionResult, ModelResult
from videorm_hf.videoprefer.items import Item

# (item_id, candidate_id) to score; videos without one are absent.
Scores = Mapping[tuple[str, str], float]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are made, and prompts split in halves.

    Args:
        confidence (`float`, defaults to 0.95): Share of resamples inside.
        num_resamples (`int`, defaults to 1000): How often the prompts are drawn anew.
        seed (`int`, defaults to 0): Of draws and split.

    Raises:
        ValueError: If a number is out of range.
    """

    confidence: float = 0.95
    num_resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, got {self.confidence}.")
        if self.num_resamples < 1:
            raise ValueError(f"num_resamples must be at least 1, got {self.num_resamples}.")

    def interval(self, values: Sequence[float] | _Floats, prompts: Sequence[str]) -> tuple[float, float] | None:
        """Return the interval of a mean over prompts; see [`metrics.mean_interval`]."""
        return metrics.mean_interval(
            values, prompts, confidence=self.confidence, num_resamples=self.num_resamples, seed=self.seed
        )


DEFAULT_BOOTSTRAP = Bootstrap()


def judge_dimension(
    dimension: str,
    pairs: Sequence[LabelledPair],
    scores: Scores,
    items: Iterable[Item] = (),
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> DimensionResult:
    """Compare scores with people in one dimension.

    Args:
        dimension (`str`): Its name.
        pairs (`Sequence[LabelledPair]`): What people think, ties among them.
        scores (`Mapping[tuple[str, str], float]`): `(item_id, candidate_id)` to score.
        items (`Iterable[Item]`): Ratings of single videos, for the rank correlations; none for votes.
        bootstrap ([`Bootstrap`]): How intervals are made.

    Returns:
        [`DimensionResult`]: pairs without both scores are left out and counted.
    """
    scored = _scored(pairs, scores)
    arrays = _arrays(scored, scores)
    # None of these exists without pairs; accuracies also need one that people do not call tied.
    accuracy = wrong = interval = three_way = None
    ties = sum(not untied for untied in _untied(scored))
    if len(scored) > ties:
        accuracy = metrics.pairwise_accuracy(*arrays)
        wrong = metrics.pairwise_accuracy(*arrays, score_ties="wrong").accuracy
        prompts = [pair.prompt for pair, untied in zip(scored, _untied(scored), strict=True) if untied]
        interval = bootstrap.interval(metrics.pair_credit(*arrays), prompts)
    if scored:
        three_way = metrics.three_way_accuracy(*arrays)
    human, score = _ratings_and_scores(items, dimension, scores)
    return DimensionResult(
        dimension=dimension,
        num_pairs=len(scored) - ties,
        num_human_ties=ties,
        num_score_ties=accuracy.num_score_ties if accuracy else 0,
        num_left_out=len(pairs) - len(scored),
        accuracy=accuracy.accuracy if accuracy else None,
        interval=interval,
        accuracy_ties_wrong=wrong,
        three_way_accuracy=three_way.accuracy if three_way else None,
        tie_threshold=three_way.threshold if three_way else None,
        three_way_held_out=_held_out_three_way(scored, scores, bootstrap.seed),
        kendall=metrics.kendall_tau_b(human, score),
        spearman=metrics.spearman(human, score),
    )


def judge_models(
    dimension: str, pairs: Sequence[LabelledPair], scores: Scores, models: Mapping[tuple[str, str], str]
) -> list[ModelResult]:
    """Compare scores with people on each source model's videos.

    Args:
        dimension (`str`): Its name.
        pairs (`Sequence[LabelledPair]`): What people think.
        scores (`Mapping[tuple[str, str], float]`): `(item_id, candidate_id)` to score.
        models (`Mapping[tuple[str, str], str]`): `(item_id, candidate_id)` to what made the video.

    Returns:
        `list[ModelResult]`: sorted by model; pairs within a model are left out.
    """
    by_model: dict[str, list[LabelledPair]] = {}
    for pair in _scored(pairs, scores):
        for mine, other in ((pair.a_id, pair.b_id), (pair.b_id, pair.a_id)):
            model = models[pair.item_id, mine]
            if model != models[pair.item_id, other]:
                turned = pair if mine == pair.a_id else _turned(pair)
                by_model.setdefault(model, []).append(turned)
    return [_model_result(dimension, model, mine, scores) for model, mine in sorted(by_model.items())]


def _model_result(dimension: str, model: str, pairs: list[LabelledPair], scores: Scores) -> ModelResult:
    """Judge pairs whose first video is the model's."""
    human_a, human_b, score_a, score_b = arrays = _arrays(pairs, scores)
    videos = {(pair.item_id, pair.a_id) for pair in pairs}
    return ModelResult(
        dimension=dimension,
        model=model,
        num_pairs=len(pairs),
        human_win_rate=float(np.where(metrics.are_tied(human_a, human_b), 0.5, human_a > human_b).mean()),
        score_win_rate=float(np.where(score_a == score_b, 0.5, score_a > score_b).mean()),
        accuracy=metrics.pairwise_accuracy(*arrays).accuracy if any(_untied(pairs)) else None,
        mean_score=float(np.mean([scores[video] for video in sorted(videos)])),
    )


def _scored(pairs: Sequence[LabelledPair], scores: Scores) -> list[LabelledPair]:
    return [pair for pair in pairs if (pair.item_id, pair.a_id) in scores and (pair.item_id, pair.b_id) in scores]


def _arrays(pairs: Sequence[LabelledPair], scores: Scores) -> tuple[_Floats, _Floats, _Floats, _Floats]:
    """Return `human_a, human_b, score_a, score_b`, each of shape `(num_pairs,)`."""
    return (
        np.array([pair.human_a for pair in pairs], dtype=float),
        np.array([pair.human_b for pair in pairs], dtype=float),
        np.array([scores[pair.item_id, pair.a_id] for pair in pairs], dtype=float),
        np.array([scores[pair.item_id, pair.b_id] for pair in pairs], dtype=float),
    )


def _untied(pairs: Sequence[LabelledPair]) -> list[bool]:
    """Tell of each pair whether people see a difference."""
    return [not metrics.are_tied(pair.human_a, pair.human_b) for pair in pairs]


def _turned(pair: LabelledPair) -> LabelledPair:
    return LabelledPair(pair.item_id, pair.prompt, pair.dimension, pair.b_id, pair.a_id, pair.human_b, pair.human_a)


def _held_out_three_way(pairs: list[LabelledPair], scores: Scores, seed: int) -> float | None:
    """Fit the tie threshold on one half of the prompts, judge the other, and the reverse; pool both."""
    prompts = sorted({pair.prompt for pair in pairs})
    if len(prompts) < 2:
        return None
    np.random.default_rng(seed).shuffle(prompts)
    first = set(prompts[: len(prompts) // 2])
    halves = [[pair for pair in pairs if (pair.prompt in first) == is_first] for is_first in (True, False)]
    right = 0.0
    for half, other in (halves, halves[::-1]):
        threshold = metrics.fit_tie_threshold(*_arrays(other, scores))
        right += metrics.three_way_accuracy(*_arrays(half, scores), threshold=threshold).accuracy * len(half)
    return right / len(pairs)


def _ratings_and_scores(items: Iterable[Item], dimension: str, scores: Scores) -> tuple[list[float], list[float]]:
    both = [
        (rating, scores[item.item_id, candidate_id])
        for item in items
        for candidate_id, rating in human_ratings(item, dimension).items()
        if (item.item_id, candidate_id) in scores
    ]
    return [human for human, _ in both], [score for _, score in both]
