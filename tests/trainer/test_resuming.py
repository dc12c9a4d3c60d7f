"""A run that was killed ends as the one that was not, to the bit."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from tests.processes import PROJECT
from tests.trainer.factories import (
    changed,
    preference_rows,
    rated_items,
    small_folder,
    small_model,
    small_trainer,
    weights,
)
from tests.video_factory import cut, numbered_frames, write_video
from videorm_hf.trainer.checkpoints import CHECKPOINT

SETTINGS = {
    "max_steps": 7,
    "save_strategy": "steps",
    "save_steps": 2,
    "frame_sampling": "random",
    "gradient_accumulation_steps": 2,
    "dataset_proportions": {"v": 0.7, "h": 0.3},
}


def data():
    return {"v": rated_items(4), "h": preference_rows(5)}


def run(folder, **settings):
    model = small_model(temporal_dropout=0.2)  # whose random states must go on too
    return small_trainer(folder, data(), model=model, **{**SETTINGS, **settings})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    trainer = run(folder)
    trainer.train()
    return folder, weights(trainer)


@pytest.mark.parametrize("step", [2, 4])
@pytest.mark.parametrize("cache_features", [False, True])
def test_resuming_ends_at_the_same_weights(tmp_path, whole, step, cache_features):
    folder, expected = whole
    settings = {"frame_sampling": "uniform", "cache_features": True} if cache_features else {}
    if cache_features:
        folder = tmp_path / "whole"
        first = run(folder, **settings)
        first.train()
        expected = weights(first)
    shutil.copytree(folder / f"checkpoint-{step}", tmp_path / "run" / f"checkpoint-{step}")
    resumed = run(tmp_path / "run", **settings)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 7
    assert changed(expected, weights(resumed)) == set()


SCRIPT = """
import os, signal, sys
from transformers import TrainerCallback
from tests.trainer.test_resuming import run

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)

trainer = run(sys.argv[1])
trainer.add_callback(Kill())
trainer.train()
"""


@pytest.mark.slow
def test_a_killed_process_is_resumed_to_the_bit(tmp_path, whole):
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    assert subprocess.run(command, cwd=PROJECT, capture_output=True).returncode == -signal.SIGKILL
    (tmp_path / "checkpoint-4" / "trainer_state.json").unlink()  # as if it had been killed while writing it
    assert CHECKPOINT.last_complete(tmp_path).endswith("checkpoint-2")
    resumed = run(tmp_path)
    resumed.train(resume_from_checkpoint=True)
    assert changed(whole[1], weights(resumed)) == set()


def test_a_finished_run_takes_no_further_step(tmp_path, whole):
    folder, expected = whole
    again = run(folder)
    output = again.train(resume_from_checkpoint=str(folder / "checkpoint-7"))
    assert output.global_step == 7 and again.state.global_step == 7
    assert changed(expected, weights(again)) == set()


def test_incomplete_checkpoints_are_named(tmp_path, whole):
    source = whole[0] / "checkpoint-4"
    assert CHECKPOINT.missing(source) == []
    for name in ("model.safetensors", "optimizer.pt", "trainer_state.json", "bad_clips.json", "videorm_training.json"):
        copy = tmp_path / name
        shutil.copytree(source, copy)
        (copy / name).unlink()
        assert CHECKPOINT.missing(copy) == [name]
        with pytest.raises(ValueError, match=f"not a complete checkpoint.*{name}"):
            CHECKPOINT.check_complete(copy)
    with pytest.raises(FileNotFoundError, match="found none"):
        CHECKPOINT.check_complete(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="expects a complete checkpoint in .*: found none"):
        run(tmp_path / "empty").train(resume_from_checkpoint=True)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path, whole):
    other = small_trainer(tmp_path, data(), model=small_model(temporal_head="lstm"), **SETTINGS)
    with pytest.raises(ValueError, match="other settings: .*temporal_head was 'transformer', got 'lstm'"):
        other.train(resume_from_checkpoint=str(whole[0] / "checkpoint-4"))


def test_other_settings_are_named(tmp_path, whole):
    other = run(tmp_path, learning_rate=1e-6, max_steps=9)
    with pytest.raises(
        ValueError, match=r"checkpoint-4 was written with other settings: learning_rate was \S+, got 1e-06\. "
    ):
        other.train(resume_from_checkpoint=str(whole[0] / "checkpoint-4"))


def test_clips_that_were_left_out_still_count_after_resuming(tmp_path):
    write_video(tmp_path / "good.mp4", numbered_frames(20))
    rows = preference_rows(4)
    rows[0]["chosen"] = str(cut(tmp_path / "good.mp4", tmp_path / "bad.mp4", 0.6))
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    first = small_trainer(tmp_path / "run", rows, **settings)
    first.train()
    assert first.bad_clips == {"item-0-0/a": "truncated"}
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    assert json.loads((tmp_path / "run" / "checkpoint-2" / "bad_clips.json").read_text()) == first.bad_clips
    second = small_trainer(tmp_path / "run", rows, **settings)
    second.train(resume_from_checkpoint=True)
    assert second.bad_clips == first.bad_clips


@pytest.mark.parametrize("length", [{"max_steps": 4}, {"num_train_epochs": 2}], ids=["steps", "epochs"])
def test_a_finished_run_ends_again_with_its_best_model(tmp_path, length):
    write_video(tmp_path / "good.mp4", numbered_frames(20))
    rows = preference_rows(4)
    rows[0]["chosen"] = str(cut(tmp_path / "good.mp4", tmp_path / "bad.mp4", 0.6))
    settings = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1, **length}
    settings |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "learning_rate": 0.05}
    runs = [small_trainer(tmp_path / "run", rows, eval_dataset=preference_rows(4), **settings) for _ in range(2)]
    first, second = runs
    first.train()
    last = first.state.global_step
    assert first.state.best_model_checkpoint != str(tmp_path / "run" / f"checkpoint-{last}")
    second.train(resume_from_checkpoint=True)
    assert second.state.global_step == last and second.bad_clips == first.bad_clips
    assert changed(weights(first), weights(second)) == set()


def test_an_adapter_is_resumed_to_the_bit(tmp_path):
    from peft import LoraConfig

    base = small_folder(tmp_path / "base")

    def adapter_run(folder):
        lora = LoraConfig(r=2, target_modules=["q_proj"])
        settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 5}
        return small_trainer(folder, model=base, processing_class=None, peft_config=lora, **settings)

    first = adapter_run(tmp_path / "whole")
    first.train()
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "run" / "checkpoint-2")
    second = adapter_run(tmp_path / "run")
    second.train(resume_from_checkpoint=True)
    assert changed(weights(first), weights(second)) == set()
    assert not torch.equal(
        *(
            w["temporal_head.modules_to_save.default.gate"]
            for w in (weights(first), weights(adapter_run(tmp_path / "new")))
        )
    )
