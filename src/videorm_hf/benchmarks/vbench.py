"""VBench human preference: votes on pairs of four models' videos in 16 dimensions (Huang et al. 2023, 2311.17982).

Read as VBench documents it: one JSON file a dimension, a list of entries with `prompt_en`, `videos` (model to URL) and
`human_anno` (model to model to 1, 0.5 or 0: better, same, worse). Videos lie in the folders of the sampled videos,
`MODEL/DIMENSION/PROMPT-0.mp4`, and are found by model and file name.
"""

import itertools
import json
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

from videorm_hf.benchmarks.benchmark import Benchmark, BenchmarkInfo
from videorm_hf.evaluation.labels import LabelledPair
from videorm_hf.videoprefer.items import Candidate, Item

DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "temporal_flickering",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
    "object_class",
    "multiple_objects",
    "human_action",
    "color",
    "spatial_relationship",
    "scene",
    "temporal_style",
    "appearance_style",
    "overall_consistency",
)
INFO = BenchmarkInfo(
    name="vbench",
    title="VBench human preference",
    content="votes (A better, same, B better) on pairs of four models' videos in 16 dimensions",
    licence="MIT for the labels, Apache-2.0 for the code and prompts",
    source="github.com/Vchitect/VBench (sampled_videos/README.md) or "
    "huggingface.co/datasets/Vchitect/VBench_human_annotation",
    files="one JSON file a dimension, such as subject_consistency.json, and the folders of sampled videos",
    tie_policy='a vote "same" is a tie and dropped; "all" pools the votes of all dimensions',
    paper_test_size="10K pairs (16 aspects pooled)",
)
# The labels say "videocraft" of what the folders of sampled videos call VideoCrafter-0.9.
_FOLDERS = {"videocraft": ("videocraft", "videocrafter-09", "videocrafter-0.9")}
_SUFFIXES = {".mp4", ".gif"}

_Videos = dict[tuple[str, str], list[Path]]


def load(path: Path) -> Benchmark:
    """Read VBench's human preference labels.

    Args:
        path (`Path`): Folder with the JSON files, at any depth, and the videos, if any; or one such file.

    Returns:
        [`Benchmark`]: votes in up to 16 dimensions and `"all"`.

    Raises:
        FileNotFoundError: If no file has the name of a dimension.
        ValueError: If an entry is malformed or contradicts itself.
    """
    found = [path] if path.is_file() else sorted(path.rglob("*.json"))
    files = [file for file in found if file.stem in DIMENSIONS]
    if not files:
        raise FileNotFoundError(
            f"There is no subject_consistency.json or other dimension in {path}. {INFO.where_to_get}"
        )
    videos = _index_videos(path if path.is_dir() else path.parent)
    items: list[Item] = []
    votes: list[LabelledPair] = []
    for file in files:
        entries = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(entries, list):
            raise ValueError(f"{file} must hold a list of entries, got {type(entries).__name__}.")
        for number, entry in enumerate(entries):
            item = _item(entry, file, number, videos)
            items.append(item)
            votes += _votes(entry["human_anno"], item, file.stem, f"{file}, entry {number}")
    return Benchmark(INFO, tuple(items), tuple(votes))


def _item(entry: Any, file: Path, number: int, videos: _Videos) -> Item:
    for key, kind in (("prompt_en", str), ("videos", dict), ("human_anno", dict)):
        if not isinstance(entry, dict) or not isinstance(entry.get(key), kind):
            raise ValueError(f"{file}, entry {number} must have {key} ({kind.__name__}).")
    candidates = tuple(
        Candidate(candidate_id=model, video=_video(str(url), model, file, videos), model=model)
        for model, url in entry["videos"].items()
    )
    return Item(f"{file.stem}/{number}", entry["prompt_en"], "vbench", candidates)


def _votes(annotation: dict[str, Any], item: Item, dimension: str, place: str) -> list[LabelledPair]:
    """Read each pair once; where both directions stand there they must agree."""
    models = [candidate.candidate_id for candidate in item.candidates]
    if unknown := (annotation.keys() | {b for row in annotation.values() for b in row}) - set(models):
        raise ValueError(f"{place}: human_anno names {sorted(unknown)}, which videos does not.")
    votes = []
    for a, b in itertools.combinations(models, 2):
        forward, backward = annotation.get(a, {}).get(b), annotation.get(b, {}).get(a)
        if forward is None and backward is None:
            continue
        for value in (forward, backward):
            if value not in (None, 0, 0.5, 1):
                raise ValueError(f"{place}: a vote must be 0, 0.5 or 1, got {value!r} for {a} and {b}.")
        if forward is not None and backward is not None and forward + backward != 1:
            raise ValueError(f"{place}: {a} over {b} is {forward}, but {b} over {a} is {backward}.")
        human_a = float(forward if forward is not None else 1 - backward)
        votes.append(LabelledPair(item.item_id, item.prompt, dimension, a, b, human_a, 1 - human_a))
    return votes


def _index_videos(folder: Path) -> _Videos:
    """Map (name of a folder above, file name) to videos."""
    index = defaultdict(list)
    for file in sorted(folder.rglob("*")):
        if file.suffix in _SUFFIXES:
            for part in file.relative_to(folder).parts[:-1]:
                index[part, file.name].append(file)
    return index


def _video(url: str, model: str, file: Path, videos: _Videos) -> str:
    """Return where a video lies; where it does not, where the sampled videos would have it."""
    name = PurePosixPath(unquote(urlparse(url).path)).name
    found = [video for folder in _FOLDERS.get(model, (model,)) for video in videos.get((folder, name), [])]
    # One prompt can serve several dimensions: the folder of this one comes first.
    of_dimension = [video for video in found if file.stem in video.parts]
    if len(of_dimension) > 1 or (not of_dimension and len(found) > 1):
        raise ValueError(f"{file}: several videos of {model} are called {name}: {found[0]}, {found[1]}.")
    expected = file.parent / model / file.stem / name
    return str(next(iter(of_dimension or found), expected))
