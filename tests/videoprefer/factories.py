"""Working folders for the tests: tiny real videos, items, and ratings that can be spoiled one fault at a time."""

import functools
import io
import json
import random
from pathlib import Path
from typing import Any

from tests.video_factory import numbered_frames, write_video
from videorm_hf.videoprefer.items import DIMENSIONS

JUDGE = {"model": "judge-a", "rubric_version": "1", "num_frames": 8, "temperature": 0.3}
MODELS = ("modelscope", "opensora", "videocrafter", "zero")
PROMPTS = (
    "a corgi rides a skateboard along the beach",
    "two red balloons drift over a lake",
    "a chef slices onions in a busy kitchen",
    "snow falls on an empty railway station",
    "an astronaut plants a flag on the moon",
    "children fly kites under a stormy sky",
)


@functools.cache
def video_bytes(number: int = 0) -> bytes:
    buffer = io.BytesIO()
    write_video(buffer, numbered_frames(number % 5 + 2), container="mp4")
    return buffer.getvalue()


def item_record(number: int, num_candidates: int = 4, prompt: str | None = None) -> dict[str, Any]:
    """The line of item `number` in items.jsonl."""
    candidates = [
        {
            "candidate_id": f"c{k}",
            "video": f"videos/{number:05d}/{k}.mp4",
            "model": MODELS[k % 4],
            "is_real": False,
            "guidance_scale": 6.0 + k,
            "seed": 10 * number + k,
        }
        for k in range(num_candidates)
    ]
    return {
        "item_id": f"item-{number:05d}",
        "prompt": prompt or f"{PROMPTS[number % len(PROMPTS)]}, take {number // len(PROMPTS)}",
        "prompt_source": "vidprom",
        "candidates": candidates,
    }


def rating_records(item: dict[str, Any], seed: int = 0) -> list[dict[str, Any]]:
    """A record for every candidate and dimension, with ratings drawn from 1 to 5."""
    draw = random.Random(f"{seed} {item['item_id']}")
    return [
        {
            "item_id": item["item_id"],
            "candidate_id": candidate["candidate_id"],
            "dimension": dimension,
            "rating": draw.randint(1, 5),
            "rationale": f"It is {dimension}.",
            "failure": None,
            "judge": JUDGE,
        }
        for candidate in item["candidates"]
        for dimension in DIMENSIONS
    ]


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def write_folder(folder: Path, items: list[dict[str, Any]], ratings: list[dict[str, Any]] | None = None) -> Path:
    """Write records and the videos that they name."""
    for number, candidate in enumerate(candidate for item in items for candidate in item["candidates"]):
        path = folder / candidate["video"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video_bytes(number))
    write_jsonl(folder / "items.jsonl", items)
    if ratings is None:
        ratings = [record for item in items for record in rating_records(item)]
    write_jsonl(folder / "ratings.jsonl", ratings)
    return folder


def working_folder(folder: Path, num_items: int = 6, num_candidates: int = 4) -> Path:
    """A folder without a fault."""
    return write_folder(folder, [item_record(number, num_candidates) for number in range(num_items)])
