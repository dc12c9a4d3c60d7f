"""Judge rewards by labels of one's own: pairwise accuracy with intervals, and which reward to trust on one's videos.

    python docs/examples/own_benchmark.py labels.csv --reward hps_v2.1:xswu/HPSv2 --reward videorm-h14

`labels.csv` has the columns `prompt, video, model` and one for each dimension that people rated from 1 to 5 (an empty
cell is no rating), and paths start from its folder. A row is a video: where several people rated one, give the mean.
Scores are kept in the output folder: the same command goes on where it was interrupted. Exit code: 0 if every video
was scored, 1 if some were not, or the table is at fault.
"""

import argparse
from pathlib import Path

import pandas as pd

from videorm_hf.benchmarks import Benchmark, BenchmarkInfo
from videorm_hf.benchmarks.benchmark import HUMAN
from videorm_hf.benchmarks.evaluation import evaluate_rewards
from videorm_hf.evaluation.results import accuracy_rows
from videorm_hf.evaluation.video_scores import ScoringSettings
from videorm_hf.reporting.tables import print_table
from videorm_hf.videoprefer.items import Candidate, Item

COLUMNS = ["prompt", "video", "model"]
SHOWN = ("reward", "dimension", "accuracy %", "95% interval", "pairs")  # what fits a terminal


def read_table(table: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read the rows and the names of the rated dimensions; exit with all that is wrong with them."""
    rows = pd.read_csv(table, dtype=dict.fromkeys(COLUMNS, str))
    if missing := sorted(set(COLUMNS) - set(rows.columns)):
        raise SystemExit(f"{table} lacks the columns {missing}: it has {list(rows.columns)}.")
    dimensions = [name for name in rows.columns if name not in COLUMNS and rows[name].notna().any()]
    if not dimensions:
        raise SystemExit(f"{table} holds no rating: a column for each rated dimension is expected, 1 to 5.")
    faults, seen = [], {}
    for row, cells in enumerate(rows.to_dict("records"), start=2):  # row 1 holds the names
        if empty := [name for name in COLUMNS if pd.isna(cells[name])]:
            faults.append(f"row {row}: no {', '.join(empty)}")
            continue
        video = table.parent / cells["video"]
        first = seen.setdefault((cells["prompt"], video.resolve()), row)
        if first != row:
            faults.append(f"rows {first} and {row} rate {video} for one prompt: give one row, the mean of its ratings")
        if not video.is_file():
            faults.append(f"row {row}: there is no file {video}")
        for name in dimensions:
            if pd.notna(cells[name]) and not 1 <= pd.to_numeric(cells[name], errors="coerce") <= 5:
                faults.append(f"row {row}: {name} must be a rating from 1 to 5 or empty, got {cells[name]!r}")
    if faults:
        raise SystemExit("\n".join([f"Mend {table}, and drop columns without ratings:", *faults[:10]]))
    return rows.astype(dict.fromkeys(dimensions, float)), dimensions


def read_labels(path: Path) -> Benchmark:
    """Read a table of rated videos as a labelled set; rows with the same prompt are compared with each other."""
    rows, dimensions = read_table(path)
    items = []
    for number, (prompt, group) in enumerate(rows.groupby("prompt", sort=False)):
        candidates = []
        for row in group.to_dict("records"):
            ratings = {name: row[name] for name in dimensions if pd.notna(row[name])}
            video = str(path.parent / row["video"])
            candidates.append(Candidate(row["video"], video, row["model"], ratings=ratings, judge=HUMAN))
        items.append(Item(str(number), prompt, "own", tuple(candidates)))
    info = BenchmarkInfo(
        name="own",
        title=path.stem,
        content="videos that we rated",
        licence="ours",
        source=str(path),
        files=path.name,
        tie_policy="equal ratings are a tie and dropped",
    )
    return Benchmark(info, tuple(items))


def main() -> None:
    """Evaluate and print a row for each reward and dimension."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, help="CSV file of rated videos")
    parser.add_argument("--reward", action="append", required=True, help="NAME:SOURCE or a VIDEORM folder; repeatable")
    parser.add_argument("--output", type=Path, default=Path("judged"), help="folder of scores and report")
    parser.add_argument("--num-workers", type=int, help="decoding processes; by default all cores but one")
    options = parser.parse_args()

    settings = ScoringSettings(num_workers=options.num_workers)
    report = evaluate_rewards(read_labels(options.labels), options.reward, options.output, settings=settings)
    report.save(options.output / "report.json")
    print_table(accuracy_rows(report), title=str(options.labels), columns=SHOWN)
    failed = [reward for reward in report.rewards if reward.failures]
    for reward in failed:
        print(f"{reward.name}: not scored: {reward.failures}; the first: {reward.first_failure}")
    print(f"All columns, and how ties count: {options.output / 'report.json'}")
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":  # decoding runs in processes of its own, which import this file
    main()
