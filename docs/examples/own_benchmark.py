"""Judge rewards by labels of one's own: pairwise accuracy with intervals, and which reward to trust on one's videos.

    python docs/examples/own_benchmark.py labels.csv --reward hps_v2.1:xswu/HPSv2 --reward videorm-h14

`labels.csv` (or .jsonl, .parquet) has the columns `prompt, video, model` and one for each dimension that people rated
from 1 to 5 (an empty cell is no rating), and paths start from its folder. A row is a video: where several people rated
one, give the mean.
Scores are kept in the output folder: the same command goes on where it was interrupted. Exit code: 0 if every video
was scored, 1 if some were not, or the table is at fault.
"""

import argparse
from pathlib import Path

from videorm_hf.benchmarks import Benchmark, BenchmarkInfo
from videorm_hf.benchmarks.evaluation import evaluate_rewards
from videorm_hf.evaluation.results import accuracy_rows
from videorm_hf.evaluation.video_scores import ScoringSettings
from videorm_hf.reporting.tables import print_table
from videorm_hf.videoprefer.rated_table import read_rated_table

SHOWN = ("reward", "dimension", "accuracy %", "95% interval", "pairs")  # what fits a terminal


def read_labels(path: Path) -> Benchmark:
    """Read a table of rated videos as a labelled set; rows with the same prompt are compared with each other."""
    items = read_rated_table(path)
    if not any(video.ratings for item in items for video in item.candidates):
        raise ValueError(f"{path} holds no rating: a column for each rated dimension is expected, 1 to 5.")
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
    parser.add_argument("labels", type=Path, help="table of rated videos")
    parser.add_argument("--reward", action="append", required=True, help="NAME:SOURCE or a VIDEORM folder; repeatable")
    parser.add_argument("--output", type=Path, default=Path("judged"), help="folder of scores and report")
    parser.add_argument("--num-workers", type=int, help="decoding processes; by default all cores but one")
    options = parser.parse_args()

    settings = ScoringSettings(num_workers=options.num_workers)
    try:
        report = evaluate_rewards(read_labels(options.labels), options.reward, options.output, settings=settings)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
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
