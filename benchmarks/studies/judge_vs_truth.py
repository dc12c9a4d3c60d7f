"""How far a judge that is asked over chat completions agrees with the truth, by frames and temperature.

Follows Wu et al. 2024 (NeurIPS), Figure 8, which has people where we have the truth.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.studies.study import Json, Study, Work, percent_within, settings_of
from benchmarks.studies.world import faulty_clip, save_clip, tell_truth
from videorm_hf.annotation import AnnotationOptions
from videorm_hf.annotation.opinions import Opinions, opinions_of_ratings
from videorm_hf.annotation.sweep import SweepPoint, run_sweep
from videorm_hf.miniature.judge_server import MODEL, serve_judge
from videorm_hf.miniature.scenes import random_scene, write_prompt
from videorm_hf.reporting.plots import line_chart
from videorm_hf.reporting.tables import markdown_table
from videorm_hf.videoprefer.items import DIMENSIONS, Candidate, Item


@dataclass(frozen=True)
class Settings:
    """What is judged, and how often.

    Args:
        num_items (`int`): Prompts of four clips, each with a fault that is drawn, or without.
        clip_frames (`int`): Frames of a clip, more than any judge looks at.
        num_frames (`tuple[int, ...]`): Frames that the judge sees.
        temperatures (`tuple[float, ...]`): Of the judge.
        error_rates (`tuple[float, ...]`): Of the judge, at 8 frames and temperature 0.3.
        num_resamples (`int`): Of the intervals.
        seed (`int`): Of scenes and clips.
    """

    num_items: int = 40
    clip_frames: int = 40
    num_frames: tuple[int, ...] = (2, 4, 6, 8, 10)
    temperatures: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7, 0.9)
    error_rates: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4)
    num_resamples: int = 500
    seed: int = 0


def run(settings: Settings, work: Work) -> Json:
    """Ask the judge's server about every clip in every way, through the annotation pipeline."""
    data = {
        name: value for name, value in settings_of(settings).items() if name in ("num_items", "clip_frames", "seed")
    }
    folder = work.place("clips", data)
    items, references = _make_clips(settings, folder)
    cells, errors = [], []
    for dimension in DIMENSIONS:
        output = folder / "journals" / dimension
        grid = (settings.num_frames, settings.temperatures)
        cells += _sweep(items, folder, references[dimension], output, settings, *grid)
        for rate in settings.error_rates:
            output = folder / "journals" / f"{dimension}-error{rate:g}"
            errors += _sweep(items, folder, references[dimension], output, settings, (8,), (0.3,), rate)
    return {"settings": settings_of(settings), "cells": cells, "error_rates": errors}


def _make_clips(settings: Settings, folder: Path) -> tuple[list[Item], dict[str, Opinions]]:
    """Draw items, write their clips where they are not there yet, and tell the truth from the pixels drawn."""
    rng = np.random.default_rng([settings.seed, 1])
    items = []
    ratings: dict[str, dict[tuple[str, str], float]] = {dimension: {} for dimension in DIMENSIONS}
    for number in tqdm(range(settings.num_items), desc="clips", leave=False):
        scene = random_scene(rng, split="test")
        prompt = write_prompt(scene, rng)
        candidates = []
        for place in "0123":
            fault, frames_THWC = faulty_clip(scene, rng, settings.clip_frames)
            video = f"videos/{number}-{place}.mp4"
            if not (folder / video).exists():
                save_clip(frames_THWC, folder / video)
            candidates.append(Candidate(place, video, model=fault))
            truth = tell_truth(frames_THWC, prompt)
            for dimension in DIMENSIONS:
                ratings[dimension][str(number), place] = getattr(truth, dimension)
        items.append(Item(str(number), prompt, "small world", tuple(candidates)))
    return items, {name: opinions_of_ratings(values, "truth", name) for name, values in ratings.items()}


def _sweep(
    items: list[Item],
    folder: Path,
    reference: Opinions,
    output: Path,
    settings: Settings,
    num_frames: tuple[int, ...],
    temperatures: tuple[float, ...],
    error_rate: float = 0.0,
) -> list[Json]:
    with serve_judge(error_rate, settings.seed) as server:
        options = AnnotationOptions(
            model=MODEL, base_url=server.base_url, dimensions=(reference.dimension,), concurrency=4, num_workers=0
        )
        points = run_sweep(
            *(options, items, folder, reference, output),
            num_frames=num_frames,
            temperatures=temperatures,
            num_resamples=settings.num_resamples,
            seed=settings.seed,
        )
        return [_row(point, reference.dimension, error_rate) for point in points]


def _row(point: SweepPoint, dimension: str, error_rate: float) -> Json:
    if point.agreement is None:
        raise ValueError(f"The judge's answers cannot be compared with the truth: {point.problem}")
    accuracy, tau = point.agreement.accuracy, point.agreement.kendall_tau
    return {
        "dimension": dimension,
        "num_frames": point.num_frames,
        "temperature": point.temperature,
        "error_rate": error_rate,
        "accuracy": accuracy.value,
        "interval": accuracy.interval,
        "kendall_tau": tau.value,
        "num_pairs": point.agreement.num_pairs,
    }


def draw(results: Json, path: Path) -> None:
    """Draw agreement over frames, a curve for each temperature and dimension."""
    settings = results["settings"]
    series, intervals = {}, {}
    for dimension in DIMENSIONS:
        for temperature in (settings["temperatures"][0], settings["temperatures"][-1]):
            rows = _rows(results, dimension, temperature)
            name = f"{dimension}, temperature {temperature:g}"
            series[name] = ([row["num_frames"] for row in rows], [row["accuracy"] for row in rows])
            intervals[name] = [row["interval"] or (row["accuracy"],) * 2 for row in rows]
    labels = {"xlabel": "frames that the judge sees", "ylabel": "pairwise agreement with the truth"}
    line_chart(path, series, intervals=intervals, title="Judge against truth", **labels)


def _rows(results: Json, dimension: str, temperature: float) -> list[Json]:
    wanted = (dimension, temperature)
    return [row for row in results["cells"] if (row["dimension"], row["temperature"]) == wanted]


def report(results: Json) -> str:
    """Write the grid of each dimension, and the error rates."""
    parts = []
    for dimension in DIMENSIONS:
        table = []
        for temperature in results["settings"]["temperatures"]:
            cells = {
                f"{row['num_frames']} frames": percent_within(row["accuracy"], row["interval"])
                for row in _rows(results, dimension, temperature)
            }
            table.append({"temperature": f"{temperature:g}", **cells})
        parts += [f"`{dimension}`, pairwise agreement with the truth:", markdown_table(table)]
    table = [
        {
            "dimension": f"`{row['dimension']}`",
            "error rate": f"{row['error_rate']:g}",
            "agreement": percent_within(row["accuracy"], row["interval"]),
            "Kendall's tau": row["kendall_tau"],
        }
        for row in results["error_rates"]
    ]
    return "\n\n".join([*parts, "With wrong answers on purpose (8 frames, temperature 0.3):", markdown_table(table)])


STUDY = Study(
    name="judge_vs_truth",
    title="The judge against the truth: frames and temperature (Figure 8)",
    question=(
        "The measuring judge is asked over chat completions, through the annotation pipeline, about clips of the"
        " test split with faults of every kind; of each it sees some frames, as JPEG. The truth is the same "
        "judge's reading of every drawn pixel, not rounded. Temperature is normal noise of that many steps of "
        "the scale before rounding. Ties of the truth are dropped, ties of the judge count one half."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(3, 16, (2, 8), (0.0, 0.9), (0.4,), num_resamples=50),
    draw=draw,
    report=report,
)
