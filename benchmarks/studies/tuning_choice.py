"""How fast and through how many steps DRaFT-V tunes, chosen on prompts of the validation split."""

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
        tried (`tuple[tuple[float, int | None], ...]`): Learning rate and K; `None` is a gradient through all steps.
        judged (`Judged`): Prompts of the validation split.
        watched (`Watched`): As in the study of DRaFT-V, which uses the chosen run again.
    """

    tuning: Tuning = Tuning()
    tried: tuple[tuple[float, int | None], ...] = ((7e-4, 1), (7e-4, 4), (7e-4, None), (1.5e-3, 1))
    judged: Judged = Judged(num_prompts=96, repeats=1, seed=400, split="validation")
    watched: Watched = Watched()


def run(settings: Settings, work: Work) -> Json:
    """Tune once for each choice."""
    ways = {
        f"{rate:g}, {'all steps' if k is None else f'last {k}'}": dataclasses.replace(
            settings.tuning,
            learning_rate=rate,
            backprop="all" if k is None else "last",
            num_backprop_steps=k,
        )
        for rate, k in settings.tried
    }
    found = compare_ways(ways, settings.judged, work, settings.watched)
    return {"settings": settings_of(settings), "over_untuned": found}


def draw(results: Json, path: Path) -> None:
    """Draw the change of each rating."""
    draw_changes(results["over_untuned"], path, "Learning rate and steps with a gradient, on validation prompts")


def report(results: Json) -> str:
    """Write what each choice changes."""
    return change_table("learning rate, steps with a gradient", results["over_untuned"])


STUDY = Study(
    name="tuning_choice",
    title="How fast and through how many steps to tune, chosen on the validation split",
    question=(
        "DRaFT-V at several learning rates, with a gradient through the last of ten steps, the last four or all, on "
        "prompts of the validation split. The other studies, the demo and the Space tune in the way that "
        "raises the mean rating most. Differences to the untuned pipeline, by the truth."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(TINY, ((1e-3, 1), (1e-3, None)), TINY_JUDGED, TINY_WATCHED),
    draw=draw,
    report=report,
)
