"""The FETV groups of real clips as a working folder: four models' videos a prompt, rated by people."""

import json
import shutil
from pathlib import Path
from typing import Any

from tests.real_data import real_data
from tests.videoprefer.factories import write_jsonl

DIMENSIONS = ("alignment", "static_quality", "temporal_quality")


def fetv_folder(folder: Path) -> Path:
    """Convert the groups; the test skips where the clips are absent, since they are not part of the project."""
    table = real_data("clips.jsonl")
    clips = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
    items: dict[str, dict[str, Any]] = {}
    ratings = []
    for clip in clips:
        group = clip["group_id"]
        if not (group or "").startswith("fetv_"):
            continue
        item = items.setdefault(
            group, {"item_id": group, "prompt": clip["prompt"], "prompt_source": "fetv", "candidates": []}
        )
        video = Path("videos", group, Path(clip["file_name"]).name)
        (folder / video).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(table.parent / clip["file_name"], folder / video)
        candidate = {
            "candidate_id": f"c{len(item['candidates'])}",
            "video": video.as_posix(),
            "model": clip["model"],
            "is_real": clip["real_video"],
        }
        item["candidates"].append(candidate)
        for dimension in DIMENSIONS:
            ratings.append(
                {
                    "item_id": group,
                    "candidate_id": candidate["candidate_id"],
                    "dimension": dimension,
                    "rating": clip["human_label"]["mean"][dimension],
                    "rationale": None,
                    "failure": None,
                    "judge": {"model": "human"},
                }
            )
    write_jsonl(folder / "items.jsonl", list(items.values()))
    write_jsonl(folder / "ratings.jsonl", ratings)
    return folder
