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
    return replace_tables(text, table)


def replace_tables(text: str, fill: Callable[[str], str]) -> str:
    """Return a page with what `fill` gives for each name between its two marks."""
    return _MARKED.sub(
        lambda match: f"<!-- {match['name']}: begin -->\n{fill(match['name'])}\n<!-- {match['name']}: end -->", text
    )


def table(name: str) -> str:
    """Return one table as its results say."""
    if name not in TABLES:
        raise SystemExit(f"There is no table called {name!r}: expected one of {', '.join(TABLES)}.")
    path = RESULTS / f"{name}.json"
    return TABLES[name](json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else "Not measured yet."


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


def tvge_published_metrics(results: Results) -> str:
    """Pairwise accuracy for alignment of the metrics that TVGE publishes."""
    rows = []
    for reward in results["rewards"]:
        alignment = next(entry for entry in reward["dimensions"] if entry["dimension"] == "alignment")
        low, high = alignment["interval"]
        rows.append(
            {
                "metric": reward["name"],
                "accuracy": f"{alignment['accuracy']:.2%}",
                "95 % interval": f"{low:.1%} to {high:.1%}",
                "pairs": alignment["num_pairs"],
                "score ties": alignment["num_score_ties"],
                "accuracy if a score tie counts as wrong": f"{alignment['accuracy_ties_wrong']:.2%}",
            }
        )
    return markdown_table(rows)


def videoprefer_scale(results: Results) -> str:
    """Time and peak of each stage at both sizes, and how they grow."""
    small, large = results["sets"].values()
    rows = []
    for stage, last in large["stages"].items():
        row: dict[str, Any] = {"stage": stage.replace("_default_shards", ", shards of 128 MiB")}
        for entry in (small, large):
            measured = entry["stages"].get(stage)
            row[f"{entry['items']:,} items, {entry['videos']:,} videos"] = (
                f"{measured['seconds']:.1f} s, {measured['peak_mb_above_import']:.0f} MB" if measured else "-"
            )
        first = small["stages"].get(stage)
        if first is not None:
            added = (last["peak_mb_above_import"] - first["peak_mb_above_import"]) * 1024
            row["time grows by"] = f"{last['seconds'] / first['seconds']:.1f}"
            row["an item adds"] = f"{added / (large['items'] - small['items']):.1f} KB"
        rows.append(row)
    return markdown_table(rows)


def reward_training(results: Results) -> str:
    """Pairs per second of the three ways, and the ratios of rounds."""

    def ratio(entry: dict[str, float]) -> str:
        return f"{entry['ratio']:.1f} ({entry['lowest']:.1f} to {entry['highest']:.1f})"

    ways = (
        ("pairs", "pair by pair", ""),
        ("grouped", "the candidates of a prompt together", ratio(results["grouped_over_pairs"])),
        ("cached", "on cached features, after the first epoch", ratio(results["cached_over_pairs"])),
    )
    return markdown_table(
        [
            {"": title, "pairs per second": f"{results['pairs_per_second'][way]:.3g}", "times pair by pair": faster}
            for way, title, faster in ways
        ]
    )


def rewards(results: Results) -> str:
    """Time of a clip and peak memory for each reward and number of frames."""
    rows: dict[str, dict[str, Any]] = {}
    for cell in results["cells"]:
        row = rows.setdefault(
            cell["reward"], {"reward": f"`{cell['reward']}`", "weights": f"{cell['weights_mb']:,.0f} MB"}
        )
        row[f"forward, {cell['num_frames']} frames"] = (
            f"{cell['forward_ms']:,.0f} ms, {cell['forward_peak_mb']:,.0f} MB"
        )
        row[f"and backward, {cell['num_frames']} frames"] = (
            f"{cell['forward_backward_ms']:,.0f} ms, {cell['forward_backward_peak_mb']:,.0f} MB"
        )
    return markdown_table(list(rows.values()))


def annotation(results: Results) -> str:
    """Rate, memory and what is lost when a run is killed."""
    rate, kills = results["rate"], results["kills"]
    memory = results["memory"]
    peaks = ", ".join(f"{peak:.0f} MB ({int(calls):,})" for calls, peak in memory["peak_above_start_mb"].items())
    rows = [
        {
            "measured": f"rate, {results['settings']['concurrency']} calls at once, {rate['latency_s']:g} s latency, "
            f"{rate['num_calls']:,} calls",
            "figure": f"{rate['calls_per_s']:.1f} calls/s, {rate['share_of_ideal']:.1%} of the ideal; "
            f"{rate['cpu_ms_per_call']:.0f} ms of CPU a call",
        },
        {"measured": "peak memory above the start, after so many calls", "figure": peaks},
        {
            "measured": "growth of the peak after the first 1,000 calls",
            "figure": f"{memory['later_growth_bytes_per_call']:,} bytes a call; kept after the run: "
            f"{memory['heap_kept_bytes_per_call']:,} bytes of C heap a call, "
            f"{memory['python_blocks_kept']:,} Python objects in all",
        },
        {
            "measured": f"killed {kills['kills']} times over {kills['calls']:,} calls",
            "figure": f"{kills['paid_twice']} calls paid twice, {kills['records_lost']} records lost; "
            f"{kills['under_way_at_kills']} calls were under way at the kills, "
            f"{kills['sent_but_not_recorded_at_kills']} of them answered but not yet recorded",
        },
    ]
    return markdown_table(rows)


def release(results: Results) -> str:
    """Sizes of the distribution, and what was tried in a fresh environment."""
    wheel, base = results["wheel"], results["base"]
    rows = {
        "wheel": f"{wheel['megabytes']:.1f} MB, {wheel['files']} files; "
        f"{wheel['megabytes_of_miniature_weights']:.1f} MB of it the miniature weights",
        "source distribution": f"{results['sdist']['megabytes']:.1f} MB",
        "fresh environment": f"Python {base['python']}, {base['packages_installed']} packages",
        "modules imported": base["modules_imported"],
        "quick start blocks run": base["quick_start_blocks_run"],
        "extras tried": ", ".join(results["extras"]),
        "with": ", ".join(f"{name} {version}" for name, version in base["versions"].items()),
    }
    return markdown_table([{"": name, "release": value} for name, value in rows.items()])


TABLES: dict[str, Callable[[Results], str]] = {
    "annotation": annotation,
    "draftv_memory": draftv_memory,
    "draftv_vs_alignprop": draftv_vs_alignprop,
    "release": release,
    "reward_training": reward_training,
    "rewards": rewards,
    "tvge_published_metrics": tvge_published_metrics,
    "videoprefer_scale": videoprefer_scale,
    "videorm_speed": videorm_speed,
}


if __name__ == "__main__":
    main()
