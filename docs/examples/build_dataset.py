"""From a table of videos to a preference data set that plain `load_dataset` reads.

    python docs/examples/build_dataset.py videos.csv my-set --output my-dataset

The table has the columns `prompt, video, model` and one for each dimension, with ratings from 1 to 5 or empty cells. A
row is a video: of several people's ratings give the mean. Rows of a prompt are one item. Paths start at the table:

    prompt,video,model,prompt_following,video_quality
    people ride bikes,a.mp4,wan,5,4
    people ride bikes,b.mp4,ltx,2,3

`my-set` becomes a working folder, with the table's ratings as people.jsonl; a judge can rate it later, into a file of
its own (annotate_folder.py). `my-dataset` is what to publish; without ratings only `my-set` is written.
"""

import argparse
import json
import shutil
from pathlib import Path

from datasets import load_dataset

from videorm_hf.videoprefer.builder import VideoPreferConfig
from videorm_hf.videoprefer.export import export_to_hub_layout
from videorm_hf.videoprefer.rated_table import read_rated_table

PEOPLE = "people.jsonl"  # ratings.jsonl is for a judge, who continues no file that people began


def write_working_folder(table: Path, folder: Path) -> list[str]:
    """Write items, copies of the videos and ratings; return the rated dimensions."""
    rated = read_rated_table(table)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    items, ratings = [], []
    for item in rated:
        candidates = []
        for place, video in enumerate(item.candidates):
            name = f"videos/{item.item_id}-{place}{Path(video.video).suffix}"
            shutil.copy(video.video, folder / name)
            candidates.append({"candidate_id": str(place), "video": name, "model": video.model})
            for dimension, rating in video.ratings.items():
                record = {"item_id": item.item_id, "candidate_id": str(place), "dimension": dimension}
                ratings.append(record | {"rating": rating, "judge": {"model": "human"}})
        items.append(
            {"item_id": item.item_id, "prompt": item.prompt, "prompt_source": "own", "candidates": candidates}
        )
    write_lines(folder / "items.jsonl", items)
    if ratings:
        write_lines(folder / PEOPLE, ratings)
    return list(dict.fromkeys(record["dimension"] for record in ratings))


def write_lines(path: Path, records: list[dict]) -> None:
    """Write a JSON Lines file."""
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def main() -> None:
    """Write the working folder, export it, and read the result as anyone would."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="table of videos and, perhaps, ratings")
    parser.add_argument("folder", type=Path, help="working folder to write")
    parser.add_argument("--output", type=Path, default=Path("my-dataset"), help="data set to write")
    parser.add_argument("--train-share", type=float, default=0.9, help="share of the prompts in the split train")
    options = parser.parse_args()

    if options.output.exists():
        raise SystemExit(f"{options.output} exists: remove it, or name another folder with --output.")
    try:
        dimensions = write_working_folder(options.table, options.folder)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
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
    try:
        report = export_to_hub_layout(config, options.output)
    except ValueError as error:
        raise SystemExit(f"Nothing was exported: {error}") from error
    print(report.describe())

    for split, pairs in load_dataset(str(options.output), "preference").items():
        rows = pairs.select_columns(["prompt", "margin"])  # looking into a video decodes it with torchcodec
        print(f"{split}: {len(rows)} pairs, such as {rows[0]['prompt']!r} with a margin of {rows[0]['margin']:g}")


if __name__ == "__main__":
    main()
