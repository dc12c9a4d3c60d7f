"""Prompts for a new data set: drawn with a seed, without duplicates, with the real clips of captions cut out.

The draw orders all prompts by a hash of seed and text and takes the first: it does not depend on the order of the
source's file and needs no more memory than it keeps. Wu et al. 2024 (NeurIPS), Sec. 3.1, gives the numbers by default.
"""

import hashlib
import heapq
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from videorm_hf.models.videorm.video_decoding_videorm import read_frames
from videorm_hf.videoprefer.json_lines import write_lines
from videorm_hf.videoprefer.prompt_sources import SOURCES, FoundPrompt, PromptSource, open_source
from videorm_hf.videoprefer.splits import normalise_prompt
from videorm_hf.videoprefer.video_io import cut_clip
from videorm_hf.videoprefer.working_folder import PROMPTS_FILE

COLLECT_FILE = "collect.json"
REAL_FOLDER = "videos/real"
PAPER_COUNTS = {"vidprom": 12_900, "activitynet": 900, "msrvtt": 200}  # 14K in all
_VIDEO_ENDINGS = (".mp4", ".mkv", ".webm", ".avi", ".mov")


@dataclass(frozen=True)
class CollectSettings:
    """What is drawn.

    Args:
        counts (`Mapping[str, int]`): Source to number of prompts; the paper's by default.
        locations (`Mapping[str, str]`): Source to where it is, see [`open_source`]; the Hub by default.
        video_folders (`Mapping[str, Path]`):
            Caption source to the folder of its videos, named `<video id>.mp4` or similar.
        seed (`int`, defaults to 0): Another seed, another draw.
        max_words (`int`, defaults to 60): Longer prompts are left out: text encoders of rewards read 77 tokens.
    """

    counts: Mapping[str, int] = field(default_factory=lambda: dict(PAPER_COUNTS))
    locations: Mapping[str, str] = field(default_factory=dict)
    video_folders: Mapping[str, Path] = field(default_factory=dict)
    seed: int = 0
    max_words: int = 60

    def __post_init__(self) -> None:
        for name in (*self.counts, *self.locations, *self.video_folders):
            if name not in SOURCES:
                raise ValueError(f"There is no prompt source {name!r}; there are {', '.join(SOURCES)}.")
        if min(self.counts.values(), default=0) < 0 or self.max_words < 1:
            raise ValueError(f"counts must not be negative and max_words at least 1, got {self}.")
        for name, count in self.counts.items():
            if count and SOURCES[name].has_videos and name not in self.video_folders:
                raise ValueError(
                    f"The captions of {SOURCES[name].title} come with their real clips: name the folder of its "
                    f"videos, or take no prompts from it ({name} = 0)."
                )


