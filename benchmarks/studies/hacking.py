"""Reward hacking: the truth against the trained reward over a long run, with the guard off and on.

The run is made to go wrong: a high learning rate and late steps only, no augmentation. The guard sees neither truth
nor test prompts: it watches motion and the image reward, which the run is not trained on.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.studies.draftv import TINY, TINY_WATCHED
from benchmarks.studies.image_reward import IMAGE, VIDEORM
from benchmarks.studies.reward_curves import summarise_curve
from benchmarks.studies.study import Json, Study, Work, number_within, settings_of
from benchmarks.studies.tuning import MOTION, Tuning, Watched, tune
from videorm_hf.reporting.plots import line_chart
from videorm_hf.reporting.tables import markdown_table


@dataclass(frozen=True)
class Settings:
    """What is tuned and measured.

    Args:
        tuning (`Tuning`): A run that hacks its reward.
        guard_steps (`int`): How often the guard looks.
        guard_tolerance (`float`): As in `DRaFTVConfig`.
        watched (`Watched`): How often, and on what, the truth is told.
    """

    tuning: Tuning = Tuning(
        steps=120, learning_rate=1.5e-3, backprop="last", num_backprop_steps=4, reward_augmentation=None
    )
    guard_steps: int = 10
    guard_tolerance: float = 0.5
    watched: Watched = Watched(every=20)


def run(settings: Settings, work: Work) -> Json:
    """Tune twice, without the guard and with it."""
    guarded = dataclasses.replace(
        settings.tuning, guard_steps=settings.guard_steps, guard_tolerance=settings.guard_tolerance
    )
    curves, stopped = {}, {}
    for name, tuning in (("guard off", settings.tuning), ("guard on", guarded)):
        folder = tune(tuning, work, settings.watched)
        curves[name] = summarise_curve(json.loads((folder / "curve.json").read_text(encoding="utf-8")))
        stopped[name] = json.loads((folder / "log.json").read_text(encoding="utf-8"))["global_step"]
    return {"settings": settings_of(settings), "curves": curves, "updates": stopped}


def draw(results: Json, path: Path) -> None:
    """Draw reward and truth in units of their spread at the start, and where the guard stopped."""
    curve, stop = results["curves"]["guard off"], results["updates"]["guard on"]
    shown = {"trained reward (VIDEORM)": VIDEORM, "truth": "mean", "image reward": IMAGE, "motion": MOTION}
    series = {}
    for label, name in shown.items():
        unit = curve[name]["spread_at_start"] or 1.0
        series[label] = (curve["step"], [value / unit for value in curve[name]["change"]])
    values = [value for _, ys in series.values() for value in ys]
    series["the guard stops here"] = ([stop, stop], [min(values), max(values)])
    line_chart(
        path,
        series,
        xlabel="updates",
        ylabel="change, in spreads over the prompts at the start",
        title="Reward and truth over a long run",
    )


def report(results: Json) -> str:
    """Write the truth at its best, at the end, and where the guard stopped."""
    rows = []
    for name, curve in results["curves"].items():
        means = curve["mean"]["change"]
        best = max(range(len(means)), key=lambda place: means[place])
        end = {
            measure: number_within(curve[measure]["change"][-1], curve[measure]["interval"][-1])
            for measure in ("mean", VIDEORM)
        }
        rows.append(
            {
                "run": name,
                "updates": results["updates"][name],
                "truth at its best": f"{means[best]:+.2f} after {curve['step'][best]}",
                "truth at the end": end["mean"],
                "trained reward at the end": end[VIDEORM],
            }
        )
    return "Changes since the start, of the mean rating and of the reward:\n\n" + markdown_table(rows)


STUDY = Study(
    name="hacking",
    title="Reward hacking, with the guard off and on",
    question=(
        "A long DRaFT-V run that is made to exploit its reward: a high learning rate, the last four steps only, "
        "no augmentation. The guard watches motion and the image reward on prompts of the validation split; it "
        "knows nothing of the truth."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(TINY, guard_steps=1, watched=TINY_WATCHED),
    draw=draw,
    report=report,
)
