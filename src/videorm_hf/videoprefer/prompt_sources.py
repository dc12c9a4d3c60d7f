"""Where VIDEOPREFER's prompts come from, as they are published: VidProM, ActivityNet Captions, MSR-VTT.

Wu et al. 2024 (NeurIPS): 12.9K prompts of VidProM, 0.9K captions of ActivityNet segments, the rest captions of
MSR-VTT.
"""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

_SHOWN = 10  # columns in a message


@dataclass(frozen=True)
class FoundPrompt:
    """A prompt as it stands in its source.

    Args:
        origin (`str`): What the source calls it; unique there.
        prompt (`str`): The text, as it is.
        video_id (`str`, *optional*): The real video that it describes.
        start (`float`, *optional*): Where the described part begins, in seconds; `None` for the whole video.
        end (`float`, *optional*): Where it ends.
    """

    origin: str
    prompt: str
    video_id: str | None = None
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class PromptSource:
    """How a source is found and read.

    Args:
        name (`str`): `prompt_source` of its items.
        title (`str`): Its name in print.
        default (`str`): Where it is on the Hub, as [`open_source`] takes it.
        read (`Callable`): Turns rows into prompts.
        has_videos (`bool`): Whether its prompts describe real videos.
    """

    name: str
    title: str
    default: str
    read: Callable[[Iterator[dict[str, Any]]], Iterator[FoundPrompt]]
    has_videos: bool


def _vidprom(rows: Iterator[dict[str, Any]]) -> Iterator[FoundPrompt]:
    for row in rows:
        yield FoundPrompt(origin=str(row["uuid"]), prompt=row["prompt"] or "")


def _activitynet(rows: Iterator[dict[str, Any]]) -> Iterator[FoundPrompt]:
    """Objects `{video id: {"duration", "timestamps": [[start, end], ...], "sentences": [...]}}`; one is published."""
    for row in rows:
        for video_id, video in row.items():
            for number, (sentence, (start, end)) in enumerate(
                zip(video["sentences"], video["timestamps"], strict=True)
            ):
                # Some segments are published with their ends exchanged.
                yield FoundPrompt(f"{video_id}-{number}", sentence, video_id, min(start, end), max(start, end))


def _msrvtt(rows: Iterator[dict[str, Any]]) -> Iterator[FoundPrompt]:
    """Rows with `video_id` and `caption`, or the published object whose `sentences` are such rows.

    The videos are distributed cut to their clips, so the `start time` and `end time` beside them are not needed.
    """
    for row in rows:
        if "sentences" in row:
            yield from _msrvtt(iter(row["sentences"]))
            continue
        captions = row["caption"] if isinstance(row["caption"], list) else [row["caption"]]
        for number, caption in enumerate(captions):
            yield FoundPrompt(f"{row['video_id']}-{row.get('sen_id', number)}", caption, row["video_id"])


SOURCES = {
    source.name: source
    for source in (
        PromptSource("vidprom", "VidProM", "WenhaoWang/VidProM:VidProM_unique.csv", _vidprom, has_videos=False),
        PromptSource(
            "activitynet",
            "ActivityNet Captions",
            "friedrichor/ActivityNet_Captions:raw_data/train.json",
            _activitynet,
            has_videos=True,
        ),
        PromptSource("msrvtt", "MSR-VTT", "AlexZigma/msr-vtt", _msrvtt, has_videos=True),
    )
}


def open_source(source: PromptSource, location: str) -> Iterator[FoundPrompt]:
    """Read a source's prompts one by one.

    Args:
        source ([`PromptSource`]): Which one.
        location (`str`):
            A local file (`.csv`, `.json`, `.jsonl`, `.parquet`), `"repository:file"` of the Hub, or the id (or folder)
            of a data set whose `train` split has the rows. A file that is not there is a `FileNotFoundError`.

    Yields:
        [`FoundPrompt`]

    Raises:
        ValueError: If the rows are not in the source's format.
    """
    last: dict[str, Any] = {}

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal last
        for row in _rows(location):
            last = row
            yield row

    try:
        yield from source.read(rows())
    except KeyError as error:
        raise ValueError(
            f"{location} is not in the format in which {source.title} is published: it has no {error}, only "
            f"{', '.join(list(last)[:_SHOWN])}{' and more' if len(last) > _SHOWN else ''}."
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{location} is not JSON: {error}") from error
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{location} is not in the format in which {source.title} is published: {error!r}") from error


def _rows(location: str) -> Iterator[dict[str, Any]]:
    path = Path(location)
    if path.is_file():
        pass
    elif ":" in location:
        from huggingface_hub import hf_hub_download  # needs the network; files do not

        repo_id, _, file = location.partition(":")
        path = Path(hf_hub_download(repo_id, file, repo_type="dataset"))
    elif path.suffix in _READERS:
        raise FileNotFoundError(f"there is no file {location}")
    else:
        from datasets import load_dataset

        yield from load_dataset(location, split="train", streaming=True)
        return
    if path.suffix not in _READERS:
        raise ValueError(f"{path} must end in one of {', '.join(_READERS)}")
    yield from _READERS[path.suffix](path)


def _read_csv(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # prompts longer than the module's limit exist
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _read_json(path: Path) -> Iterator[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    yield from content if isinstance(content, list) else [content]


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches():
            yield from batch.to_pylist()


_READERS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
