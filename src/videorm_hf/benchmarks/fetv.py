"""FETV: four models' videos and real ones, rated by three people in three dimensions (Liu et al. 2023, 2311.01813).

Three layouts are read. The official one: `manual_eval_results/human0/manual_eval_results_MODEL.json`, a line a video,
`fetv_data.json` with the prompts and `MODEL/videos/0.mp4`. One flat table `fetv_human_ratings.csv` with a row a rater.
And a folder of example clips with `clips.jsonl`, whose lines name the file, the group and the ratings.
"""

import json
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from videorm_hf.benchmarks.benchmark import (
    Benchmark,
    BenchmarkInfo,
    checked_rating,
    find_file,
    first_existing,
)
from videorm_hf.scoring.tables import read_json_lines
from videorm_hf.videoprefer.items import HUMAN, Candidate, Item

INFO = BenchmarkInfo(
    name="fetv",
    title="FETV",
    content="248 prompts, four models' videos and real ones, three people's ratings from 1 to 5 for static and "
    "temporal quality and alignment",
    licence="CC-BY-4.0",
    source="github.com/llyx97/FETV-EVAL (ratings), github.com/llyx97/FETV (prompts) and "
    "huggingface.co/datasets/lyx97/FETV_gen_videos",
    files="manual_eval_results/ and fetv_data.json, or fetv_human_ratings.csv, or clips.jsonl",
    tie_policy="equal means over the raters are a tie and dropped",
)
DIMENSIONS = ("static_quality", "temporal_quality", "alignment")
# Name in the rating files: name in print, folder of the videos, name in the files of published metrics.
_MODELS = {
    "cogvideo": ("CogVideo", "cogvideo", "cogvideo"),
    "text2video-zero": ("Text2Video-Zero", "text2video-zero", "text2video-zero"),
    "damo-text2video": ("ModelScopeT2V", "modelscope-t2v", "modelscope-t2v"),
    "zeroscope": ("ZeroScope", "zeroscope", "zeroscope"),
    "ground-truth": ("real video", "real_videos", "ground-truth"),
}
_FOLDERS = {title: folder for title, folder, _ in _MODELS.values()}
_REAL = "real video"


@dataclass(frozen=True)
class _Rating:
    """What one person gave one video; `number` is the prompt's line in fetv_data.json."""

    number: str
    prompt: str
    model: str
    video_id: str
    ratings: dict[str, float]
    video: str | None = None


def load(path: Path) -> Benchmark:
    """Read FETV in any of its three layouts.

    Args:
        path (`Path`): The folder, or the file `fetv_human_ratings.csv` or `clips.jsonl`.

    Returns:
        [`Benchmark`]: dimensions `static_quality`, `temporal_quality`, `alignment` and `"mean"`; means of the raters.
    """
    folder = path if path.is_dir() else path.parent
    official = sorted(folder.rglob("manual_eval_results_*.json")) if path.is_dir() else []
    if official:
        return Benchmark(INFO, _items(_read_official(path, official), folder), metrics=_read_metrics(folder))
    file = find_file(path, ("fetv_human_ratings.csv", "clips.jsonl"), INFO)
    return Benchmark(INFO, _items(_read_clips(file) if file.suffix == ".jsonl" else _read_table(file), folder))


def _read_official(path: Path, files: list[Path]) -> Iterator[_Rating]:
    """Read the authors' files: a line `{number: {"video_id": ..., dimension: rating, ...}}` for each video."""
    prompts = read_json_lines(find_file(path, ("fetv_data.json",), INFO))
    for file in files:
        model = file.stem.removeprefix("manual_eval_results_")
        if model not in _MODELS:
            raise ValueError(f"{file} is of an unknown model; known are {', '.join(_MODELS)}.")
        for line, entry in enumerate(read_json_lines(file), start=1):
            ((number, rated),) = entry.items()
            place = f"{file}, line {line}"
            if not number.isdigit() or int(number) >= len(prompts):
                raise ValueError(f"{place}: prompt {number} is not among the {len(prompts)} of fetv_data.json.")
            prompt = prompts[int(number)]
            if str(prompt["video_id"]) != str(rated["video_id"]):
                raise ValueError(f"{place}: video_id is {rated['video_id']}, in fetv_data.json {prompt['video_id']}.")
            ratings = {name: checked_rating(rated.get(name), f"{place}, {name}") for name in DIMENSIONS}
            yield _Rating(number, prompt["prompt"], _MODELS[model][0], str(rated["video_id"]), ratings)


