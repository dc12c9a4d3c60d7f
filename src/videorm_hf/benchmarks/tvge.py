"""TVGE: videos of five text-to-video models, rated by people for alignment and quality (Wu et al. 2024, T2VScore).

Read as t2v_metrics publishes it: two JSON files of mean ratings, one CSV of metrics a video, and EvalCrafter's clips
as `MODEL/0003.mp4`, the prompt's number in four digits. The clips are not needed to judge the published metrics.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import pandas as pd

from videorm_hf.benchmarks.benchmark import Benchmark, BenchmarkInfo, checked_rating, find_file
from videorm_hf.videoprefer.items import HUMAN, Candidate, Item

INFO = BenchmarkInfo(
    name="tvge",
    title="TVGE",
    content="five models' videos of 204 prompts, mean ratings from 1 to 5 for alignment and quality",
    licence="Apache-2.0 for the tables; the clips are EvalCrafter's",
    source="github.com/linzhiqiu/t2v_metrics (datasets/), the clips from "
    "huggingface.co/datasets/RaphaelLiu/EvalCrafter_T2V_Dataset",
    files="t2vscore_alignment_score.json, t2vscore_quality_score.json, t2vscore_results.csv and MODEL/0003.mp4",
    tie_policy="equal mean ratings are a tie and dropped; the mean of both aspects is a dimension of its own",
    paper_test_size="15K pairs (mean of two aspects)",
)
_SCORES = {"alignment": "t2vscore_alignment_score.json", "quality": "t2vscore_quality_score.json"}
_METRICS = "t2vscore_results.csv"
_NO_METRIC = ("model_name", "video_id", "prompt")


def load(path: Path) -> Benchmark:
    """Read TVGE.

    Args:
        path (`Path`): Folder with the tables and, where there are any, the clips.

    Returns:
        [`Benchmark`]: dimensions `alignment`, `quality` and `"mean"`.

    Raises:
        ValueError: If the files contradict each other or hold something other than ratings.
    """
    tables = {name: _read_scores(find_file(path, (file,), INFO)) for name, file in _SCORES.items()}
    (first, table), *others = tables.items()
    for name, other in others:
        if _videos(other) != _videos(table):
            raise ValueError(f"The TVGE files for {first} and {name} do not list the same prompts and videos.")
    folder = path if path.is_dir() else path.parent
    items = tuple(_item(key, tables, folder) for key in table)
    return Benchmark(INFO, items, metrics=_read_metrics(path, items))


def _read_scores(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8"))
    for key, entry in content.items():
        if not isinstance(entry.get("prompt"), str) or not isinstance(entry.get("models"), dict):
            raise ValueError(f"{file}, entry {key!r} must have a prompt and models, got {entry!r}.")
        for model, ratings in entry["models"].items():
            if not ratings:
                raise ValueError(f"{file}, entry {key!r}: {model} has no rating.")
            entry["models"][model] = [checked_rating(rating, f"{file}, entry {key!r}, {model}") for rating in ratings]
    return content


def _videos(table: dict[str, Any]) -> dict[str, tuple[str, frozenset[str]]]:
    return {key: (entry["prompt"], frozenset(entry["models"])) for key, entry in table.items()}


def _item(key: str, tables: dict[str, dict[str, Any]], folder: Path) -> Item:
    entry = next(iter(tables.values()))[key]
    candidates = tuple(
        Candidate(
            candidate_id=model,
            video=str(folder / model / f"{int(key):04d}.mp4"),
            model=model,
            ratings={name: statistics.fmean(table[key]["models"][model]) for name, table in tables.items()},
            judge=HUMAN,
        )
        for model in entry["models"]
    )
    return Item(item_id=key, prompt=entry["prompt"], prompt_source="tvge", candidates=candidates)


def _read_metrics(path: Path, items: tuple[Item, ...]) -> dict[str, dict[tuple[str, str], float]]:
    """Read the published metrics, where the file is there; each must have a value for every video."""
    try:
        file = find_file(path, (_METRICS,), INFO)
    except FileNotFoundError:
        return {}
    table = pd.read_csv(file, dtype={"video_id": str, "model_name": str, "prompt": str})
    prompts = {item.item_id: item.prompt for item in items}
    keys = list(zip(table["video_id"], table["model_name"], strict=True))
    wanted = {(item.item_id, video.candidate_id) for item in items for video in item.candidates}
    if set(keys) != wanted or len(keys) != len(wanted):
        raise ValueError(f"{file} must list each of the {len(wanted)} rated videos once, it lists {len(set(keys))}.")
    for (key, _), prompt in zip(keys, table["prompt"], strict=True):
        if prompts[key] != prompt:
            raise ValueError(f"{file}, video_id {key}: the prompt is {prompt!r}, in the ratings {prompts[key]!r}.")
    columns = [name for name in table.columns if name not in _NO_METRIC]
    return {name: dict(zip(keys, table[name].astype(float), strict=True)) for name in columns}
