"""How far a judge agrees with people, or with another judge.

Pairwise accuracy drops the reference's ties and says how the judge's count. Intervals resample items, not videos: the
videos of a prompt are not independent. Wu et al. 2024 (NeurIPS) report pairwise agreement on TVGE.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from videorm_hf.annotation.opinions import Opinions, Pair, PositionBias, Video
from videorm_hf.evaluation.metrics import (
    ScoreTies,
    kendall_tau_b,
    mean_interval,
    pair_credit,
    pairwise_accuracy,
    spearman,
)
from videorm_hf.videoprefer.items import MAX_RATING, MIN_RATING

STEPS = [1, 2, 3, 4, 5]
TIE_RULES: dict[ScoreTies, str] = {
    "half": "a tie of the judge counts one half",
    "wrong": "a tie of the judge counts as wrong",
    "drop": "a tie of the judge is left out",
}


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Args:
        value (`float`, *optional*): `None` where it is not defined, as for ratings that are all the same.
        interval (`tuple[float, float]`, *optional*): 95 % bootstrap interval; `None` for fewer than two items.
    """

    value: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class ModelAgreement:
    """Agreement on one source model's videos.

    Args:
        model (`str`): What made the videos.
        num_videos (`int`): Rated by both; of comparisons, shown in them.
        judge_mean (`float`, *optional*): Mean rating by the judge; `None` for comparisons.
        reference_mean (`float`, *optional*): Mean rating by the reference.
        accuracy ([`Estimate`]): On the pairs that have one of its videos.
        num_pairs (`int`): Pairs that count.
    """

    model: str
    num_videos: int
    judge_mean: float | None
    reference_mean: float | None
    accuracy: Estimate
    num_pairs: int


@dataclass(frozen=True)
class Agreement:
    """How far a judge agrees with a reference.

    Args:
        judge (`str`): Whose opinions are judged.
        reference (`str`): What they are judged by.
        judge_dimension (`str`): What the judge was asked.
        reference_dimension (`str`): What the reference was asked.
        tie_rule (`str`): What ties count.
        num_items (`int`): Items with a pair that both have an opinion on.
        num_videos (`int`): Videos that both have rated; 0 for comparisons.
        accuracy ([`Estimate`]): Share of pairs that the judge orders as the reference does.
        num_pairs (`int`): Pairs that count.
        num_reference_ties (`int`): Pairs dropped because the reference sees no difference.
        num_judge_ties (`int`): Pairs on which the reference sees a difference and the judge none.
        kendall_tau ([`Estimate`]): Tau-b over all videos.
        spearman ([`Estimate`]): Rank correlation over all videos.
        kappa ([`Estimate`]): Cohen's kappa of ratings rounded to whole steps.
        weighted_kappa ([`Estimate`]): The same with quadratic weights.
        confusion (`list[list[int]]`, *optional*): Videos by the reference's step (row) and the judge's (column).
        by_model (`list[ModelAgreement]`): By what made the videos.
        position ([`PositionBias`], *optional*): Of a judge that was asked in both orders.
        judge_failures (`dict[str, int]`): The judge's calls without an answer, by reason; not used.
    """

    judge: str
    reference: str
    judge_dimension: str
    reference_dimension: str
    tie_rule: str
    num_items: int
    num_videos: int
    accuracy: Estimate
    num_pairs: int
    num_reference_ties: int
    num_judge_ties: int
    kendall_tau: Estimate
    spearman: Estimate
    kappa: Estimate
    weighted_kappa: Estimate
    confusion: list[list[int]] | None
    by_model: list[ModelAgreement]
    position: PositionBias | None
    judge_failures: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        rates = self.position and {"swap_rate": self.position.swap_rate, "first_share": self.position.first_share}
        return asdict(self) | {"position": self.position and asdict(self.position) | (rates or {})}


