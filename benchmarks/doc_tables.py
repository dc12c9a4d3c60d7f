"""Write every table of figures in the documentation from the results that the benchmarks wrote.

A table stands between two marks, `<!-- NAME: begin -->` and `<!-- NAME: end -->`; NAME is a function here and a file
of results. Nothing is measured: rerun a benchmark, then this, and look at the difference.

    python benchmarks/doc_tables.py
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from videorm_hf.reporting.tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
_MARKED = re.compile(r"<!-- (?P<name>\w+): begin -->\n.*?<!-- (?P=name): end -->", re.DOTALL)

Results = dict[str, Any]


def main() -> None:
    """Rewrite the pages whose tables have changed."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        current = with_tables(text)
        if current != text:
            page.write_text(current, encoding="utf-8")
            print(f"written: {page.relative_to(ROOT)}")


def pages() -> list[Path]:
    """Return the pages that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def with_tables(text: str) -> str:
    """Return a page with each of its tables as the results say."""

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            raise SystemExit(f"There is no table called {name!r}: expected one of {', '.join(TABLES)}.")
        results = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        return f"<!-- {name}: begin -->\n{TABLES[name](results)}\n<!-- {name}: end -->"

    return _MARKED.sub(table, text)


def draftv_memory(results: Results) -> str:
    """Peak and time of one step: a row for each checkpointing mode."""
    cells = {(cell["checkpointing"], cell["num_backprop_steps"]): cell for cell in results["cells"]}
    steps = sorted({k for _, k in cells})
    rows = []
    for mode in dict.fromkeys(mode for mode, _ in cells):
        row = {"checkpointing": f"`{mode}`"}
        for k in steps:
            cell = cells.get((mode, k))
            row[f"K={k}"] = f"{cell['peak_mb']:,.0f} MB, {cell['seconds']:.0f} s" if cell is not None else "-"
        rows.append(row)
    return markdown_table(rows)


def draftv_vs_alignprop(results: Results) -> str:
    """Time and peak of one step, TRL's trainer beside ours, and how far the gradients are apart."""
    rows = []
    for cell in results["cells"]:
        row: dict[str, Any] = {"T": cell["num_inference_steps"], "K": cell["num_backprop_steps"]}
        for name, title in (("trl", "AlignProp"), ("step", 'ours, `"step"`'), ("auto", 'ours, `"auto"`')):
            row[title] = f"{cell[name]['step_s']:.2f} s, {cell[name]['peak_mb']:.0f} MB"
        row["gradient difference"] = f"{cell['max_gradient_difference']:.1g}"
        rows.append(row)
    return markdown_table(rows)


def videorm_speed(results: Results) -> str:
    """Ratios of medians, with the lowest and the highest round."""

    def ratio(entry: dict[str, float] | None) -> str:
        return "" if entry is None else "{ratio:.2f} ({ratio_lowest:.2f} to {ratio_highest:.2f})".format(**entry)

    def row(title: str, entries: dict[str, dict[str, float]], forward: str, backward: str) -> dict[str, str]:
        return {
            "": title,
            "forward": ratio(entries.get(forward)),
            "forward and backward to the pixels": ratio(entries.get(backward)),
        }

    tower, frames = results["tower"], results["frame_by_frame"]
    first = 'time of VIDEORM over its bare image tower, `temporal_shift="none"`'
    return markdown_table(
        [
            row(first, tower, "none/forward", "none/forward+backward"),
            row('the same, `"residual"`', tower, "residual/forward", "residual/forward+backward"),
            row('the same, `"block"`', tower, "block/forward", "block/forward+backward"),
            row(
                "time of scoring frame by frame, the prompt encoded each time, over VIDEORM; both frozen",
                frames,
                "forward",
                "forward+backward",
            ),
            row(
                "the same, the frame scorer's weights not frozen, as some trainers leave them",
                frames,
                "",
                "forward+backward, peer as loaded",
            ),
        ]
    )


TABLES: dict[str, Callable[[Results], str]] = {
    "draftv_memory": draftv_memory,
    "draftv_vs_alignprop": draftv_vs_alignprop,
    "videorm_speed": videorm_speed,
}


if __name__ == "__main__":
    main()
