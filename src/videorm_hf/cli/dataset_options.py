"""Options that several `videoprefer` commands share: which folder, which ratings, how pairs and splits are made."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from videorm_hf.videoprefer.bad_data import Report

Folder = Annotated[Path, typer.Argument(help="Working folder with items.jsonl, videos and ratings.")]
Ratings = Annotated[
    list[str] | None,
    typer.Option(
        help="Rating file in the folder; may be repeated, the last one counts.", show_default="ratings.jsonl"
    ),
]
Candidates = Annotated[int, typer.Option(min=0, help="Candidates of every item; 0 for any two or more.")]
Dimensions = Annotated[
    list[str] | None,
    typer.Option(
        "--dimension", help="Rated dimension; may be repeated.", show_default="prompt_following, video_quality"
    ),
]
PairDimensions = Annotated[
    list[str] | None, typer.Option("--pairs-on", help="mean or a dimension; may be repeated.", show_default="mean")
]
KeepTies = Annotated[bool, typer.Option("--keep-ties", help="Keep pairs with equal ratings, with margin 0.")]
MinMargin = Annotated[float, typer.Option(min=0, help="Least difference of the ratings of a pair.")]
Split = Annotated[
    list[str] | None,
    typer.Option(help="Such as train=0.9; may be repeated.", show_default="train=0.9, validation=0.05, test=0.05"),
]
Seed = Annotated[int, typer.Option(help="Seed of the splits.")]
NumWorkers = Annotated[int | None, typer.Option(min=0, help="Processes that decode videos for the check.")]
Strict = Annotated[bool, typer.Option("--strict", help="Fail if anything is wrong, instead of setting items aside.")]


def dataset_settings(
    folder: Path,
    ratings: list[str] | None,
    candidates: int,
    dimension: list[str] | None,
    pairs_on: list[str] | None,
    keep_ties: bool,
    min_margin: float,
    split: list[str] | None,
    seed: int,
    num_workers: int | None,
    strict: bool,
) -> dict[str, Any]:
    """Turn options into the fields of `VideoPreferConfig`; what was not given keeps its default there."""
    given: dict[str, Any] = {
        "ratings": tuple(ratings) if ratings else None,
        "dimensions": tuple(dimension) if dimension else None,
        "pair_dimensions": tuple(pairs_on) if pairs_on else None,
        "fractions": {name: float(share) for name, share in named_values(split)} if split else None,
        "num_workers": num_workers,
    }
    return {name: value for name, value in given.items() if value is not None} | {
        "data_dir": str(folder),
        "num_candidates": candidates or None,
        "ties": "keep" if keep_ties else "drop",
        "min_margin": min_margin,
        "seed": seed,
        "strict": strict,
    }


def named_values(options: Iterable[str] | None) -> list[tuple[str, str]]:
    """Split options such as `name=value`; one without either part is a `ValueError`."""
    pairs = []
    for option in options or ():
        name, _, value = option.partition("=")
        if not name or not value:
            raise ValueError(f"expected NAME=VALUE, got {option!r}")
        pairs.append((name, value))
    return pairs


def finish(report: "Report") -> None:
    """Show what was set aside and end with exit code 1 if anything is wrong."""
    typer.echo(report.describe(), err=bool(report.problems))
    if report.problems:
        raise typer.Exit(1)
