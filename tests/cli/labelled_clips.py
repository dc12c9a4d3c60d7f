"""A small labelled set of clips for the commands that judge rewards."""

import json
from pathlib import Path

from tests.video_factory import numbered_frames, write_video


def write_labelled_clips(folder: Path, num_groups: int = 3) -> Path:
    """Write groups of three models' clips with ratings, in one of FETV's layouts; return its `clips.jsonl`."""
    rows = []
    for group in range(num_groups):
        for number, model in enumerate(("A", "B", "C")):
            name = f"{group}_{model}.mp4"
            write_video(folder / name, numbered_frames(8 + 3 * number + group))
            rating = 1 + (number + group) % 3
            label = {"static_quality": [rating, rating], "temporal_quality": [3, 3], "alignment": [5, 6 - rating]}
            row = {"file_name": name, "prompt": f"prompt {group}", "model": model, "group_id": f"fetv_00{group}"}
            rows.append(row | {"human_label": label})
    (folder / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "clips.jsonl"
