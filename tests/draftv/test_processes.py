"""Two processes: they skip an update together, share the fixed prompts, and stop together."""

import pytest
import torch

from draftv_trainer.draftv_trainer import DRaFTVTrainer
from tests.draftv.factories import redness, tiny_args, tiny_wan
from tests.processes import run_in_two_processes

SCRIPT = """
import json, sys
from pathlib import Path
import torch
from draftv_trainer import DRaFTVTrainer
from draftv_trainer.guard import mean_motion
from tests.draftv.factories import lora_weights, redness, tiny_args, tiny_wan

data = ["a red dog runs", "a blue cat", "a green bird jumps"]
folder, kind = sys.argv[1:]

def spoilt_in_one_process(frames, prompts):
    spoilt_in_one_process.calls += 1
    values = redness(frames, prompts)
    return values * torch.nan if args.process_index == 1 and spoilt_in_one_process.calls == 2 else values

def stillness(frames, prompts):
    return -mean_motion(frames)

spoilt_in_one_process.calls = 0
settings = {"max_steps": 3, "per_device_train_batch_size": 1, "ema_decay": 0.9}
settings |= {"save_strategy": "steps", "save_steps": 3}
reward = spoilt_in_one_process
if kind == "evaluated":
    reward = redness
if kind == "guard":
    reward = stillness
    settings |= {"max_steps": 30, "learning_rate": 0.2, "guard_steps": 2, "sample_steps": 10, "sample_prompts": data}
args = tiny_args(folder, **settings)
run = DRaFTVTrainer(tiny_wan(), reward, args, train_dataset=data, eval_dataset=data)
evaluated = run.evaluate()["eval_reward"] if kind == "evaluated" else None
run.train()
facts = {
    "weights": {name: weight.flatten().tolist() for name, weight in lora_weights(run.pipe).items()},
    "skipped": [entry["nonfinite_steps"] for entry in run.state.log_history if "nonfinite_steps" in entry],
    "monitored": [entry["monitor/motion"] for entry in run.state.log_history if "monitor/motion" in entry],
    "start": run._sample_videos.start if run._sample_videos else None,
    "steps": run.state.global_step,
    "evaluated": evaluated,
}
Path(folder, f"rank{args.process_index}.json").write_text(json.dumps(facts))
"""


@pytest.mark.slow
def test_an_update_spoilt_in_one_process_is_skipped_in_both(tmp_path):
    first, second = run_in_two_processes(SCRIPT, tmp_path, "spoilt")
    assert first["skipped"] == second["skipped"] == [0, 1, 1]
    assert first["weights"] == second["weights"]
    assert all(torch.tensor(weight).isfinite().all() for weight in first["weights"].values())
    assert sorted(path.name for path in (tmp_path / "checkpoint-3").glob("*.p*")) == [
        *("draftv_state.pt", "optimizer.pt", "rng_state_0.pth", "rng_state_1.pth", "scheduler.pt")
    ]


@pytest.mark.slow
def test_an_evaluation_counts_each_prompt_once_and_gradients_are_averaged_after_it(tmp_path):
    first, second = run_in_two_processes(SCRIPT, tmp_path, "evaluated")
    assert first["weights"] == second["weights"]
    prompts = ["a red dog runs", "a blue cat", "a green bird jumps"]
    one = DRaFTVTrainer(tiny_wan(), redness, tiny_args(tmp_path / "one", max_steps=1), prompts, eval_dataset=prompts)
    assert first["evaluated"] == second["evaluated"] == pytest.approx(one.evaluate()["eval_reward"], abs=1e-6)


@pytest.mark.slow
def test_the_guard_stops_both_and_scores_what_one_process_scores(tmp_path):
    first, second = run_in_two_processes(SCRIPT, tmp_path, "guard")
    assert first == second
    assert 2 <= first["steps"] < 30 and len(first["monitored"]) == 1 + first["steps"] // 2
    prompts = ["a red dog runs", "a blue cat", "a green bird jumps"]
    args = tiny_args(tmp_path / "one", max_steps=1, guard_steps=5, sample_prompts=prompts)
    one = DRaFTVTrainer(tiny_wan(), redness, args, train_dataset=prompts)
    one.train()
    assert one.state.log_history[0]["monitor/motion"] == pytest.approx(first["monitored"][0], abs=1e-6)
    assert [len(list(path.iterdir())) for path in (tmp_path / "samples").iterdir()] == [3] * (1 + first["steps"] // 10)
