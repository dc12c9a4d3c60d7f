"""From a table of videos to a preference data set that plain `load_dataset` reads.

    python docs/examples/build_dataset.py videos.csv my-set --output my-dataset

The table has the columns `prompt, video, model` and one for each rated dimension, with ratings from 1 to 5 (an empty
cell is no rating). A row is a video: where several people rated one, give the mean. Rows with the same prompt become
one item; paths start from the table's folder:

    prompt,video,model,prompt_following,video_quality
    people ride bikes,a.mp4,wan,5,4
    people ride bikes,b.mp4,ltx,2,3

`my-set` becomes a working folder, with the table's ratings as people.jsonl; a judge can rate it later, into a file of
its own (annotate_folder.py). `my-dataset` is what to publish. Without any rating in the table only the working folder
is written.
"""

import argparse
import json
import shutil
from pathlib import Path

import pandas as pd
from datasets import Video, load_dataset

from videorm_hf.videoprefer.builder import VideoPreferConfig
from videorm_hf.videoprefer.export import export_to_hub_layout

COLUMNS = ["prompt", "video", "model"]
PEOPLE = "people.jsonl"  # ratings.jsonl is for a judge, who continues no file that people began


def write_working_folder(table: Path, folder: Path) -> list[str]:
    """Write items, copies of the videos and ratings; return the rated dimensions."""
    rows = pd.read_csv(table)
    if missing := sorted(set(COLUMNS) - set(rows.columns)):
        raise SystemExit(f"{table} lacks the columns {missing}: it has {list(rows.columns)}.")
    dimensions = [name for name in rows.columns if name not in COLUMNS and rows[name].notna().any()]
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    items, ratings = [], []
    for number, (prompt, group) in enumerate(rows.groupby("prompt", sort=False)):
        candidates = []
        for place, row in enumerate(group.to_dict("records")):
            name = f"videos/{number}-{place}{Path(row['video']).suffix}"
            shutil.copy(table.parent / row["video"], folder / name)
            candidates.append({"candidate_id": str(place), "video": name, "model": row["model"]})
            for dimension in dimensions:
                if pd.notna(row[dimension]):
                    key = {"item_id": str(number), "candidate_id": str(place), "dimension": dimension}
                    ratings.append({**key, "rating": row[dimension], "judge": {"model": "human"}})
        items.append({"item_id": str(number), "prompt": prompt, "prompt_source": "own", "candidates": candidates})
    write_lines(folder / "items.jsonl", items)
    if ratings:
        write_lines(folder / PEOPLE, ratings)
    return dimensions


def write_lines(path: Path, records: list[dict]) -> None:
    """Write a JSON Lines file."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def main() -> None:
    """Write the working folder, export it, and read the result as anyone would."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="CSV file of videos and, perhaps, ratings")
    parser.add_argument("folder", type=Path, help="working folder to write")
    parser.add_argument("--output", type=Path, default=Path("my-dataset"), help="data set to write")
    parser.add_argument("--train-share", type=float, default=0.9, help="share of the prompts in the split train")
    options = parser.parse_args()

    dimensions = write_working_folder(options.table, options.folder)
    if not dimensions:
        print(f"{options.folder} is ready to be rated: no rating in {options.table}, so nothing was exported.")
        return
    config = VideoPreferConfig(
        name="preference",
        data_dir=str(options.folder),
        ratings=(PEOPLE,),
        num_candidates=None,  # any two or more
        dimensions=tuple(dimensions),
        fractions={"train": options.train_share, "test": 1.0 - options.train_share},
    )
    report = export_to_hub_layout(config, options.output)
    print(report.describe())

    data = load_dataset(str(options.output), "preference")
    for split, pairs in data.items():
        for name in ("chosen", "rejected"):
            pairs = pairs.cast_column(name, Video(decode=False))  # path and bytes; decoding needs torchcodec
        print(f"{split}: {len(pairs)} pairs, such as {pairs[0]['prompt']!r} with a margin of {pairs[0]['margin']:g}")


if __name__ == "__main__":
    main()
