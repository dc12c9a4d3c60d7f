"""How many sampling steps the gradient passes through, and which (Wu et al. 2024, NeurIPS: K in 1, 5, 10, 20).

The paper finds more than ten worse and one good already.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from benchmarks.studies.draftv import TINY, TINY_JUDGED, change_table, draw_changes
from benchmarks.studies.study import Json, Study, Work, settings_of
from benchmarks.studies.tuning import Judged, Tuning, compare, compare_ways, judge_tuned, tune
from benchmarks.studies.world import Sampling


@dataclass(frozen=True)
class Settings:
    """What is tried.

    Args:
        tuning (`Tuning`): The rest of it.
        last (`tuple[int, ...]`): K of the last steps; all steps are tried too.
        spread (`tuple[int, ...]`): K of steps spread over the trajectory (DRTune).
        judged (`Judged`): The test prompts.
    """

    tuning: Tuning = Tuning(steps=30, sampling=Sampling(20))
    last: tuple[int, ...] = (1, 5, 10)
    spread: tuple[int, ...] = (1, 5)
    judged: Judged = Judged(num_prompts=64)


def cells(settings: Settings) -> dict[str, Tuning]:
    """Return each way to choose the steps, by the name that tables use."""
    ways: list[tuple[str, str, int | None]] = []
    for backprop, values in (("last", settings.last), ("drtune", settings.spread)):
        title = {"last": "last", "drtune": "spread"}[backprop]
        ways += [(f"{title} {k}", backprop, k) for k in values]
    total = settings.tuning.sampling.num_inference_steps
    ways.append((f"all {total}", "all", None))
    return {
        name: dataclasses.replace(settings.tuning, backprop=backprop, num_backprop_steps=k)
        for name, backprop, k in ways
    }


def run(settings: Settings, work: Work) -> Json:
    """Tune once for each choice of steps."""
    ways = cells(settings)
    found = compare_ways(ways, settings.judged, work)
    longest, everything = f"last {settings.last[-1]}", list(ways)[-1]
    base, other = (
        judge_tuned(tune(ways[name], work), settings.tuning.sampling, settings.judged, work)
        for name in (everything, longest)
    )
    between = f"{longest} over {everything}".replace(" ", "_")
    return {"settings": settings_of(settings), "over_untuned": found, between: compare(base, other)}


def draw(results: Json, path: Path) -> None:
    """Draw the change of each rating."""
    draw_changes(results["over_untuned"], path, "Which sampling steps carry the gradient")


def report(results: Json) -> str:
    """Write what each choice changes."""
    return change_table("steps with a gradient", results["over_untuned"])


STUDY = Study(
    name="k_and_where",
    title="K, and where the K steps lie",
    question=(
        "DRaFT-V with the gradient through the last K of 20 sampling steps, through K steps spread over the "
        "trajectory (the denoiser's input detached), and through all. Differences to the untuned pipeline on the"
        " test prompts, by the truth."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(TINY, last=(1,), spread=(1,), judged=TINY_JUDGED),
    draw=draw,
    report=report,
)
