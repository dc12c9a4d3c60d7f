"""Small working folders of VIDEOPREFER for the tests of annotation."""

import json
from pathlib import Path

from tests.video_factory import numbered_frames, write_video
from videorm_hf.videoprefer.items import Item
from videorm_hf.videoprefer.working_folder import read_items


def write_working_folder(folder: Path, num_items: int = 2, num_candidates: int = 2) -> list[Item]:
    """Write items whose videos are two numbered clips, and read them back."""
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    for name, total in (("a", 12), ("b", 20)):
        write_video(folder / "videos" / f"{name}.mp4", numbered_frames(total))
    rows = [
        {
            "item_id": f"item{n}",
            "prompt": f"bars that count {n}",
            "prompt_source": "test",
            "candidates": [
                {"candidate_id": f"c{m}", "video": f"videos/{'ab'[m % 2]}.mp4", "model": f"model{m}"}
                for m in range(num_candidates)
            ],
        }
        for n in range(num_items)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return list(read_items(folder, (), num_candidates=None))
