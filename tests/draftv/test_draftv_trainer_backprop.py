"""Training with every way to the gradient: it runs, it logs, and it does not depend on how a batch is divided."""

import pytest

from draftv_trainer import DRaFTVTrainer
from tests.draftv.factories import lora_weights, motion, redness, tiny_args, tiny_wan

DATA = ["a red dog runs", "a blue cat", "a green bird jumps", "a circle falls"]
WAYS = [
    {"backprop": "random", "num_backprop_steps": 3},
    {"backprop": "drtune", "num_backprop_steps": 2},
    pytest.param({"backprop": "refl", "num_backprop_steps": None, "refl_range": [1, 2]}, marks=pytest.mark.slow),
    {"lv_samples": 2, "num_backprop_steps": None},
]


def trained(tmp_path, reward_funcs=redness, **overrides):
    settings = {"max_steps": 1, "optim": "sgd", "learning_rate": 100.0, "max_grad_norm": 0.0, **overrides}
    run = DRaFTVTrainer(tiny_wan(), reward_funcs, tiny_args(tmp_path, **settings), train_dataset=DATA)
    start = lora_weights(run.pipe)
    run.train()
    return run, {name: weight - start[name] for name, weight in lora_weights(run.pipe).items()}


@pytest.mark.parametrize("way", WAYS, ids=["random", "drtune", "refl", "lv"])
def test_a_global_batch_divided_over_micro_steps_gives_the_same_gradients(tmp_path, way):
    _, whole = trained(tmp_path, per_device_train_batch_size=4, **way)
    _, divided = trained(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=4, **way)
    largest = max(step.abs().max() for step in whole.values())
    assert largest > 1e-3
    assert max((whole[name] - divided[name]).abs().max() for name in whole) < 1e-4 * largest


def test_gradient_norms_and_the_reference_distance_are_logged(tmp_path):
    run, _ = trained(
        tmp_path, [redness, motion], reward_weights=[1.0, 0.5], reference_coef=1.0, max_steps=3, learning_rate=10.0
    )
    entries = [entry for entry in run.state.log_history if "reward" in entry]
    assert len(entries) == 3
    for entry in entries:
        assert entry["grad_norm/redness"] > 0 and entry["grad_norm/motion"] > 0
        expected = -entry["reward"] + entry["reference_distance"]
        assert entry["loss"] == pytest.approx(expected, abs=1e-6)
    assert entries[0]["reference_distance"] == 0.0 < entries[2]["reference_distance"]