def _read_table(file: Path) -> Iterator[_Rating]:
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    wanted = {"prompt_index", "prompt", "model", "rater", *DIMENSIONS}
    if missing := sorted(wanted - set(table.columns)):
        raise ValueError(f"{file} lacks the columns {missing}. {INFO.where_to_get}")
    for line, row in enumerate(table.to_dict("records"), start=2):
        ratings = {name: checked_rating(row[name], f"{file}, line {line}, {name}") for name in DIMENSIONS}
        yield _Rating(row["prompt_index"], row["prompt"], row["model"], row.get("video_id", ""), ratings)


def _read_clips(file: Path) -> Iterator[_Rating]:
    """Read the clips of groups `fetv_*`; their labels hold a list of the raters' ratings a dimension."""
    for line, row in enumerate(read_json_lines(file), start=1):
        group = row.get("group_id") or ""
        if not group.startswith("fetv_"):
            continue
        number, label = group.removeprefix("fetv_").lstrip("0") or "0", row["human_label"]
        for ratings in zip(*(label[name] for name in DIMENSIONS), strict=True):
            checked = [checked_rating(rating, f"{file}, line {line}") for rating in ratings]
            by_name = dict(zip(DIMENSIONS, checked, strict=True))
            yield _Rating(number, row["prompt"], row["model"], "", by_name, str(file.parent / row["file_name"]))


def _items(ratings: Iterable[_Rating], folder: Path) -> tuple[Item, ...]:
    """Group ratings by prompt and model and average them over the raters."""
    groups: dict[str, dict[str, list[_Rating]]] = {}
    for rating in ratings:
        groups.setdefault(rating.number, {}).setdefault(rating.model, []).append(rating)
    if not groups:
        raise ValueError(f"{folder} holds no rating of FETV. {INFO.where_to_get}")
    items = []
    for number, by_model in sorted(groups.items(), key=lambda group: int(group[0])):
        prompts = {rating.prompt for group in by_model.values() for rating in group}
        if len(prompts) > 1:
            raise ValueError(f"FETV, prompt {number}: the prompt differs between rows: {sorted(prompts)}.")
        candidates = tuple(_candidate(model, group, folder) for model, group in by_model.items())
        items.append(Item(number, prompts.pop(), "fetv", candidates))
    return tuple(items)


def _candidate(model: str, group: list[_Rating], folder: Path) -> Candidate:
    means = {name: statistics.fmean(rating.ratings[name] for rating in group) for name in DIMENSIONS}
    video = group[0].video or _video(group[0], folder)
    return Candidate(model, video, model, is_real=model == _REAL, ratings=means, judge=HUMAN)


def _video(rating: _Rating, folder: Path) -> str:
    """Return where a video lies, or where the authors put it; videos of CogVideo are GIFs, others MP4s."""
    model = _FOLDERS.get(rating.model, rating.model)
    roots = [folder / "datas" / "videos" / model, folder / "videos" / model, folder / model]
    if rating.model == _REAL:
        return first_existing(root / f"{rating.video_id}.mp4" for root in roots)
    suffixes = (".gif", ".mp4") if model == "cogvideo" else (".mp4", ".gif")
    return first_existing(root / "videos" / f"{rating.number}{suffix}" for root in roots for suffix in suffixes)


def _read_metrics(folder: Path) -> dict[str, dict[tuple[str, str], float]]:
    """Read `auto_eval_results/METRIC/auto_eval_results_MODEL.json`, where there are any."""
    metrics: dict[str, dict[tuple[str, str], float]] = {}
    titles = {name: title for title, _, name in _MODELS.values()}
    for file in sorted(folder.rglob("auto_eval_results_*.json")):
        model = file.stem.removeprefix("auto_eval_results_")
        if model in titles:
            values = json.loads(file.read_text(encoding="utf-8"))
            column = metrics.setdefault(file.parent.name, {})
            column |= {(number, titles[model]): float(value) for number, value in values.items()}
    return metrics
