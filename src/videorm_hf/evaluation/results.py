"""What an evaluation found, as dataclasses that go to JSON and come back, and as rows of tables."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TIE_RULE = (
    "pairs that people call tied are dropped, and a tied score counts one half; beside it stands the accuracy if a "
    "tied score counted as wrong"
)

Interval = tuple[float, float]


@dataclass(frozen=True)
class DimensionResult:
    """How well a reward agrees with people in one dimension; `None` where nothing can be said.

    Args:
        dimension (`str`): What people judged.
        num_pairs (`int`): Pairs that people do not call tied and whose videos both have a score.
        num_human_ties (`int`): Pairs that people call tied.
        num_score_ties (`int`): Of `num_pairs`, those with equal scores.
        num_left_out (`int`): Pairs of which a video has no score.
        accuracy (`float`, *optional*): Pairwise accuracy, a tied score counting one half.
        interval (`tuple[float, float]`, *optional*): Its bootstrap interval over prompts.
        accuracy_ties_wrong (`float`, *optional*): The same if a tied score counted as wrong.
        three_way_accuracy (`float`, *optional*): A, B or tie; threshold fitted on these very pairs, so optimistic.
        tie_threshold (`float`, *optional*): That threshold.
        three_way_held_out (`float`, *optional*): A, B or tie; threshold fitted on the other half of the prompts.
        kendall (`float`, *optional*): Tau-b of ratings and scores over all videos; of votes there are no ratings.
        spearman (`float`, *optional*): Rank correlation over all videos.
    """

    dimension: str
    num_pairs: int
    num_human_ties: int
    num_score_ties: int
    num_left_out: int
    accuracy: float | None
    interval: Interval | None
    accuracy_ties_wrong: float | None
    three_way_accuracy: float | None
    tie_threshold: float | None
    three_way_held_out: float | None
    kendall: float | None
    spearman: float | None


@dataclass(frozen=True)
class ModelResult:
    """How people and a reward see the videos of one source model in one dimension.

    Args:
        dimension (`str`): What people judged.
        model (`str`): What made the videos.
        num_pairs (`int`): Pairs with one video of this model and one of another, both with a score.
        human_win_rate (`float`): How often people prefer this model's video, a tie counting one half.
        score_win_rate (`float`): How often the score does, on the same pairs.
        accuracy (`float`, *optional*): Pairwise accuracy on the pairs that people do not call tied.
        mean_score (`float`): Mean score of the model's videos.
    """

    dimension: str
    model: str
    num_pairs: int
    human_win_rate: float
    score_win_rate: float
    accuracy: float | None
    mean_score: float


@dataclass(frozen=True)
class RobustnessResult:
    """What becomes of a reward when the prompt or the video is altered.

    Args:
        check (`str`): `"other_prompt"`, or a name in `variants.VARIANTS`.
        should (`str`): `"heed"` if a good reward notices, `"ignore"` if it does not.
        num_videos (`int`): Videos scored both ways.
        original_wins (`float`, *optional*): Share of videos that score higher as they are than altered, a tie counting
            one half: 1 if the reward always sees the harm, 0.5 if it sees none.
        interval (`tuple[float, float]`, *optional*): Its bootstrap interval over prompts.
        drift (`float`, *optional*): Mean absolute change of the score, in standard deviations of the scores of all
            unaltered videos.
        flipped (`float`, *optional*): Share of the pairs of a prompt's videos whose order changes when both are
            altered; a pair that becomes tied counts one half.
        num_pairs (`int`): Such pairs, those with equal scores before left out.
    """

    check: str
    should: str
    num_videos: int
    original_wins: float | None
    interval: Interval | None
    drift: float | None
    flipped: float | None
    num_pairs: int


@dataclass(frozen=True)
class RewardResult:
    """One reward on one labelled set.

    Args:
        name (`str`): Short name in tables.
        settings (`dict`): What the scores depend on; see `video_scores.reward_settings`.
        num_scored (`int`): Videos with a score.
        failures (`dict[str, int]`): Number of videos without, by reason.
        first_failure (`str`, *optional*): What was found at the first of these, for a person.
        seconds_per_video (`float`, *optional*): Mean time of the reward alone; `None` for published metrics.
        dimensions (`tuple[DimensionResult, ...]`): One a dimension.
        models (`tuple[ModelResult, ...]`): One a source model and dimension.
        robustness (`tuple[RobustnessResult, ...]`): Empty where it was not asked for.
    """

    name: str
    settings: dict[str, Any]
    num_scored: int
    failures: dict[str, int]
    first_failure: str | None
    seconds_per_video: float | None
    dimensions: tuple[DimensionResult, ...]
    models: tuple[ModelResult, ...]
    robustness: tuple[RobustnessResult, ...] = ()


@dataclass(frozen=True)
class EvaluationReport:
    """All rewards on one labelled set.

    Args:
        benchmark (`dict[str, str]`): Name, title, licence and source of the set.
        num_items (`int`): Its prompts.
        confidence (`float`): Of all intervals.
        num_resamples (`int`): Of the bootstrap.
        seed (`int`): Of bootstrap and splits.
        rewards (`tuple[RewardResult, ...]`): In the order asked for.
        tie_rule (`str`): How ties count, in words.
    """

    benchmark: dict[str, str]
    num_items: int
    confidence: float
    num_resamples: int
    seed: int
    rewards: tuple[RewardResult, ...]
    tie_rule: str = TIE_RULE

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as JSON."""
        Path(path).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "EvaluationReport":
        """Read a report that [`save`] wrote."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        rewards = tuple(_reward(row) for row in content.pop("rewards"))
        return cls(rewards=rewards, **content)


def accuracy_rows(report: EvaluationReport) -> list[dict[str, Any]]:
    """Return a row for each reward and dimension, accuracies in percent."""
    return [
        {
            "reward": reward.name,
            "dimension": result.dimension,
            "accuracy %": _percent(result.accuracy),
            f"{report.confidence:.0%} interval": _percent_interval(result.interval),
            "ties wrong %": _percent(result.accuracy_ties_wrong),
            "pairs": result.num_pairs,
            "human ties": result.num_human_ties,
            "score ties": result.num_score_ties,
            "left out": result.num_left_out,
            "3-way %": _percent(result.three_way_accuracy),
            "3-way held out %": _percent(result.three_way_held_out),
            "Kendall": result.kendall,
            "Spearman": result.spearman,
        }
        for reward in report.rewards
        for result in reward.dimensions
    ]


def model_rows(report: EvaluationReport) -> list[dict[str, Any]]:
    """Return a row for each reward, dimension and source model, rates in percent."""
    return [
        {
            "reward": reward.name,
            "dimension": result.dimension,
            "model": result.model,
            "pairs": result.num_pairs,
            "wins by people %": _percent(result.human_win_rate),
            "wins by score %": _percent(result.score_win_rate),
            "accuracy %": _percent(result.accuracy),
            "mean score": result.mean_score,
        }
        for reward in report.rewards
        for result in reward.models
    ]


def robustness_rows(report: EvaluationReport) -> list[dict[str, Any]]:
    """Return a row for each reward and robustness check."""
    return [
        {
            "reward": reward.name,
            "altered": result.check,
            "should": result.should,
            "videos": result.num_videos,
            "original wins %": _percent(result.original_wins),
            f"{report.confidence:.0%} interval": _percent_interval(result.interval),
            "drift (SD)": result.drift,
            "flipped %": _percent(result.flipped),
            "pairs": result.num_pairs,
        }
        for reward in report.rewards
        for result in reward.robustness
    ]


def scoring_rows(report: EvaluationReport) -> list[dict[str, Any]]:
    """Return a row for each reward: videos scored and not, and the time of one."""
    return [
        {
            "reward": reward.name,
            "videos scored": reward.num_scored,
            "not scored": ", ".join(f"{count} {reason}" for reason, count in reward.failures.items()) or None,
            "the first": reward.first_failure,
            "ms per video": None if reward.seconds_per_video is None else 1000 * reward.seconds_per_video,
        }
        for reward in report.rewards
    ]


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)


def _percent_interval(interval: Interval | None) -> str | None:
    return None if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def _reward(row: dict[str, Any]) -> RewardResult:
    dimensions = tuple(DimensionResult(**_with_interval(result)) for result in row.pop("dimensions"))
    models = tuple(ModelResult(**result) for result in row.pop("models"))
    robustness = tuple(RobustnessResult(**_with_interval(result)) for result in row.pop("robustness"))
    return RewardResult(dimensions=dimensions, models=models, robustness=robustness, **row)


def _with_interval(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"interval": None if row["interval"] is None else tuple(row["interval"])}
