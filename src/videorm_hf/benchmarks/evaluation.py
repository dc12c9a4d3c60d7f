"""A labelled set and rewards to a report; the scores are kept in the output folder, so that it can be interrupted."""

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from videorm_hf.benchmarks.benchmark import Benchmark
from videorm_hf.evaluation.evaluator import DEFAULT_BOOTSTRAP, Bootstrap, judge_dimension, judge_models
from videorm_hf.evaluation.labels import LabelledPair
from videorm_hf.evaluation.results import EvaluationReport, RewardResult
from videorm_hf.evaluation.robustness import altered_requests, judge_robustness
from videorm_hf.evaluation.score_store import ScoreStore
from videorm_hf.evaluation.variants import ORIGINAL
from videorm_hf.evaluation.video_scores import (
    Failure,
    ScoringSettings,
    VideoRequest,
    frames_for,
    reward_settings,
    score_requests,
)
from videorm_hf.rewards import check_reward, load_reward

logger = logging.getLogger(__name__)

# `column:CLIP Score` judges a metric that the set was published with.
COLUMN = "column:"


@dataclass(frozen=True)
class RewardScores:
    """The scores of one reward on the videos of a labelled set.

    Args:
        name (`str`): Short name.
        settings (`dict`): What the scores depend on.
        scores (`Mapping[tuple[str, str], float]`): `(item_id, candidate_id)` to score.
        failures (`Mapping[VideoRequest, Failure]`): Why videos have none; empty for a published metric.
        seconds_per_video (`float`, *optional*): Mean time of the reward alone.
        requests (`Mapping[tuple[str, str], VideoRequest]`): What was scored of each video.
        rewards (`Mapping[VideoRequest, float]`): All scores, also of altered videos.
        plans (`Mapping`): What was altered; see [`altered_requests`].
    """

    name: str
    settings: dict[str, Any]
    scores: Mapping[tuple[str, str], float]
    failures: Mapping[VideoRequest, Failure] = field(default_factory=dict)
    seconds_per_video: float | None = None
    requests: Mapping[tuple[str, str], VideoRequest] = field(default_factory=dict)
    rewards: Mapping[VideoRequest, float] = field(default_factory=dict)
    plans: Mapping[str, Mapping[VideoRequest, VideoRequest]] = field(default_factory=dict)

    @property
    def first_failure(self) -> str | None:
        """What was found at the first video without a score."""
        failed = (self.failures[request] for request in self.requests.values() if request in self.failures)
        return next((failure.message for failure in failed), None)

    @property
    def failure_counts(self) -> dict[str, int]:
        """Number of unaltered videos without a score, by reason, the most frequent first."""
        failed = (self.failures[request] for request in self.requests.values() if request in self.failures)
        return dict(Counter(failure.reason for failure in failed).most_common())


def evaluate_rewards(
    benchmark: Benchmark,
    rewards: Sequence[str],
    output: str | os.PathLike[str],
    *,
    dimensions: Sequence[str] | None = None,
    settings: ScoringSettings | None = None,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    robustness: bool = False,
) -> EvaluationReport:
    """Judge rewards by people's labels.

    Args:
        benchmark ([`Benchmark`]): What people labelled.
        rewards (`Sequence[str]`): What [`load_reward`] takes, or `column:NAME` for a metric published with the set.
        output (`str` or `os.PathLike`): Folder in which the scores are kept, in `scores/`.
        dimensions (`Sequence[str]`, *optional*): Which; by default all.
        settings ([`ScoringSettings`], *optional*): How videos are scored.
        bootstrap ([`Bootstrap`], *optional*): How intervals are made.
        robustness (`bool`, defaults to `False`): Also score altered videos and prompts; about ten times the work.

    Returns:
        [`EvaluationReport`]

    An unknown dimension or metric, and kept scores of another reward, are a `ValueError`.

    Example:

    ```python
    >>> from videorm_hf.benchmarks import get_benchmark
    >>> from videorm_hf.benchmarks.evaluation import evaluate_rewards

    >>> tvge = get_benchmark("tvge", "path/to/t2v_metrics/datasets")
    >>> report = evaluate_rewards(tvge, ["column:CLIP Score"], "out", dimensions=["alignment"])
    ```
    """
    dimensions = benchmark.dimensions if dimensions is None else tuple(dimensions)
    pairs = {dimension: benchmark.pairs(dimension) for dimension in dimensions}
    videos = {(p.item_id, c) for of_dimension in pairs.values() for p in of_dimension for c in (p.a_id, p.b_id)}
    results = []
    for name, spec in zip(reward_names(rewards), rewards, strict=True):
        scored = score_benchmark(
            benchmark, spec, name, output, videos=videos, settings=settings, robustness=robustness, seed=bootstrap.seed
        )
        results.append(_judge(benchmark, scored, pairs, bootstrap))
    info = benchmark.info
    facts = {"name": info.name, "title": info.title, "licence": info.licence, "source": info.source}
    return EvaluationReport(
        benchmark=facts,
        num_items=len(benchmark.items),
        confidence=bootstrap.confidence,
        num_resamples=bootstrap.num_resamples,
        seed=bootstrap.seed,
        rewards=tuple(results),
    )