def collect_prompts(
    folder: str | os.PathLike[str], settings: CollectSettings, progress: bool = True
) -> dict[str, Any]:
    """Draw prompts and write `prompts.jsonl`, the real clips, and `collect.json` with what became of every prompt.

    Clips that an interrupted run has cut are kept.

    Args:
        folder (`str` or `os.PathLike`): The working folder; made if it does not exist.
        settings ([`CollectSettings`]): What to draw.
        progress (`bool`, defaults to `True`): Show progress bars.

    Returns:
        `dict`: for each source what was read, why prompts were left out, and how many were drawn.

    Raises:
        FileExistsError: If the folder has its prompts already.
        ValueError: If a source has fewer usable prompts than wanted, or calls two that are drawn by the same id.
    """
    folder = Path(folder)
    if (folder / PROMPTS_FILE).exists():
        raise FileExistsError(f"{folder / PROMPTS_FILE} exists: prompts are drawn once; name another folder.")
    seen: set[int] = set()
    records: list[dict[str, Any]] = []
    counts: dict[str, dict[str, int]] = {}
    for name, source in SOURCES.items():
        wanted = settings.counts.get(name, 0)
        if not wanted:
            continue
        tally: Counter[str] = Counter()
        location = settings.locations.get(name, source.default)
        found = tqdm(open_source(source, location), desc=f"reading {source.title}", disable=not progress or None)
        drawn = _drawn(_usable(found, seen, settings, tally), wanted, source)
        for record in _with_clips(drawn, folder, settings, source, tally, wanted, progress):
            records.append(record)
        if not tally["read"]:
            raise ValueError(f"{source.title} at {location} is empty: expected at least {wanted} prompts.")
        if tally["drawn"] < wanted:
            raise ValueError(
                f"{source.title} at {location} has {tally['drawn']} usable prompts, {wanted} are wanted: "
                f"{dict(tally)}. Ask for fewer: --{name}-count {tally['drawn']}."
            )
        tally["not drawn"] = 2 * tally["read"] - tally.total()
        counts[name] = dict(tally)
    folder.mkdir(parents=True, exist_ok=True)
    record = {"seed": settings.seed, "max_words": settings.max_words, "sources": counts}
    (folder / COLLECT_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    write_lines(iter(records), folder / PROMPTS_FILE)
    return counts


def _usable(
    found: Iterable[FoundPrompt], seen: set[int], settings: CollectSettings, tally: Counter[str]
) -> Iterator[tuple[int, FoundPrompt]]:
    """Yield prompts with the hash that orders them; count those that are left out, and why."""
    for prompt in found:
        tally["read"] += 1
        text = normalise_prompt(prompt.prompt)
        key = _hash(f"{settings.seed} {text}")
        if not re.search(r"\w", text):
            tally["empty"] += 1
        elif len(text.split()) > settings.max_words:
            tally["too long"] += 1
        elif key in seen:
            tally["duplicate"] += 1
        else:
            seen.add(key)
            yield key, prompt


def _drawn(usable: Iterator[tuple[int, FoundPrompt]], wanted: int, source: PromptSource) -> list[FoundPrompt]:
    """Return prompts in the order of the draw: of captions all, since a clip may be missing."""
    by_key = lambda entry: entry[0]  # noqa: E731
    entries = sorted(usable, key=by_key) if source.has_videos else heapq.nsmallest(wanted, usable, key=by_key)
    return [prompt for _, prompt in entries]


def _with_clips(
    drawn: list[FoundPrompt],
    folder: Path,
    settings: CollectSettings,
    source: PromptSource,
    tally: Counter[str],
    wanted: int,
    progress: bool,
) -> Iterator[dict[str, Any]]:
    """Yield as many records as are wanted; a caption whose clip cannot be had gives way to the next one."""
    item_ids: set[str] = set()
    with tqdm(total=wanted, desc=f"drawing {source.title}", disable=not progress or None) as bar:
        for found in drawn:
            if tally["drawn"] == wanted:
                return
            item_id = f"{source.name}-{found.origin}"
            if item_id in item_ids:
                raise ValueError(
                    f"{source.title} calls several prompts {found.origin!r}, one of them {found.prompt!r}: "
                    "expected an id for each; mend the source."
                )
            record: dict[str, Any] = {"item_id": item_id, "prompt": found.prompt.strip(), "prompt_source": source.name}
            if source.has_videos:
                try:
                    clip = _real_clip(found, settings.video_folders[source.name], folder, item_id)
                except (ValueError, FileNotFoundError):
                    tally["no clip"] += 1
                    continue
                segment = {"video_id": found.video_id, "start": found.start, "end": found.end}
                record |= {"real_video": clip, "real_segment": segment}
            tally["drawn"] += 1
            item_ids.add(item_id)
            bar.update()
            yield record


def _real_clip(found: FoundPrompt, videos: Path, folder: Path, item_id: str) -> str:
    """Cut or copy the clip that a caption describes; return its path in the folder."""
    names = (videos / f"{found.video_id}{ending}" for ending in _VIDEO_ENDINGS)
    source = next((path for path in names if path.is_file()), None)
    if source is None:
        raise FileNotFoundError(f"{videos} has no video {found.video_id}")
    ending = source.suffix if found.start is None else ".mp4"
    path = f"{REAL_FOLDER}/{re.sub(r'[^A-Za-z0-9_-]', '_', item_id)}{ending}"
    if (folder / path).exists():
        return path
    read_frames(source, num_frames=1)  # refuses what cannot be decoded
    if found.start is not None and found.end is not None:
        cut_clip(source, folder / path, found.start, found.end)
    else:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{path}.unfinished"
        shutil.copyfile(source, unfinished)
        os.replace(unfinished, folder / path)
    return path


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).digest()[:8], "big")
