"""A Space on tiny models: a VIDEORM, a Wan pipeline with a LoRA, and pairs of videos to vote on."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from draftv_trainer.model_card import FACTS_NAME
from tests.arena.test_duels import working_folder
from tests.draftv.cli_factories import save_random_lora, save_wan, tiny_call
from tests.factories import tiny_videorm_folder
from tests.video_factory import numbered_frames, write_video

SPACE = Path(__file__).parents[2] / "hub_cards" / "spaces" / "videorm-demo"
sys.path.insert(0, str(SPACE))  # its modules import each other as on the Hub, where this folder is all there is


@pytest.fixture(scope="session")
def space_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `reward`, `base`, `tuned` and `pairs`, and clips `a.mp4` and `b.mp4`."""
    folder = tmp_path_factory.mktemp("space")
    tiny_videorm_folder(folder / "reward")
    save_wan(folder / "base")
    call = tiny_call()
    facts = {"sampling": {"num_inference_steps": call.pop("num_inference_steps"), "pipeline_kwargs": call}}
    (save_random_lora(folder / "tuned") / FACTS_NAME).write_text(json.dumps(facts), encoding="utf-8")
    working_folder(folder / "pairs", num_items=4)
    for number, name in enumerate("ab"):
        write_video(folder / f"{name}.mp4", numbered_frames(9 + 5 * number))
    return folder


@pytest.fixture
def options(space_files: Path, tmp_path: Path) -> Any:
    return make_options(space_files, tmp_path / "data")


def make_options(files: Path, data: Path) -> Any:
    from options import Options

    return Options(str(files / "reward"), str(files / "base"), files / "tuned", files / "pairs", data)