def _judge(
    benchmark: Benchmark, scored: RewardScores, pairs: Mapping[str, Sequence[LabelledPair]], bootstrap: Bootstrap
) -> RewardResult:
    """Judge one reward in every dimension."""
    models = {(item.item_id, video.candidate_id): video.model for item in benchmark.items for video in item.candidates}
    groups: dict[str, list[VideoRequest]] = {}
    for (item_id, _), request in scored.requests.items():
        groups.setdefault(item_id, []).append(request)
    return RewardResult(
        name=scored.name,
        settings=scored.settings,
        num_scored=len(scored.scores),
        failures=scored.failure_counts,
        first_failure=scored.first_failure,
        seconds_per_video=scored.seconds_per_video,
        dimensions=tuple(
            judge_dimension(dimension, labelled, scored.scores, benchmark.items, bootstrap)
            for dimension, labelled in pairs.items()
        ),
        models=tuple(
            result
            for dimension, labelled in pairs.items()
            for result in judge_models(dimension, labelled, scored.scores, models)
        ),
        robustness=judge_robustness(scored.plans, scored.rewards, groups.values(), bootstrap),
    )


def score_benchmark(
    benchmark: Benchmark,
    spec: str,
    name: str,
    output: str | os.PathLike[str],
    *,
    videos: set[tuple[str, str]] | None = None,
    settings: ScoringSettings | None = None,
    robustness: bool = False,
    seed: int = 0,
) -> RewardScores:
    """Score the videos of a labelled set with one reward.

    Args:
        benchmark ([`Benchmark`]): The set.
        spec (`str`): What [`load_reward`] takes, or `column:NAME`.
        name (`str`): Short name, of which the score file is called.
        output (`str` or `os.PathLike`): Folder in which the scores are kept, in `scores/`.
        videos (`set[tuple[str, str]]`, *optional*): Which `(item_id, candidate_id)`; by default all.
        settings ([`ScoringSettings`], *optional*): How videos are scored.
        robustness (`bool`, defaults to `False`): Also score altered videos and prompts.
        seed (`int`, defaults to 0): Of which prompt another is replaced with.

    Returns:
        [`RewardScores`]

    Raises:
        ValueError: If there is no such published metric, or not one video could be scored.
    """
    settings = settings or ScoringSettings()
    candidates = {
        (item.item_id, video.candidate_id): VideoRequest(video.video, item.prompt)
        for item in benchmark.items
        for video in item.candidates
        if videos is None or (item.item_id, video.candidate_id) in videos
    }
    if spec.startswith(COLUMN):
        column = spec.removeprefix(COLUMN)
        if column not in benchmark.metrics:
            there = ", ".join(map(repr, benchmark.metrics)) or "none"
            raise ValueError(f"{benchmark.info.title} was read with no metric {column!r}; there are: {there}.")
        values = benchmark.metrics[column]
        return RewardScores(name, {"reward": spec}, {key: values[key] for key in candidates if key in values})
    reward = load_reward(spec)
    store_settings = reward_settings(reward, spec, frames_for(reward, settings.num_frames))
    store = ScoreStore(Path(output) / "scores" / f"{quote(name, safe='')}.jsonl", store_settings)
    plans = altered_requests(candidates.values(), seed) if robustness else {}
    wanted = [*candidates.values(), *(altered for plan in plans.values() for altered in plan.values())]
    found = score_requests(reward, wanted, store, settings)
    scored = {key: request for key, request in candidates.items() if request in found.rewards}
    if candidates and not scored:
        request, failure = next(iter(found.failures.items()))
        raise ValueError(
            f"None of {len(candidates)} videos could be scored by {name}; the first, {request.video}: "
            f"{failure.reason} ({failure.message}). Do the clips lie where {benchmark.info.title} expects them?"
        )
    if lost := sum(request.variant != ORIGINAL for request in found.failures):
        logger.warning("%s: %d altered videos could not be scored", name, lost)
    return RewardScores(
        name=name,
        settings=store_settings,
        scores={key: found.rewards[request] for key, request in scored.items()},
        failures=found.failures,
        seconds_per_video=fmean(found.seconds[request] for request in scored.values()) if scored else None,
        requests=candidates,
        rewards=found.rewards,
        plans=plans,
    )


def reward_names(specs: Sequence[str]) -> list[str]:
    """Return short names for tables: kind and last part of the path, or the whole where these are not unique.

    Args:
        specs (`Sequence[str]`): What [`load_reward`] takes, or `column:NAME`.

    Returns:
        `list[str]`: one each.

    Raises:
        ValueError: If one stands there twice, there is none, or one cannot be a reward: see [`check_reward`].
    """
    if not specs or len(set(specs)) < len(specs):
        raise ValueError(f"Name at least one reward, and none twice: got {list(specs)}.")
    for spec in specs:
        if not spec.startswith(COLUMN):
            check_reward(spec)
    names = [_short_name(spec) for spec in specs]
    return [spec if names.count(name) > 1 else name for spec, name in zip(specs, names, strict=True)]


def _short_name(spec: str) -> str:
    if spec.startswith(COLUMN):
        return spec.removeprefix(COLUMN)
    kind, colon, source = spec.partition(":")
    if not colon or os.path.exists(spec):
        return Path(spec).name
    return f"{kind}:{Path(source).name}"
