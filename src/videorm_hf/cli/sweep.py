"""`videoprefer sweep`: which number of frames and which temperature agree best with people."""

import json
import logging
import random
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videorm_hf.cli import judge_options as judge
from videorm_hf.cli.agree import agreement_row
from videorm_hf.cli.rated_videos import open_set, read_named_opinions, read_videos, source_models

if TYPE_CHECKING:
    from videorm_hf.annotation.sweep import SweepPoint
    from videorm_hf.videoprefer.items import Item


def sweep(
    context: typer.Context,
    folder: Annotated[str, typer.Argument(help="A labelled set as SET:PATH, such as fetv:DATA, or a working folder.")],
    model: judge.Model,
    output: Annotated[Path, typer.Option(help="Folder for the journals, sweep.json and sweep.png.")],
    reference: Annotated[
        str | None, typer.Option(help="People's ratings: a file, or SET:PATH.", show_default="the labelled set")
    ] = None,
    dimension: Annotated[str, typer.Option(help="What the judge is asked.")] = "prompt_following",
    reference_dimension: Annotated[
        str | None, typer.Option(help="What people judged, such as alignment.", show_default="the same")
    ] = None,
    num_frames: Annotated[
        list[int] | None, typer.Option(help="Can be given several times.", show_default="4, 6, 8, 10")
    ] = None,
    temperature: Annotated[
        list[float] | None, typer.Option(help="Can be given several times.", show_default="0.3, 0.5, 0.7, 0.9")
    ] = None,
    num_items: Annotated[int | None, typer.Option(min=2, help="Draw so many items.", show_default="all")] = None,
    score_ties: Annotated[
        str, typer.Option(help="What a tie of the judge counts: half, wrong, or drop the pair.", metavar="RULE")
    ] = "half",
    base_url: judge.BaseUrl = None,
    api_key_env: judge.ApiKeyEnv = "OPENAI_API_KEY",
    rubric_version: judge.RubricVersion = "v1",
    frame_size: judge.FrameSize = 512,
    response_format: judge.ResponseFormat = "auto",
    max_tokens: judge.MaxTokens = 512,
    concurrency: judge.Concurrency = 16,
    requests_per_minute: judge.RequestsPerMinute = None,
    tokens_per_minute: judge.TokensPerMinute = None,
    timeout: judge.Timeout = 120.0,
    max_attempts: judge.MaxAttempts = 6,
    tokens_per_image: judge.TokensPerImage = 500,
    price_per_million_input: judge.PricePerMillionInput = None,
    price_per_million_output: judge.PricePerMillionOutput = None,
    max_cost: judge.MaxCost = None,
    num_workers: judge.NumWorkers = 1,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples of the items.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the items drawn and the bootstrap.")] = 0,
) -> None:
    """Rate labelled videos with every combination of frames and temperature, and compare each with people.

    Each combination has a journal in OUTPUT: the same command goes on where it was interrupted. Exit code: 0 if all
    combinations are complete, 1 if not, 2 if the command cannot be run as given.
    """
    from videorm_hf.annotation.sweep import run_sweep

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    frames, temperatures = num_frames or [4, 6, 8, 10], temperature or [0.3, 0.5, 0.7, 0.9]
    asked = {name: value for name, value in context.params.items() if name not in ("num_frames", "temperature")}
    options = judge.annotation_options(asked, dimensions=(dimension,))
    items, root = read_videos(folder)
    if reference is None and open_set(folder) is None:
        raise ValueError("a working folder has no people's ratings: name them with --reference")
    people = read_named_opinions(reference or folder, reference_dimension or dimension)
    points = []
    for point in run_sweep(
        options,
        _drawn(items, num_items, seed),
        root or Path(),
        people,
        output,
        num_frames=frames,
        temperatures=temperatures,
        models=source_models(items),
        score_ties=score_ties,  # type: ignore[arg-type]
        num_resamples=resamples,
        seed=seed,
    ):
        points.append(point)
        _write(points, output)
    _show(points)
    typer.echo(f"written to {output}")
    if len(points) < len(frames) * len(temperatures) or any(point.summary.num_left for point in points):
        raise typer.Exit(1)


def _drawn(items: "list[Item]", num_items: int | None, seed: int) -> "list[Item]":
    """Draw items, always the same ones for a seed, in their own order."""
    if num_items is None or num_items >= len(items):
        return items
    places = sorted(random.Random(seed).sample(range(len(items)), num_items))
    return [items[place] for place in places]


def _show(points: "list[SweepPoint]") -> None:
    from videorm_hf.reporting.tables import print_table

    rows: list[dict[str, Any]] = []
    for point in points:
        row: dict[str, Any] = {
            "frames": point.num_frames,
            "temperature": point.temperature,
            "left": point.summary.num_left,
        }
        if point.agreement is not None:
            row |= {"pairs": point.agreement.num_pairs, **agreement_row(point.agreement)}
        else:
            row["problem"] = point.problem
        rows.append(row)
    compared = [point.agreement for point in points if point.agreement is not None]
    if compared:
        typer.echo(f"Tie rule: {compared[0].tie_rule}.")
    print_table(rows, title="Agreement with people by frames and temperature")


def _write(points: "list[SweepPoint]", output: Path) -> None:
    """Write what is there so far, so that an interruption loses no figure."""
    from videorm_hf.reporting.plots import line_chart

    content = json.dumps([point.to_dict() for point in points], indent=2, ensure_ascii=False)
    (output / "sweep.json").write_text(content + "\n", encoding="utf-8")
    series: dict[str, tuple[list[float], list[float]]] = {}
    for point in sorted(points, key=lambda point: point.num_frames):
        if point.agreement is not None and point.agreement.accuracy.value is not None:
            xs, ys = series.setdefault(f"temperature {point.temperature:g}", ([], []))
            xs.append(point.num_frames)
            ys.append(100 * point.agreement.accuracy.value)
    if series:
        line_chart(
            output / "sweep.png",
            series,
            xlabel="frames",
            ylabel="pairwise accuracy, %",
            title="Agreement with people by frames and temperature",
        )
