"""GenAI-Bench (video): votes of the visitors of GenAI-Arena on pairs of videos (Jiang et al. 2024, arXiv 2406.04485).

Read as the Hub publishes it: a Parquet file with `prompt, left_video, right_video, vote_type`, in which a video is a
URL; and as a CSV of `idx, prompt, human_vote`, which is what the repository's result files hold: votes without videos.
"""

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

import pandas as pd

from videorm_hf.benchmarks.benchmark import Benchmark, BenchmarkInfo, find_file, first_existing
from videorm_hf.evaluation.labels import LabelledPair
from videorm_hf.videoprefer.items import Candidate, Item

INFO = BenchmarkInfo(
    name="genai_bench",
    title="GenAI-Bench (video)",
    content="votes of visitors on pairs of videos: left, right, tie, both bad",
    licence="MIT in the repository, CC-BY-4.0 on the dataset's card",
    source="huggingface.co/datasets/TIGER-Lab/GenAI-Bench (video_generation, split test_v1) or "
    "github.com/TIGER-AI-Lab/GenAI-Bench",
    files="test_v1-00000-of-00001.parquet or genai_human_votes.csv, videos by their file names in videos/",
    tie_policy='"tievote" and "bothbad_vote" are ties and dropped',
)
DIMENSION = "overall"
_VOTES = {"leftvote": 1.0, "rightvote": 0.0, "tievote": 0.5, "bothbad_vote": 0.5}
_FILES = ("test_v1-00000-of-00001.parquet", "test-00000-of-00001.parquet", "genai_human_votes.csv")


def load(path: Path) -> Benchmark:
    """Read GenAI-Bench.

    Args:
        path (`Path`): The Parquet or CSV file, or a folder with it and, where there are any, the videos.

    Returns:
        [`Benchmark`]: votes, dimension `overall`; an item is a vote.

    Raises:
        ValueError: If a vote is unknown or the file has no column of votes.
    """
    file = path if path.is_file() else find_file(path, _FILES, INFO)
    table = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file, keep_default_na=False)
    votes = "vote_type" if "vote_type" in table.columns else "human_vote"
    if missing := sorted({"prompt", votes} - set(table.columns)):
        raise ValueError(f"{file} lacks the columns {missing}. {INFO.where_to_get}")
    folder = path if path.is_dir() else path.parent
    names = table["idx"] if "idx" in table.columns else table.index
    items, pairs = [], []
    for number, row in zip(names, table.to_dict("records"), strict=True):
        if row[votes] not in _VOTES:
            raise ValueError(f"{file}, row {number}: a vote must be one of {', '.join(_VOTES)}, got {row[votes]!r}.")
        item = Item(
            str(number), row["prompt"], "genai_bench", tuple(_candidate(s, row, folder) for s in ("left", "right"))
        )
        left = _VOTES[row[votes]]
        items.append(item)
        pairs.append(LabelledPair(item.item_id, item.prompt, DIMENSION, "left", "right", left, 1 - left))
    return Benchmark(INFO, tuple(items), tuple(pairs))


def _candidate(side: str, row: dict[str, Any], folder: Path) -> Candidate:
    url = row.get(f"{side}_video")
    video = None
    if url is not None:
        name = PurePosixPath(unquote(urlparse(str(url)).path)).name
        video = first_existing([folder / "videos" / name, folder / name, folder / str(url)])
    return Candidate(side, video, str(row.get(f"{side}_model", "unknown")))
