"""Reward hacking: the truth against the trained reward over long runs without augmentation, guard off and on.

One run is tuned by VIDEORM through late steps alone, one so by the image reward, and one by the motion of pixels,
which anyone adds who wants livelier videos, and which flicker raises as well. The guard sees neither truth nor test
prompts: it watches what the run is not trained on.
"""

import dataclasses
import functools
import json
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes

from benchmarks.studies.draftv import TINY, TINY_WATCHED
from benchmarks.studies.image_reward import IMAGE, VIDEORM
from benchmarks.studies.reward_curves import in_spreads, summarise_curve
from benchmarks.studies.study import Json, Study, Work, number_within, settings_of
from benchmarks.studies.tuning import MOTION, Tuning, Watched, tune
from videorm_hf.reporting.plots import chart_row, draw_lines
from videorm_hf.reporting.tables import markdown_table

LONG = Tuning(steps=100, backprop="last", num_backprop_steps=4, reward_augmentation=None)
RUNS = {
    VIDEORM: LONG,
    IMAGE: dataclasses.replace(LONG, reward="image"),
    MOTION: dataclasses.replace(LONG, reward="motion"),
}
OFF = "off"
LINEAR_UP_TO = 5.0
AT_THE_END = {"mean rating": "mean", "video quality": "video_quality", VIDEORM: VIDEORM, MOTION: MOTION}


@dataclass(frozen=True)
class Settings:
    """What is tuned and measured.

    Args:
        runs (`dict[str, Tuning]`): By the measure that each is tuned by.
        guard_steps (`int`): How often the guard looks.
        guard_tolerances (`tuple[float, ...]`): As in `DRaFTVConfig`, whose default is 0.5.
        watched (`Watched`): How often, and on what, the truth is told.
    """

    runs: dict[str, Tuning] = field(default_factory=lambda: RUNS)
    guard_steps: int = 10
    guard_tolerances: tuple[float, ...] = (0.5, 0.25)
    watched: Watched = Watched(every=20)


def run(settings: Settings, work: Work) -> Json:
    """Tune by each reward, with the guard and without it.

    A guard that does not stop a run changes nothing in it: it is also the run of a more tolerant one, and without any.
    """
    curves: Json = {}
    for name, free in settings.runs.items():
        runs: Json = {}
        whole = None
        for tolerance in sorted(settings.guard_tolerances):
            guarded = dataclasses.replace(free, guard_steps=settings.guard_steps, guard_tolerance=tolerance)
            runs[f"tolerance {tolerance:g}"] = curve = whole or _curve(tune(guarded, work, settings.watched))
            whole = curve if curve["guard_kept_step"] is None else None
        curves[name] = {OFF: whole or _curve(tune(free, work, settings.watched)), **runs}
    return {"settings": settings_of(settings), "curves": curves}


def _curve(folder: Path) -> Json:
    """Return the curve of a run; where the guard stopped it, its last point is of the LoRA that was put back."""
    curve, log = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("curve.json", "log.json"))
    return {**summarise_curve(curve), "guard_kept_step": log["guard_kept_step"]}


def draw(results: Json, path: Path) -> None:
    """Draw rewards and truth in units of their spread at the start, and where the guard stopped."""
    panels = {f"tuned by {name}": functools.partial(_draw_run, runs=runs) for name, runs in results["curves"].items()}
    chart_row(path, panels, title="Rewards and truth over long runs without the guard")


def _draw_run(axes: Axes, runs: Json) -> None:
    curve = runs[OFF]
    series = in_spreads(curve, (VIDEORM, IMAGE, MOTION))
    draw_lines(axes, series, xlabel="updates", ylabel="change, in spreads at the start")
    if max(max(ys) for _, ys in series.values()) > LINEAR_UP_TO:  # where a reward explodes, the rest is seen as well
        axes.set_yscale("symlog", linthresh=1)
    for (name, run), style in zip(list(runs.items())[1:], ("--", ":"), strict=False):
        stop = run["step"][-1]
        if stop < curve["step"][-1]:
            axes.axvline(stop, color="0.3", linestyle=style, label=f"the guard stops here ({name})")


def report(results: Json) -> str:
    """Write the truth at its best, at the end, and where the guard stopped."""
    rows = []
    for name, runs in results["curves"].items():
        for guard, curve in runs.items():
            means = curve["mean"]["change"]
            best = max(range(len(means)), key=lambda place: means[place])
            rows.append(
                {
                    "tuned by": name,
                    "guard": guard,
                    "updates": curve["step"][-1],
                    "LoRA of update": curve["step"][-1] if (kept := curve["guard_kept_step"]) is None else kept,
                    "mean rating at its best": f"{means[best]:+.2f} after {curve['step'][best]}",
                    **{
                        label: number_within(curve[measure]["change"][-1], curve[measure]["interval"][-1])
                        for label, measure in AT_THE_END.items()
                    },
                }
            )
    opening = "Changes since the start; all but the first are of the LoRA that the run ends with:"
    return f"{opening}\n\n{markdown_table(rows)}"


STUDY = Study(
    name="hacking",
    title="Reward hacking, with the guard off and on",
    question=(
        "Long runs through the last four steps, without augmentation. One is tuned by VIDEORM; one by the image "
        "reward; one by the motion of pixels, as anyone may do who wants livelier videos. The guard watches, on "
        "prompts of the validation split, motion and whichever of VIDEORM and the image reward is not trained on; it "
        "knows nothing of the truth."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(
        {VIDEORM: TINY, MOTION: dataclasses.replace(TINY, reward="motion")}, guard_steps=1, watched=TINY_WATCHED
    ),
    draw=draw,
    report=report,
)
