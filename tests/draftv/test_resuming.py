"""Resuming: a process killed at any moment, half-written checkpoints, and settings that do not fit."""

import logging
import multiprocessing
import os
import random
import shutil
import signal
import time

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import TrainerCallback

from draftv_trainer.draftv_trainer import CHECKPOINT, RUN_STATE_NAME, DRaFTVTrainer
from draftv_trainer.lora import LORA_WEIGHTS_NAME
from tests.draftv.factories import lora_weights, redness, tiny_args, tiny_wan

DATA = ["a red dog runs", "a blue cat", "a green bird jumps"]
STEPS = 8


def make_run(folder, **overrides):
    settings = {"max_steps": STEPS, "save_steps": 1, "save_strategy": "steps", "ema_decay": 0.9}
    settings |= {"reward_augmentation": "shift,noise", "guard_steps": 3, "guard_tolerance": 100.0}
    peft_config = overrides.pop("peft_config", None)
    args = tiny_args(folder, **{**settings, **overrides})
    return DRaFTVTrainer(tiny_wan(), redness, args, train_dataset=DATA, peft_config=peft_config)


def train_in_a_process(folder):
    torch.set_num_threads(1)
    run = make_run(folder)
    run.train(resume_from_checkpoint=CHECKPOINT.last_complete(folder) is not None)
    run.save_model(os.path.join(folder, "final"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its folder."""
    folder, threads = tmp_path_factory.mktemp("whole"), torch.get_num_threads()
    train_in_a_process(str(folder))
    torch.set_num_threads(threads)
    return folder


def start(folder):
    # The server has imported everything already: a process starts in a moment, and still dies alone.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.draftv.factories", "draftv_trainer", "torchvision.transforms.v2"])
    process = context.Process(target=train_in_a_process, args=(str(folder),))
    process.start()
    return process


def being_written(folder, since):
    """Tell whether a checkpoint is being written, other than what an earlier process left behind."""
    unfinished = [path for path in folder.glob("checkpoint-*") if not (path / "trainer_state.json").exists()]
    return any(path.stat().st_mtime > since for path in unfinished)


def kill_at_some_moment(process, folder, randomness):
    """Kill the process while it writes a checkpoint, or after a while; True if it was still running."""
    since, while_saving = time.time(), randomness.random() < 0.7
    latest = since + (120.0 if while_saving else randomness.uniform(0.0, 0.5))
    while process.is_alive() and time.time() < latest and not (while_saving and being_written(folder, since)):
        time.sleep(0.0005)
    time.sleep(randomness.uniform(0.0, 0.01))
    alive = process.is_alive()
    if alive:
        os.kill(process.pid, signal.SIGKILL)
    process.join(300)
    return alive


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path, whole, seed):
    randomness, num_kills, cut_short = random.Random(seed), 0, 0
    for _ in range(100):
        process = start(tmp_path)
        # After six kills it may finish.
        if num_kills < 6 and kill_at_some_moment(process, tmp_path, randomness):
            num_kills += 1
            assert process.exitcode == -signal.SIGKILL
            cut_short += any(CHECKPOINT.missing(path) for path in tmp_path.glob("checkpoint-*"))
            continue
        process.join(300)
        assert process.exitcode == 0
        break
    assert num_kills >= 3 and cut_short >= 1
    for name in ("final", f"checkpoint-{STEPS}"):
        expected = load_file(whole / name / LORA_WEIGHTS_NAME)
        got = load_file(tmp_path / name / LORA_WEIGHTS_NAME)
        assert [key for key in expected if not torch.equal(got[key], expected[key])] == []
    states = [torch.load(folder / f"checkpoint-{STEPS}" / RUN_STATE_NAME) for folder in (whole, tmp_path)]
    raw, raw_resumed = (state["average"]["weights"] for state in states)
    assert all(torch.equal(one, other) for one, other in zip(raw, raw_resumed, strict=True))
    assert states[0]["guard"]["start"] == states[1]["guard"]["start"]
    (step, kept), (step_resumed, kept_resumed) = (state["guard"]["kept"] for state in states)
    assert step == step_resumed and all(map(torch.equal, kept, kept_resumed))


@pytest.fixture
def copy(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


def test_every_way_to_be_incomplete_is_seen(copy, caplog):
    assert CHECKPOINT.last_complete(copy) == str(copy / "checkpoint-8")
    names = sorted(path.name for path in (copy / "checkpoint-8").iterdir())
    needed = [name for name in names if name not in ("README.md", "draftv_config.json")]
    assert set(needed) == {
        *(LORA_WEIGHTS_NAME, RUN_STATE_NAME, "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
    }
    for name in needed:
        content = (copy / "checkpoint-8" / name).read_bytes()
        (copy / "checkpoint-8" / name).unlink()
        assert CHECKPOINT.missing(copy / "checkpoint-8") == [name]
        # The LoRA is written beside its place and renamed: it is never there in part.
        if name != LORA_WEIGHTS_NAME:
            for length in (0, len(content) // 2, len(content) - 2):
                (copy / "checkpoint-8" / name).write_bytes(content[:length])
                assert CHECKPOINT.missing(copy / "checkpoint-8") == [name]
        with caplog.at_level(logging.WARNING):
            assert CHECKPOINT.last_complete(copy) == str(copy / "checkpoint-7")
        assert f"incomplete: missing or cut short are ['{name}']" in caplog.text
        (copy / "checkpoint-8" / name).write_bytes(content)
    assert CHECKPOINT.missing(copy / "checkpoint-8") == []


def test_a_half_written_checkpoint_is_skipped_or_named(copy, whole):
    (copy / "checkpoint-8" / "optimizer.pt").write_bytes(b"PK half")
    run = make_run(copy)
    with pytest.raises(ValueError, match=r"not a complete checkpoint: missing or cut short are \['optimizer.pt'\]"):
        run.train(resume_from_checkpoint=str(copy / "checkpoint-8"))
    run.train(resume_from_checkpoint=True)
    assert run.state.global_step == STEPS
    expected = load_file(whole / "final" / LORA_WEIGHTS_NAME)
    weights = {
        f"transformer.{name.replace('.default', '')}": weight for name, weight in lora_weights(run.pipe).items()
    }
    assert all(torch.equal(weight, expected[name]) for name, weight in weights.items())


def test_a_folder_is_incomplete_while_it_is_written_again(copy):
    """A run that went back to step 7 writes checkpoint-8 again: its old state must not make the new remains whole."""
    run = make_run(copy)
    seen = []

    class Interrupt(TrainerCallback):
        def on_step_end(self, args, state, control, optimizer=None, **kwargs):
            optimizer.optimizer.register_state_dict_pre_hook(interrupt)

    def interrupt(optimizer):
        seen.append(CHECKPOINT.missing(copy / "checkpoint-8"))
        raise KeyboardInterrupt

    run.add_callback(Interrupt())
    with pytest.raises(KeyboardInterrupt):
        run.train(resume_from_checkpoint=str(copy / "checkpoint-7"))
    assert seen == [["trainer_state.json"]]
    assert CHECKPOINT.last_complete(copy) == str(copy / "checkpoint-7")


def test_nothing_to_resume_from(tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(ValueError, match="expects a complete checkpoint in .*found none. Leave it out"):
        run.train(resume_from_checkpoint=True)
    with pytest.raises(FileNotFoundError, match="Expected a checkpoint's folder"):
        run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ema_decay": None}, "checkpoint-7 was written with other settings: ema_decay was 0.9, got None"),
        (
            {"peft_config": LoraConfig(r=2, target_modules=["to_q"])},
            "alpha was 4, got .*; rank was 4, got 2; target_modules was",
        ),
        ({"learning_rate": 1e-7, "seed": 7}, "learning_rate was .*, got 1e-07; seed was 42, got 7"),
        ({"monitor_motion": False}, r"guard had the monitors .'motion', 'trained_reward'.: got .'trained_reward'."),
        ({"sample_prompts": DATA[:2]}, "guard had the fixed prompts .*Resume with the same"),
    ],
)
def test_a_checkpoint_of_other_settings(copy, settings, message):
    with pytest.raises(ValueError, match=message):
        make_run(copy, **settings).train(resume_from_checkpoint=str(copy / "checkpoint-7"))


def test_a_finished_run_takes_no_further_step(whole, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    run = make_run(copy)  # three prompts do not divide its eight steps
    assert run.train(resume_from_checkpoint=True).global_step == STEPS == run.state.global_step
    run.save_model(str(copy / "again"))
    expected = load_file(whole / "final" / LORA_WEIGHTS_NAME)
    found = load_file(copy / "again" / LORA_WEIGHTS_NAME)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    in_pipeline = lora_weights(run.pipe)
    assert run.state.log_history and not (copy / f"checkpoint-{STEPS + 1}").exists()
    with run.published_weights():
        assert all(torch.equal(weight, lora_weights(run.pipe)[name]) for name, weight in in_pipeline.items())
