"""DRaFT-V against no tuning, DRaFT-H, InstructVideo and InstructVideo-V: win, tie and lose by the truth.

Follows the paper's table of human preference (Wu et al. 2024, NeurIPS, Sec. 4), with the truth for people.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from benchmarks.studies.image_reward import IMAGE, VIDEORM
from benchmarks.studies.study import Json, Study, Work, number_within, percent, percent_within, settings_of
from benchmarks.studies.tuning import Judged, Tuning, Watched, compare, judge_tuned, tune
from benchmarks.studies.world import Sampling
from videorm_hf.reporting.plots import bar_chart
from videorm_hf.reporting.tables import markdown_table

UNTUNED, DRAFT_V = "untuned", "DRaFT-V"
METHODS = {
    DRAFT_V: {"method": "draft", "reward": "videorm"},
    "DRaFT-H": {"method": "draft", "reward": "image"},
    "InstructVideo-V": {"method": "instructvideo", "reward": "videorm"},
    "InstructVideo": {"method": "instructvideo", "reward": "image"},
}
MEASURES = ("mean", "prompt_following", "video_quality", "motion", "looks")


@dataclass(frozen=True)
class Settings:
    """How is tuned and judged.

    Args:
        tuning (`Tuning`): The same budget for all methods.
        judged (`Judged`): The test prompts.
        watched (`Watched`): What is measured on the way, as in the study that chose how to tune, which shares a run.
        seeds (`tuple[int, ...]`): Of the runs of each method.
    """

    tuning: Tuning = Tuning()
    judged: Judged = Judged()
    watched: Watched = Watched()
    seeds: tuple[int, ...] = (0, 1)


def run(settings: Settings, work: Work) -> Json:
    """Tune by every method and compare everything with everything that matters."""
    sampling = settings.tuning.sampling
    base = judge_tuned(None, sampling, settings.judged, work)
    clips: dict[str, list[Json]] = {UNTUNED: [base] * len(settings.seeds)}
    for name, fields in tqdm(METHODS.items(), desc="methods"):
        watched = settings.watched if fields["method"] == "draft" else None
        ways = [dataclasses.replace(settings.tuning, **fields, seed=seed) for seed in settings.seeds]
        folders = [tune(tuning, work, watched) for tuning in ways]
        clips[name] = [judge_tuned(folder, sampling, settings.judged, work) for folder in folders]
    pooled = {name: pool(runs) for name, runs in clips.items()}
    return {
        "settings": settings_of(settings),
        "over_untuned": {name: compare(pooled[UNTUNED], pooled[name]) for name in METHODS},
        "draftv_over": {name: compare(pooled[name], pooled[DRAFT_V]) for name in pooled if name != DRAFT_V},
    }


def pool(runs: list[Json]) -> Json:
    """Put the clips of several seeds together; clips of one prompt stay one unit of the intervals."""
    return {name: [value for run in runs for value in run[name]] for name in runs[0]}


def draw(results: Json, path: Path) -> None:
    """Draw DRaFT-V's win rates over the others."""
    others = results["draftv_over"]
    measures = ("mean", "prompt_following", "video_quality", "motion")
    cells = {measure: [others[name][measure] for name in others] for measure in measures}
    bar_chart(
        path,
        list(others),
        {measure: [cell["win_rate"] for cell in row] for measure, row in cells.items()},
        intervals={measure: [cell["win_rate_interval"] for cell in row] for measure, row in cells.items()},
        ylabel="win rate of DRaFT-V (ties one half)",
        title="DRaFT-V against others, by the truth",
        reference=0.5,
    )


def report(results: Json) -> str:
    """Write win / tie / lose of DRaFT-V, and what each method changes."""
    return "\n\n".join([
        "DRaFT-V against each of the others:",
        win_table("DRaFT-V against", results["draftv_over"]),
        "What each method changes, tuned minus untuned (ratings from 1 to 5, shares of claims, rewards):",
        change_table("method", results["over_untuned"]),
    ])  # fmt: skip


def win_table(title: str, comparisons: dict[str, Json]) -> str:
    """Write win / tie / lose by each measure, a row for each comparison."""
    rows = []
    for name, by_measure in comparisons.items():
        for measure in MEASURES:
            cell = by_measure[measure]
            total = cell["num_pairs"]
            counts = " / ".join(percent(cell[outcome] / total) for outcome in ("wins", "ties", "losses"))
            rate = percent_within(cell["win_rate"], cell["win_rate_interval"])
            rows.append(
                {
                    title: name,
                    "by": measure,
                    "win / tie / lose": counts,
                    "win rate": rate,
                    "sign test p": cell["sign_test"],
                }
            )
    return markdown_table(rows)


def change_table(title: str, comparisons: dict[str, Json]) -> str:
    """Write mean differences with intervals, a row for each comparison."""
    rows = []
    for name, by_measure in comparisons.items():
        cells = {measure: by_measure[measure] for measure in (*MEASURES, VIDEORM, IMAGE)}
        changes = {
            measure: number_within(cell["difference"], cell["difference_interval"]) for measure, cell in cells.items()
        }
        rows.append({title: name, **changes})
    return markdown_table(rows)


def draw_changes(comparisons: dict[str, Json], path: Path, title: str) -> None:
    """Draw the change of each rating, a group of bars for each comparison."""
    measures = ("mean", "prompt_following", "video_quality")
    rows = {measure: [by_measure[measure] for by_measure in comparisons.values()] for measure in measures}
    bar_chart(
        path,
        list(comparisons),
        {measure: [cell["difference"] for cell in row] for measure, row in rows.items()},
        intervals={measure: [cell["difference_interval"] for cell in row] for measure, row in rows.items()},
        ylabel="change of the rating",
        title=title,
        reference=0.0,
    )


TINY = Tuning(steps=2, batch_size=1, lora_rank=2, sampling=Sampling(2), num_prompts=2)
TINY_JUDGED, TINY_WATCHED = Judged(num_prompts=2, repeats=1), Watched(every=1, num_prompts=2)

STUDY = Study(
    name="draftv",
    title="DRaFT-V against no tuning, DRaFT-H, InstructVideo and InstructVideo-V",
    question=(
        "t2v-mini is tuned by each method with the same number of updates, prompts, LoRA and learning rate, and "
        "samples prompts of the test split from noise that no training has seen; all methods sample from the "
        "same noise. Ratings within 0.1 are a tie. `mean` is the mean of prompt following and video quality; "
        "`motion` is the share of the prompt's claims about motion and speed that hold, `looks` that of all "
        "others."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(TINY, TINY_JUDGED, TINY_WATCHED),
    draw=draw,
    report=report,
)
