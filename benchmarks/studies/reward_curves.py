"""Every reward while one of them is trained on (Wu et al. 2024, NeurIPS, Figure 4), and the truth beside them."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from benchmarks.studies.draftv import TINY
from benchmarks.studies.image_reward import CLIP_LIKE, IMAGE, ONE_FRAME, VIDEORM
from benchmarks.studies.study import Json, Study, Work, number_within, settings_of
from benchmarks.studies.tuning import Tuning, WatchedByAll, tune
from videorm_hf.evaluation.metrics import mean_interval
from videorm_hf.reporting.plots import chart_row, draw_lines
from videorm_hf.reporting.tables import markdown_table

RUNS = {"DRaFT-V (trained on VIDEORM)": "videorm", "DRaFT-H (trained on the image reward)": "image"}


@dataclass(frozen=True)
class Settings:
    """What is tuned and measured.

    Args:
        tuning (`Tuning`): The same for both rewards.
        watched (`WatchedByAll`): How often, and on what.
    """

    tuning: Tuning = Tuning()
    watched: WatchedByAll = WatchedByAll()


def run(settings: Settings, work: Work) -> Json:
    """Tune on each reward and measure all on the way."""
    curves = {}
    for name, reward in RUNS.items():
        folder = tune(dataclasses.replace(settings.tuning, reward=reward), work, settings.watched)
        curves[name] = summarise_curve(json.loads((folder / "curve.json").read_text(encoding="utf-8")))
    return {"settings": settings_of(settings), "curves": curves}


def summarise_curve(rows: list[Json]) -> Json:
    """Return the mean of each measure over the prompts at each step, and its change since the start.

    Args:
        rows (`list[dict]`): Of [`~benchmarks.studies.tuning.Watcher`].

    Returns:
        `dict`: `step`, and for each measure `mean`, `change` and the interval of the change, in the order of steps.
    """
    summary: Json = {"step": [row["step"] for row in rows]}
    for name in [name for name in rows[0] if name not in ("step", "prompts")]:
        start = np.array(rows[0][name])
        changes = [np.array(row[name]) - start for row in rows]
        summary[name] = {
            "mean": [float(np.mean(row[name])) for row in rows],
            "change": [float(change.mean()) for change in changes],
            "interval": [mean_interval(change, rows[0]["prompts"]) for change in changes],
            "spread_at_start": float(start.std()),
        }
    return summary


def draw(results: Json, path: Path) -> None:
    """Draw the curves of each run."""
    panels = {run: functools.partial(_draw_run, curve=curve) for run, curve in results["curves"].items()}
    chart_row(path, panels, title="Every reward while one is trained on")


def _draw_run(axes: Axes, curve: Json) -> None:
    names = (VIDEORM, IMAGE, ONE_FRAME, CLIP_LIKE)
    draw_lines(axes, in_spreads(curve, names), xlabel="updates", ylabel="change, in spreads at the start")


def in_spreads(curve: Json, names: Sequence[str]) -> dict[str, tuple[list[int], list[float]]]:
    """Return the changes of some measures and of the truth in units of their spread at the start.

    So rewards, whatever their scale, share one axis with ratings.

    Args:
        curve (`dict`): Of [`summarise_curve`].
        names (`Sequence[str]`): Of measures.

    Returns:
        `dict`: name to steps and changes.
    """
    labels = {**{name: name for name in names}, "mean": "truth: mean rating"}
    return {
        label: (curve["step"], [value / (curve[name]["spread_at_start"] or 1.0) for value in curve[name]["change"]])
        for name, label in labels.items()
    }


def report(results: Json) -> str:
    """Write the change of everything at the end."""
    rows = []
    for run, curve in results["curves"].items():
        changes = {
            name: number_within(found["change"][-1], found["interval"][-1])
            for name, found in curve.items()
            if name != "step"
        }
        rows.append({"run": run, "updates": curve["step"][-1], **changes})
    return "Change from the start to the end:\n\n" + markdown_table(rows)


STUDY = Study(
    name="reward_curves",
    title="Every reward while one is trained on (Figure 4); DRaFT-V against DRaFT-H",
    question=(
        "Two runs that differ only in the reward that is trained on. On fixed prompts of the test split and "
        "fixed noise, every reward and the truth are measured all along."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(TINY, WatchedByAll(every=1, num_prompts=2, clip_steps=2)),
    draw=draw,
    report=report,
)
