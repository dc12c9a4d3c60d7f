"""Judge rewards by labels of one's own: pairwise accuracy with intervals, and which reward to trust on one's videos.

    python docs/examples/own_benchmark.py labels.csv --reward hps_v2.1:xswu/HPSv2 --reward videorm-h14

`labels.csv` has the columns `prompt, video, model` and one for each dimension that people rated from 1 to 5, a row for
each video (of several people's ratings the mean); paths start from its folder. Scores are kept in the output folder:
the same command goes on where it was interrupted.
"""

import argparse
from pathlib import Path

import pandas as pd

from videorm_hf.benchmarks import Benchmark, BenchmarkInfo
from videorm_hf.benchmarks.benchmark import HUMAN, checked_rating
from videorm_hf.benchmarks.evaluation import evaluate_rewards
from videorm_hf.evaluation.results import accuracy_rows
from videorm_hf.evaluation.video_scores import ScoringSettings
from videorm_hf.reporting.tables import print_table
from videorm_hf.videoprefer.items import Candidate, Item

COLUMNS = ("prompt", "video", "model")


def read_labels(path: Path) -> Benchmark:
    """Read a table of rated videos as a labelled set; rows with the same prompt are compared with each other."""
    rows = pd.read_csv(path)
    dimensions = [name for name in rows.columns if name not in COLUMNS]
    items = []
    for number, (prompt, group) in enumerate(rows.groupby("prompt", sort=False)):
        candidates = []
        for row in group.to_dict("records"):
            place = f"{path}, {row['video']}"
            ratings = {name: checked_rating(row[name], place) for name in dimensions if pd.notna(row[name])}
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
    print_table(accuracy_rows(report), title=f"{options.labels}: {report.tie_rule}")


if __name__ == "__main__":  # decoding runs in processes of its own, which import this file
    main()
