"""`videorm best-of-n`: what the video is worth that a reward chooses out of n."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videorm_hf.cli.reward_options import BatchSize, Device, NumFrames, NumWorkers, Resamples, Rewards, Seed, Timeout

if TYPE_CHECKING:
    from videorm_hf.evaluation.best_of_n import BestOfN

_PEOPLE = "people (upper bound)"
_LEGEND = (
    "vs another: how often people prefer the chosen video to another of the prompt drawn at random, a tie counting "
    "one half; vs best: the same against the prompt's best, which can only be tied (50 % is perfect); is best: how "
    "often it is rated as high as the best"
)


def best_of_n(
    benchmark: Annotated[str, typer.Option(help="A set of ratings: tvge, t2vqa_db or fetv.")],
    data: Annotated[Path, typer.Option(help="Where the set lies: its folder, or the file of its labels.")],
    reward: Rewards,
    output: Annotated[Path, typer.Option(help="Folder for the results and the scores.")],
    dimension: Annotated[
        str | None, typer.Option(help="Whose ratings decide.", show_default="the mean of all")
    ] = None,
    n: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Out of how many to choose; can be given several times.", show_default="1, 2, 4, 8"),
    ] = None,
    num_frames: NumFrames = None,
    batch_size: BatchSize = 8,
    num_workers: NumWorkers = None,
    timeout: Timeout = 120.0,
    device: Device = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Choose the best of n videos by each reward, and ask people's ratings what the choice is worth.

    The expectation over all draws of n videos without replacement is exact. `--reward column:NAME` lets a published
    metric choose. Exit code: 0 if every video was scored, 1 if some were not, 2 if the command cannot be run as given.
    """
    from videorm_hf.benchmarks import get_benchmark
    from videorm_hf.benchmarks.evaluation import reward_names, score_benchmark
    from videorm_hf.evaluation.best_of_n import judge_best_of_n, people_choose
    from videorm_hf.evaluation.evaluator import Bootstrap
    from videorm_hf.evaluation.video_scores import ScoringSettings

    logging.basicConfig(level=logging.WARNING)
    labelled = get_benchmark(benchmark, data)
    if labelled.votes:
        raise ValueError(f"best-of-n needs ratings of single videos, {labelled.info.title} has votes on pairs.")
    dimension = dimension or labelled.dimensions[-1]
    videos = {(pair.item_id, name) for pair in labelled.pairs(dimension) for name in (pair.a_id, pair.b_id)}
    settings = ScoringSettings(num_frames, batch_size, num_workers, timeout, device)
    scored = [
        score_benchmark(labelled, spec, name, output, videos=videos, settings=settings)
        for spec, name in zip(reward, reward_names(reward), strict=True)
    ]
    ns, bootstrap = sorted(set(n or (1, 2, 4, 8))), Bootstrap(num_resamples=resamples, seed=seed)
    # All choose from the same videos: those that every reward could score.
    common = set.intersection(*(set(one.scores) for one in scored))
    choosers = {_PEOPLE: people_choose(labelled.items, dimension, common)}
    choosers |= {one.name: {video: one.scores[video] for video in common} for one in scored}
    results = [
        result
        for name, scores in choosers.items()
        for result in judge_best_of_n(name, labelled.items, dimension, scores, ns, bootstrap)
    ]
    failures = {one.name: one.failure_counts for one in scored}
    _write(results, failures, f"{labelled.info.title}, {dimension}", output)
    _show(results, failures, ns, len(videos) - len(common), output)
    if any(failures.values()):
        raise typer.Exit(1)


def _rows(results: Sequence["BestOfN"]) -> list[dict[str, Any]]:
    return [
        {
            "reward": result.reward,
            "n": result.n,
            "items": result.num_items,
            "vs another %": round(100 * result.win_over_random, 2),
            "interval": result.interval and f"{100 * result.interval[0]:.1f} to {100 * result.interval[1]:.1f}",
            "vs best %": round(100 * result.win_over_best, 2),
            "is best %": round(100 * result.best_rate, 2),
            "rating": result.rating,
        }
        for result in results
    ]


def _write(results: Sequence["BestOfN"], failures: dict[str, dict[str, int]], title: str, output: Path) -> None:
    from videorm_hf.reporting.plots import line_chart
    from videorm_hf.reporting.tables import markdown_table

    if not results:
        raise ValueError(
            "No item has two videos that are rated and scored, so there is nothing to choose from. Not scored: "
            f"{failures}."
        )
    output.mkdir(parents=True, exist_ok=True)
    content = {"title": title, "failures": failures, "results": [asdict(result) for result in results]}
    (output / "best_of_n.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    text = f"# Best of n: {title}\n\n{_LEGEND}\n\n{markdown_table(_rows(results))}\n"
    (output / "best_of_n.md").write_text(text, encoding="utf-8")
    by_reward: dict[str, list[BestOfN]] = {}
    for result in results:
        by_reward.setdefault(result.reward, []).append(result)
    ns = {name: [float(one.n) for one in mine] for name, mine in by_reward.items()}
    line_chart(
        output / "best_of_n.png",
        {name: (ns[name], [100 * one.win_over_random for one in mine]) for name, mine in by_reward.items()},
        xlabel="n",
        ylabel="chosen video wins over another, %",
        title=f"Best of n: {title}",
        intervals={
            name: [(100 * one.interval[0], 100 * one.interval[1]) for one in mine if one.interval is not None]
            for name, mine in by_reward.items()
            if all(one.interval is not None for one in mine)
        },
    )
    line_chart(
        output / "best_of_n_vs_best.png",
        {name: (ns[name], [100 * one.win_over_best for one in mine]) for name, mine in by_reward.items()},
        xlabel="n",
        ylabel="chosen video wins over the best, %",
        title=f"Best of n: {title} (50 % is perfect)",
    )


def _show(
    results: Sequence["BestOfN"], failures: dict[str, dict[str, int]], ns: list[int], num_unused: int, output: Path
) -> None:
    from rich.console import Console

    from videorm_hf.reporting.tables import print_table

    columns = ("reward", "n", "vs another %", "interval", "vs best %", "rating")  # what fits a terminal
    print_table(_rows(results), title="Best of n", columns=columns)
    lines = [_LEGEND, f"written to {output}"]
    if missing := sorted(set(ns) - {result.n for result in results}):
        lines.append(f"no item has enough videos for n = {', '.join(map(str, missing))}")
    if len({result.num_items for result in results}) > 1:
        lines.append("the items differ with n, since some have too few videos: compare rewards, not n")
    if num_unused:
        lines.append(f"{num_unused} videos are left out, which not every reward could score")
    lines += [f"{name}: not scored: {counts}" for name, counts in failures.items() if counts]
    for line in lines:
        Console().print(line, highlight=False, markup=False, soft_wrap=True)
