"""The LoRA of DRaFT-V at strengths from 0 to 1 (Clark et al. 2024): reward and truth between base and tuned model."""

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks.studies.draftv import TINY, TINY_JUDGED, TINY_WATCHED, change_table
from benchmarks.studies.study import Json, Study, Work, settings_of
from benchmarks.studies.tuning import Judged, Tuning, Watched, compare, judge_tuned, tune
from videorm_hf.reporting.plots import line_chart


@dataclass(frozen=True)
class Settings:
    """What is tuned, and at which strengths it is judged.

    Args:
        tuning (`Tuning`): As in the study of DRaFT-V, whose LoRA is used again.
        scales (`tuple[float, ...]`): Strengths.
        judged (`Judged`): The test prompts.
        watched (`Watched`): As in the study of DRaFT-V.
    """

    tuning: Tuning = Tuning()
    scales: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    judged: Judged = Judged()
    watched: Watched = Watched()


def run(settings: Settings, work: Work) -> Json:
    """Judge one LoRA at each strength."""
    folder, sampling = tune(settings.tuning, work, settings.watched), settings.tuning.sampling
    base = judge_tuned(None, sampling, settings.judged, work)
    found = {
        f"{scale:g}": compare(base, judge_tuned(folder, sampling, settings.judged, work, scale))
        for scale in tqdm(settings.scales, desc="strengths")
    }
    return {"settings": settings_of(settings), "over_untuned": found}


def draw(results: Json, path: Path) -> None:
    """Draw the ratings' changes over the strength."""
    found = results["over_untuned"]
    scales = [float(scale) for scale in found]
    measures = ("mean", "prompt_following", "video_quality")
    rows = {measure: [by_measure[measure] for by_measure in found.values()] for measure in measures}
    line_chart(
        path,
        {measure: (scales, [cell["difference"] for cell in row]) for measure, row in rows.items()},
        intervals={measure: [cell["difference_interval"] for cell in row] for measure, row in rows.items()},
        xlabel="strength of the LoRA",
        ylabel="change of the rating",
        title="Strength of the LoRA",
    )


def report(results: Json) -> str:
    """Write what each strength changes."""
    return change_table("strength", results["over_untuned"])


STUDY = Study(
    name="lora_scale",
    title="Strength of the LoRA",
    question="The LoRA of DRaFT-V at several strengths, without further training, on the test prompts.",
    run=run,
    full=Settings(),
    smoke=Settings(TINY, (0.0, 1.0), TINY_JUDGED, TINY_WATCHED),
    draw=draw,
    report=report,
)
