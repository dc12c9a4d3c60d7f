"""Two processes train as one does with the same global batch, share out features, and end together."""

import json

import pytest
import torch

from tests.processes import run_in_two_processes
from tests.trainer.factories import preference_rows, rated_items, small_trainer, weights
from tests.video_factory import cut, numbered_frames, write_video

SCRIPT = """
import json, sys
from pathlib import Path
from tests.trainer.factories import small_trainer, weights
from tests.trainer.test_processes import data, settings

folder, kind = sys.argv[1:]
trainer = small_trainer(folder, data(folder, kind), per_device_train_batch_size=1, **settings(folder, kind))
error = None
try:
    trainer.train()
    metrics = trainer.evaluate()
except ValueError as found:
    error, metrics = str(found), {}
facts = {
    "weights": {name: value.flatten().tolist() for name, value in weights(trainer).items()},
    "log": [entry for entry in trainer.state.log_history if "loss" in entry],
    "metrics": metrics,
    "bad_clips": trainer.bad_clips,
    "error": error,
}
Path(folder, f"rank{trainer.args.process_index}.json").write_text(json.dumps(facts))
"""


def data(folder, kind):
    # Items of six pairs, pairs, and items of three: a mean over processes would weigh them wrongly.
    rows = {"v": rated_items(3) + rated_items(2, seed=60, num_candidates=3), "h": preference_rows(3)}
    if kind in ("bad", "too many"):
        rows["v"][0]["candidates"][1]["video"] = f"{folder}/bad.mp4"
        rows["h"][1]["rejected"] = f"{folder}/missing.mp4"
    return rows


def settings(folder, kind):
    return {
        "max_steps": 6,
        "learning_rate": 1e-4,
        "eval_dataset": rated_items(2, seed=90) + rated_items(1, seed=80, num_candidates=2),
        "per_device_eval_batch_size": 1,
        "cache_features": kind == "cached",
        "max_bad_clips": 1 if kind == "too many" else 2,
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "cached", "bad"])
def test_two_processes_train_as_one(tmp_path, kind):
    write_video(tmp_path / "good.mp4", numbered_frames(20))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        cut(tmp_path / "good.mp4", tmp_path / name / "bad.mp4", 0.6)
    first, second = run_in_two_processes(SCRIPT, tmp_path / "two", kind)
    assert first["weights"] == second["weights"] and first["error"] is None
    one = small_trainer(
        tmp_path / "one",
        data(tmp_path / "one", kind),
        per_device_train_batch_size=2,
        **settings(tmp_path / "one", kind),
    )
    one.train()
    for name, value in weights(one).items():
        torch.testing.assert_close(torch.tensor(first["weights"][name]), value.flatten(), atol=1e-6, rtol=0)
    log = [entry for entry in one.state.log_history if "loss" in entry]
    for here, there in zip(log, first["log"], strict=True):
        for name in ("loss", "accuracy", "margin", "num_pairs", "reward_chosen_std", "bad_clips", "grad_norm"):
            assert there[name] == pytest.approx(here[name], abs=1e-5), name
    metrics = one.evaluate()
    for name in ("eval_num_pairs", "eval_accuracy", "eval_loss", "eval_margin"):
        assert first["metrics"][name] == pytest.approx(metrics[name], abs=1e-5), name
    assert metrics["eval_num_pairs"] == 13
    expected = {"item-0-0/c1": "truncated", "item-0-1/b": "missing"} if kind == "bad" else {}
    assert first["bad_clips"] == second["bad_clips"] == one.bad_clips == expected
    if kind == "cached":
        assert len(list((tmp_path / "two" / "_features").glob("frames-*.f32"))) == 2


@pytest.mark.slow
def test_too_many_bad_clips_end_both_processes_with_the_same_error(tmp_path):
    write_video(tmp_path / "good.mp4", numbered_frames(20))
    cut(tmp_path / "good.mp4", tmp_path / "bad.mp4", 0.6)
    first, second = run_in_two_processes(SCRIPT, tmp_path, "too many")
    assert first["error"] == second["error"] is not None
    assert "2 clips cannot be used, and max_bad_clips is 1" in first["error"]
    assert first["weights"] == second["weights"]
    assert json.dumps(first["bad_clips"]) == json.dumps(second["bad_clips"])
