"""docs/studies.md, written from the results; nothing is computed here but words."""

import json
from pathlib import Path

from benchmarks.studies.registry import STUDIES, load_study
from benchmarks.studies.study import Json
from benchmarks.studies.verdicts import draw_main_results, verdict_table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "studies"
FIGURES = ROOT / "docs" / "images" / "studies"
PAGE = ROOT / "docs" / "studies.md"
MAIN_FIGURE = ROOT / "docs" / "images" / "main_results.png"
# What the results mean, in words: written by hand, without a number.
DISCUSSION = Path(__file__).with_name("discussion.md")
_OPENING = """# The paper's studies in the small world

The [small world](guides/small_world.md) (`videorm_hf.miniature`) has what real videos lack: the truth.
Here the paper's studies are done again on it, with `videorm-mini`, `t2v-mini` and the measuring judge. Clips have 8
frames of 32 x 32 pixels: these are findings about the method and about this code, not about large models.

`make reproduce` runs everything, in a night on two cores, and writes this page, the figures and the JSON files in
`benchmarks/results/studies/` that hold every number. `python -m benchmarks.studies NAME` runs one study, in at most an
hour; it goes on where it was interrupted. Intervals are 95 % bootstrap intervals over prompts or test pairs, not over
trainings.
"""


def paths(name: str) -> tuple[Path, Path]:
    """Return where a study's results and its figure are."""
    return RESULTS / f"{name}.json", FIGURES / f"{name}.png"


def write_page() -> None:
    """Write the page, and the README's picture, from the results that there are."""
    results = read_results()
    PAGE.write_text(make_page(results), encoding="utf-8")
    if {"reward_accuracy", "best_of_n", "draftv"} <= set(results):
        draw_main_results(results, MAIN_FIGURE)


def read_results() -> dict[str, Json]:
    """Return what each study that has been run has found."""
    found = {name: paths(name)[0] for name in STUDIES}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in found.items() if path.exists()}


def make_page(results: dict[str, Json]) -> str:
    """Return the page; a study without results is named as such."""
    parts = [_OPENING, "## What came out\n", verdict_table(results) + "\n", DISCUSSION.read_text(encoding="utf-8")]
    for name in STUDIES:
        study = load_study(name)
        parts.append(f"## {study.title}\n\n{study.question}\n")
        if name not in results:
            parts.append(f"Not run yet: `python -m benchmarks.studies {name}`.\n")
            continue
        parts.append(study.report(results[name]) + "\n")
        parts.append(f"![{study.title}]({paths(name)[1].relative_to(PAGE.parent).as_posix()})\n")
    return "\n".join(parts)
