"""How commands name videos and opinions on them: a working folder, a rating file, or a labelled set as SET:PATH."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from videorm_hf.annotation.opinions import Opinions
    from videorm_hf.benchmarks import Benchmark
    from videorm_hf.videoprefer.items import Item


def open_set(spec: str) -> "Benchmark | None":
    """Read the labelled set that `SET:PATH` names; `None` for what is no such name."""
    from videorm_hf.benchmarks import BENCHMARKS, get_benchmark

    name, colon, path = spec.partition(":")
    return get_benchmark(name, path.partition("#")[0]) if colon and name in BENCHMARKS else None


def read_videos(spec: str) -> "tuple[list[Item], Path | None]":
    """Read the items of a working folder or of a labelled set, and where their video paths start.

    Args:
        spec (`str`): A folder, or `SET:PATH`.

    Returns:
        `tuple[list[Item], Path | None]`: no folder for a labelled set; what is wrong in a working folder is said on
        standard error.
    """
    from videorm_hf.videoprefer.bad_data import Report
    from videorm_hf.videoprefer.working_folder import read_items

    labelled = open_set(spec)
    if labelled is not None:
        return list(labelled.items), None
    report = Report()
    items = list(read_items(spec, (), num_candidates=None, report=report))
    if report.problems:
        typer.secho(report.describe(), fg="yellow", err=True)
    return items, Path(spec)


def read_named_opinions(spec: str, dimension: str) -> "Opinions":
    """Read opinions.

    Args:
        spec (`str`):
            A rating file, `SET:PATH` for the people who labelled a set, or `SET:PATH#METRIC` for a metric that it was
            published with.
        dimension (`str`): What was judged; of a metric, anything.

    Returns:
        [`Opinions`]

    Raises:
        ValueError: If a set has no such dimension or metric.
    """
    from videorm_hf.annotation.opinions import (
        opinions_of_items,
        opinions_of_ratings,
        opinions_of_votes,
        read_opinions,
    )

    labelled = open_set(spec)
    if labelled is None:
        return read_opinions(Path(spec), dimension)
    metric = spec.partition("#")[2]
    if metric:
        if metric not in labelled.metrics:
            known = ", ".join(labelled.metrics) or "none"
            raise ValueError(f"{labelled.info.title} has no metric {metric!r}; it has {known}.")
        return opinions_of_ratings(labelled.metrics[metric], metric, dimension)
    if dimension not in labelled.dimensions:
        raise ValueError(f"{labelled.info.title} has no {dimension!r}, only {', '.join(labelled.dimensions)}.")
    name = f"people ({labelled.info.title})"
    if labelled.votes:
        return opinions_of_votes(labelled.pairs(dimension), name, dimension)
    return opinions_of_items(labelled.items, name, dimension)


def source_models(items: "list[Item]") -> dict[tuple[str, str], str]:
    """Return what made each video."""
    return {(item.item_id, video.candidate_id): video.model for item in items for video in item.candidates}
