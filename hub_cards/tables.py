"""The tables of the cards, from `hub_cards/results/*.json` and nothing else.

A table stands between the marks `<!-- NAME: begin -->` and `<!-- NAME: end -->`, as in the documentation
(`benchmarks/doc_tables.py`). Which names there are:

- `paper_...` and `videorm_h14`: the functions below, from `paper.json` (what the paper's text states, transcribed) and
  `videorm_h14.json` (written by `benchmarks/videorm_h14.py`).
- `miniature_KEY`: `miniature.json["tables"][KEY]`, whatever KEY is. Until the file has it, "Not measured yet." stands
  there. Everything else in the file is free (machine, settings, seeds). Written as:

      {"tables": {
          "videorm_mini": {
              "row": "dimension",              title of the first column
              "measure": "pairwise accuracy",  title of the second
              "unit": "share",                 "share" is printed in percent, "number" as it is
              "count": "pairs",                title of the last, what n counts
              "rows": {
                  "prompt following": {"value": 0.9, "low": 0.88, "high": 0.92, "n": 1200, "ties_wrong": 0.89}
              }
          }
      }}

  `low` and `high` are the ends of the 95 % interval. `ties_wrong`, where rows have it, is the accuracy if a tied
  reward counted as wrong. The cards have marks for `videorm_mini` and `videorm_mini_clips` (videorm-mini) and for
  `t2v_mini` (t2v-mini); `videorm_mini` also becomes the evaluation results in that card's metadata.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from videorm_hf.reporting.tables import markdown_table

RESULTS = Path(__file__).parent / "results"
MINIATURE = "miniature_"
_NOT_MEASURED = "Not measured yet."

Results = dict[str, Any]


def table(name: str) -> str:
    """Return the table that stands between the marks of a name.

    Raises:
        KeyError: If there is no such table.
    """
    if name.startswith(MINIATURE):
        entry = _read("miniature").get("tables", {}).get(name.removeprefix(MINIATURE))
        return _NOT_MEASURED if entry is None else interval_table(entry)
    if name not in TABLES:
        raise KeyError(f"no table is called {name!r}: expected {MINIATURE}KEY or one of {', '.join(TABLES)}")
    return TABLES[name]()


def interval_table(entry: Mapping[str, Any]) -> str:
    """Render rows of value, interval and count; see the head of this file for what an entry holds."""
    is_share = entry["unit"] == "share"

    def number(value: float) -> str:
        return f"{value:.1%}" if is_share else f"{value:.3f}"

    rows = []
    for name, row in entry["rows"].items():
        cells = {entry["row"]: name, entry["measure"]: number(row["value"])}
        cells["95 % interval"] = f"{number(row['low'])} to {number(row['high'])}"
        if "ties_wrong" in row:
            cells["if a tied reward counted as wrong"] = number(row["ties_wrong"])
        rows.append({**cells, entry["count"]: row["n"]})
    return markdown_table(rows)


def videorm_mini_results() -> list[EvalResult]:
    """Return what videorm-mini's metadata say of its accuracy; nothing before it was measured."""
    entry = _read("miniature").get("tables", {}).get("videorm_mini", {"rows": {}})
    return [
        EvalResult(
            task_type="video-classification",
            task_name="Preference between two videos of a prompt",
            dataset_type="miniature",
            dataset_name="The small world of videorm-hf, test scenes",
            dataset_split="test",
            metric_type="accuracy",
            metric_name=f"Pairwise accuracy, {name}",
            metric_value=round(row["value"], 4),
            metric_args={"interval": [round(row["low"], 4), round(row["high"], 4)], "pairs": row["n"]},
        )
        for name, row in entry["rows"].items()
    ]


def paper_preferred_over() -> str:
    """Render how often people preferred the picks of the paper's VIDEORM."""
    results = _read("paper")
    rows = [
        {name: f"{value:.0%}" if isinstance(value, float) else value for name, value in row.items()}
        for row in results["preferred_over"]
    ]
    return f"{markdown_table(rows)}\n\nThe paper's protocol: {results['preferred_over_protocol']}."


def videorm_h14() -> str:
    """Render size and parity at the full size."""
    results = _read("videorm_h14")
    parameters, still = results["parameters"], results["still_clips"]
    return markdown_table(
        [
            {"measured": "parameters", "figure": f"{parameters['all'] / 1e6:,.0f} million"},
            {
                "measured": "of these trained: the temporal transformer",
                "figure": f"{parameters['temporal_head'] / 1e6:,.1f} million",
            },
            {"measured": "folder in float32", "figure": f"{results['stored_mb'] / 1e3:.2f} GB"},
            {
                "measured": f"largest difference of the reward of a still clip and open_clip's cosine of its frame "
                f"({still['clips']} clips, whose rewards span {still['spread_of_rewards']:.1g})",
                "figure": f"{still['max_difference']:.1g}",
            },
        ]
    )


def _read(name: str) -> Results:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


TABLES: dict[str, Callable[[], str]] = {
    "paper_draftv": lambda: markdown_table(_read("paper")["draftv"]),
    "paper_preferred_over": paper_preferred_over,
    "paper_training": lambda: markdown_table(_read("paper")["training"]),
    "paper_videoprefer": lambda: markdown_table(_read("paper")["videoprefer"]),
    "videorm_h14": videorm_h14,
}
