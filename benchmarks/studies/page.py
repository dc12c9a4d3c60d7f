"""docs/studies.md, written from the results; nothing is computed here but words."""

import json
from pathlib import Path

from benchmarks.studies.registry import STUDIES, load_study

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "studies"
FIGURES = ROOT / "docs" / "images" / "studies"
PAGE = ROOT / "docs" / "studies.md"
_OPENING = """# The paper's studies in the small world

The small world (`videorm_hf.miniature`, see the [architecture](architecture.md)) has what real videos lack: the truth.
Here the paper's studies are done again on it, with `videorm-mini`, `t2v-mini` and the measuring judge. Clips have 8
frames of 32 x 32 pixels: these are findings about the method and about this code, not about large models.

`make reproduce` runs everything, in a night on two cores, and writes this page, the figures and the JSON files in
`benchmarks/results/studies/` that hold every number. `python -m benchmarks.studies NAME` runs one study, in at most an
hour; it goes on where it was interrupted. Intervals are 95 % bootstrap intervals over prompts.
"""


def paths(name: str) -> tuple[Path, Path]:
    """Return where a study's results and its figure are."""
    return RESULTS / f"{name}.json", FIGURES / f"{name}.png"


def write_page() -> None:
    """Write the page from the results that there are."""
    PAGE.write_text(make_page(), encoding="utf-8")


def make_page() -> str:
    """Return the page; a study without results is named as such."""
    parts = [_OPENING]
    for name in STUDIES:
        study = load_study(name)
        results, figure = paths(name)
        parts.append(f"## {study.title}\n\n{study.question}\n")
        if not results.exists():
            parts.append(f"Not run yet: `python -m benchmarks.studies {name}`.\n")
            continue
        parts.append(study.report(json.loads(results.read_text(encoding="utf-8"))) + "\n")
        parts.append(f"![{study.title}]({figure.relative_to(PAGE.parent).as_posix()})\n")
    return "\n".join(parts)
