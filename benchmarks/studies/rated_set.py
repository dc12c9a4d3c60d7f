"""A working folder of VIDEOPREFER made of small-world clips and rated by the judge over chat completions."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.studies.world import save_clip
from videorm_hf.annotation import AnnotationOptions, VideoAnnotator
from videorm_hf.miniature.judge_server import MODEL, serve_judge
from videorm_hf.videoprefer.items import Item
from videorm_hf.videoprefer.working_folder import read_items


@dataclass(frozen=True)
class PlannedClip:
    """A candidate that is made when its file is not there yet.

    Args:
        model (`str`): What makes it.
        make (`Callable`): Returns frames_THWC, bytes.
        is_real (`bool`): Whether it counts as a real clip.
        guidance_scale (`float`, *optional*): Of the generation.
        seed (`int`, *optional*): Of the generation.
    """

    model: str
    make: Callable[[], np.ndarray]
    is_real: bool = False
    guidance_scale: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class ChatJudge:
    """How the judge is asked, and how wrong it is.

    Args:
        temperature (`float`): Noise in steps of the scale.
        error_rate (`float`): Share of wrong answers.
        seed (`int`): Of both.
    """

    temperature: float = 0.3
    error_rate: float = 0.05
    seed: int = 0


def make_rated_set(
    folder: Path, plans: Iterable[tuple[str, str, list[PlannedClip]]], num_items: int, judge: ChatJudge
) -> list[Item]:
    """Write clips and items, rate them, and read them back; an interrupted run goes on.

    Args:
        folder (`Path`): The working folder.
        plans (`Iterable`): Prompt, its source, and its candidates, item by item, the same ones every time.
        num_items (`int`): How many there are.
        judge ([`ChatJudge`]): Who rates.

    Returns:
        `list[Item]`: rated, with the paths of their videos.

    Raises:
        ValueError: If the judge has not answered every call.
    """
    if not (folder / "items.jsonl").exists():
        rows = []
        for number, (prompt, source, clips) in enumerate(tqdm(plans, total=num_items, desc="videos", unit="item")):
            item_id = f"item-{number:04d}"
            candidates = []
            for place, clip in enumerate(clips):
                video = f"videos/{item_id}-{place}.mp4"
                if not (folder / video).exists():
                    save_clip(clip.make(), folder / video)
                facts = {"model": clip.model, "is_real": clip.is_real, "seed": clip.seed}
                facts["guidance_scale"] = clip.guidance_scale
                candidates.append({"candidate_id": str(place), "video": video, **facts})
            rows.append({"item_id": item_id, "prompt": prompt, "prompt_source": source, "candidates": candidates})
        text = "".join(json.dumps(row) + "\n" for row in rows)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "items.jsonl").write_text(text, encoding="utf-8")
    with serve_judge(judge.error_rate, judge.seed) as server:
        options = AnnotationOptions(
            model=MODEL, base_url=server.base_url, temperature=judge.temperature, concurrency=4, num_workers=0
        )
        unrated = list(read_items(folder, (), num_candidates=None))
        summary = VideoAnnotator(options).run(unrated, folder, folder / "ratings.jsonl")
    if summary.num_left or summary.failures or summary.num_failed_before:
        raise ValueError(
            f"The judge left {summary.num_left} calls open, failed at {dict(summary.failures)}, and at "
            f"{summary.num_failed_before} before."
        )
    return [_with_paths(item, folder) for item in read_items(folder, num_candidates=None)]


def _with_paths(item: Item, folder: Path) -> Item:
    return replace(item, candidates=tuple(replace(one, video=str(folder / one.video)) for one in item.candidates))
