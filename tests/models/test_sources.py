"""Where a model is read from, told before any network is asked, and what to do where none answers."""

from collections.abc import Callable
from typing import Any

import huggingface_hub
import pytest

from draftv_trainer import DRaFTVConfig, trainer_inputs
from videorm_hf.miniature.shipped import T2V_MINI, VIDEORM_MINI
from videorm_hf.models.sources import PIPELINE_FILES, VIDEORM_FILES, find_source, loading
from videorm_hf.rewards import load_reward
from videorm_hf.scoring import score_videos
from videorm_hf.trainer.reward_models import load_reward_model
from videorm_hf.videoprefer import generate
from videorm_hf.videoprefer.model_pool import PoolModel


def test_the_shipped_models_have_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_source("videorm-mini", "A VIDEORM") == str(VIDEORM_MINI)
    assert find_source("t2v-mini", "A pipeline") == str(T2V_MINI)
    (tmp_path / "videorm-mini").mkdir()
    assert find_source("videorm-mini", "A VIDEORM") == "videorm-mini"  # one's own folder of that name comes first


def test_a_folder_and_a_hub_id_are_taken_as_they_are(tmp_path):
    assert find_source(tmp_path, "A VIDEORM") == str(tmp_path)
    assert find_source("owner/name", "A VIDEORM") == "owner/name"


def test_a_folder_of_another_kind_is_named_with_what_it_lacks():
    assert find_source("t2v-mini", "A pipeline", PIPELINE_FILES) == str(T2V_MINI)
    for word in ("t2v-mini", T2V_MINI):
        with pytest.raises(FileNotFoundError, match="a folder with config.json or .* got '.*t2v-mini', without"):
            find_source(word, "A VIDEORM", VIDEORM_FILES)


@pytest.mark.parametrize("word", ["no-such-folder", "./no/folder", ""])
def test_what_is_neither_is_said_at_once(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="A VIDEORM must be a folder, or a Hub id such as owner/name: got"):
        find_source(word, "A VIDEORM")


def test_what_may_have_been_meant_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="Was 't2v-mini' meant"):
        find_source("t2v-min", "A pipeline")
    with pytest.raises(FileNotFoundError, match="NAME:SOURCE goes where rewards of every kind do"):
        find_source("pick_score:owner/name", "A VIDEORM")


def test_a_checkpoint_file_is_to_be_converted(tmp_path):
    (tmp_path / "HPS_v2.pt").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="got the file .*HPS_v2.pt.*videorm convert"):
        find_source(tmp_path / "HPS_v2.pt", "A VIDEORM")


@pytest.mark.parametrize(
    "load",
    [
        load_reward,
        load_reward_model,
        lambda source: score_videos(source, ["a.mp4"], "a red ball"),
        lambda source: trainer_inputs.load_pipeline(source, DRaFTVConfig("unused", use_cpu=True)),
        lambda source: generate.load_pipeline(PoolModel("mine", source, (6.0, 6.0), ((16, 16),), (2,), 8), "cpu"),
    ],
    ids=["reward", "trainer", "score", "draftv", "generate"],
)
def test_a_hub_id_that_cannot_be_had_is_named_with_what_to_do(
    load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    first_line = "^'owner/name' could not be loaded: no.* was not asked, for HF_HUB_OFFLINE is set.*local-dir FOLDER"
    with pytest.raises(OSError, match=first_line) as raised:
        load("owner/name")
    assert isinstance(raised.value.__cause__, OSError)


def test_an_error_of_a_folder_stays_as_it_is(tmp_path):
    with pytest.raises(OSError, match="^no space left$"), loading(tmp_path):
        raise OSError("no space left")
