"""How fast, how long and through how many steps DRaFT-V tunes, chosen on prompts of the validation split."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from benchmarks.studies.draftv import TINY, TINY_JUDGED, TINY_WATCHED, change_table, draw_changes
from benchmarks.studies.study import Json, Study, Work, settings_of
from benchmarks.studies.tuning import Judged, Tuning, Watched, compare_ways


@dataclass(frozen=True)
class Settings:
    """What is tried, and what decides.

    Args:
        tuning (`Tuning`): The rest of it.
        tried (`tuple[tuple[float, int], ...]`): Learning rate and updates, the gradient through all steps.
        last_steps (`tuple[int, ...]`): K of further runs like the first, with a gradient through the last K steps.
        judged (`Judged`): Prompts of the validation split.
        watched (`Watched`): As in the study of DRaFT-V, which uses the chosen run again.
    """

    tuning: Tuning = Tuning()
    tried: tuple[tuple[float, int], ...] = ((7e-4, 60), (7e-4, 120), (1.5e-3, 60), (4e-3, 60))
    last_steps: tuple[int, ...] = (1, 4)
    judged: Judged = Judged(num_prompts=96, repeats=1, seed=400, split="validation")
    watched: Watched = Watched()


def run(settings: Settings, work: Work) -> Json:
    """Tune once for each choice."""
    ways = {
        f"{rate:g}, {updates} updates": dataclasses.replace(settings.tuning, learning_rate=rate, steps=updates)
        for rate, updates in settings.tried
    }
    (rate, updates), *_ = settings.tried
    for steps in settings.last_steps:
        ways[f"{rate:g}, {updates} updates, last {steps}"] = dataclasses.replace(
            settings.tuning, learning_rate=rate, steps=updates, backprop="last", num_backprop_steps=steps
        )
    found = compare_ways(ways, settings.judged, work, settings.watched)
    return {"settings": settings_of(settings), "over_untuned": found}


def draw(results: Json, path: Path) -> None:
    """Draw the change of each rating."""
    draw_changes(
        results["over_untuned"], path, "Learning rate, updates and steps with a gradient, on validation prompts"
    )


def report(results: Json) -> str:
    """Write what each choice changes."""
    return change_table("learning rate, updates, steps", results["over_untuned"])


STUDY = Study(
    name="tuning_choice",
    title="How fast, how long and through how many steps to tune, chosen on the validation split",
    question=(
        "DRaFT-V at several learning rates and numbers of updates, with a gradient through all ten steps, on prompts "
        "of the validation split. All other studies, the demo and the Space tune at the rate that raises the mean "
        "rating most, for as long as more updates raise it further beyond chance. Then the same through the last "
        "steps alone, as the demo tunes. Differences to the untuned pipeline, by the truth."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(TINY, ((1e-3, 2),), (1,), TINY_JUDGED, TINY_WATCHED),
    draw=draw,
    report=report,
)