def measure_agreement(
    judge: Opinions,
    reference: Opinions,
    models: Mapping[Video, str] | None = None,
    *,
    score_ties: ScoreTies = "half",
    num_resamples: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Compare a judge's opinions with a reference, on what both have an opinion on.

    Args:
        judge ([`Opinions`]): Of a judge.
        reference ([`Opinions`]): Of people, or of another judge.
        models (`Mapping`, *optional*): Video to what made it, for the figures by source model.
        score_ties (`"half"`, `"wrong"` or `"drop"`, defaults to `"half"`): What a tie of the judge counts.
        num_resamples (`int`, defaults to 1000): Of the bootstrap intervals.
        seed (`int`, defaults to 0): Of the bootstrap intervals.

    Returns:
        [`Agreement`]

    Raises:
        ValueError: If there is no pair that both have an opinion on and the reference sees a difference in.
    """
    pairs = sorted(judge.pairs.keys() & reference.pairs.keys())
    if not pairs:
        raise ValueError(
            f"{judge.name} has opinions on {len(judge.pairs)} pairs, {reference.name} on {len(reference.pairs)}, and "
            "none is the same: compare their item_id and candidate_id."
        )
    counted = pairwise_accuracy(*_columns(pairs, judge, reference), score_ties=score_ties)
    videos = sorted(judge.ratings.keys() & reference.ratings.keys())
    resample = _Resampler(videos, judge, reference, num_resamples, seed)
    has_steps = videos and all(
        MIN_RATING <= opinions.ratings[video] <= MAX_RATING for opinions in (judge, reference) for video in videos
    )
    return Agreement(
        judge=judge.name,
        reference=reference.name,
        judge_dimension=judge.dimension,
        reference_dimension=reference.dimension,
        tie_rule=f"ties of the reference are dropped, {TIE_RULES[score_ties]}",
        num_items=len({pair[0] for pair in pairs}),
        num_videos=len(videos),
        accuracy=Estimate(
            counted.accuracy, _accuracy_interval(pairs, judge, reference, score_ties, num_resamples, seed)
        ),
        num_pairs=counted.num_pairs,
        num_reference_ties=counted.num_human_ties,
        num_judge_ties=counted.num_score_ties,
        kendall_tau=resample.estimate(kendall_tau_b),
        spearman=resample.estimate(spearman),
        kappa=resample.estimate(_kappa) if has_steps else Estimate(None),
        weighted_kappa=resample.estimate(_weighted_kappa) if has_steps else Estimate(None),
        confusion=_confusion(videos, judge, reference) if has_steps else None,
        by_model=_by_model(pairs, judge, reference, models or {}, score_ties, num_resamples, seed),
        position=judge.position,
        judge_failures=dict(judge.failures),
    )


class _Resampler:
    """Figures of two columns of ratings, with intervals from whole items drawn anew."""

    def __init__(
        self, videos: Sequence[Video], judge: Opinions, reference: Opinions, num_resamples: int, seed: int
    ) -> None:
        self.reference = np.array([reference.ratings[video] for video in videos])
        self.judge = np.array([judge.ratings[video] for video in videos])
        rows: dict[str, list[int]] = {}
        for row, (item_id, _) in enumerate(videos):
            rows.setdefault(item_id, []).append(row)
        self.rows_of_items = list(rows.values())
        self.num_resamples, self.seed = num_resamples, seed

    def estimate(self, statistic: Callable[[Any, Any], float | None]) -> Estimate:
        value = statistic(self.reference, self.judge) if len(self.judge) else None
        if value is None or len(self.rows_of_items) < 2:
            return Estimate(value)
        generator = np.random.default_rng(self.seed)
        values = []
        for _ in range(self.num_resamples):
            drawn = generator.integers(len(self.rows_of_items), size=len(self.rows_of_items))
            rows = np.concatenate([self.rows_of_items[item] for item in drawn])
            values.append(statistic(self.reference[rows], self.judge[rows]))
        defined = [value for value in values if value is not None]
        return Estimate(value, tuple(np.percentile(defined, [2.5, 97.5]).tolist()) if defined else None)


def _columns(
    pairs: Sequence[Pair], judge: Opinions, reference: Opinions
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return human_a, human_b, score_a, score_b, as the metrics take them."""
    human_a, human_b = ([reference.pairs[pair][side] for pair in pairs] for side in (0, 1))
    score_a, score_b = ([judge.pairs[pair][side] for pair in pairs] for side in (0, 1))
    return human_a, human_b, score_a, score_b


def _accuracy_interval(
    pairs: Sequence[Pair], judge: Opinions, reference: Opinions, score_ties: ScoreTies, num_resamples: int, seed: int
) -> tuple[float, float] | None:
    kept = [pair for pair in pairs if len(pair_credit(*_columns([pair], judge, reference), score_ties))]
    credit = pair_credit(*_columns(kept, judge, reference), score_ties)
    return mean_interval(credit, [pair[0] for pair in kept], num_resamples=num_resamples, seed=seed)


def _by_model(
    pairs: Sequence[Pair],
    judge: Opinions,
    reference: Opinions,
    models: Mapping[Video, str],
    score_ties: ScoreTies,
    num_resamples: int,
    seed: int,
) -> list[ModelAgreement]:
    rows = []
    for model in sorted(set(models.values())):
        mine = [pair for pair in pairs if model in (models.get(pair[:2]), models.get((pair[0], pair[2])))]
        shown = {video for item, a, b in mine for video in ((item, a), (item, b)) if models.get(video) == model}
        rated = sorted(shown & judge.ratings.keys() & reference.ratings.keys())
        credit = pair_credit(*_columns(mine, judge, reference), score_ties)
        interval = _accuracy_interval(mine, judge, reference, score_ties, num_resamples, seed) if len(credit) else None
        rows.append(
            ModelAgreement(
                model=model,
                num_videos=len(shown),
                judge_mean=_mean(judge, rated),
                reference_mean=_mean(reference, rated),
                accuracy=Estimate(float(credit.mean()) if len(credit) else None, interval),
                num_pairs=len(credit),
            )
        )
    return rows


def _mean(opinions: Opinions, videos: Sequence[Video]) -> float | None:
    return float(np.mean([opinions.ratings[video] for video in videos])) if videos else None


def _steps(ratings: Any) -> Any:
    """Round ratings to whole steps, halves up."""
    return np.floor(np.asarray(ratings) + 0.5).astype(int)


def _kappa(reference: Any, judge: Any, weights: str | None = None) -> float | None:
    reference, judge = _steps(reference), _steps(judge)
    if len(np.unique(np.concatenate([reference, judge]))) < 2:
        return None  # all the same step: chance agreement is total
    return float(cohen_kappa_score(reference, judge, labels=STEPS, weights=weights))


def _weighted_kappa(reference: Any, judge: Any) -> float | None:
    return _kappa(reference, judge, "quadratic")


def _confusion(videos: Sequence[Video], judge: Opinions, reference: Opinions) -> list[list[int]]:
    rows, columns = ([opinions.ratings[video] for video in videos] for opinions in (reference, judge))
    return confusion_matrix(_steps(rows), _steps(columns), labels=STEPS).tolist()
