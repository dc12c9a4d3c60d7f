"""Updates that are not finite: skipped without a trace, counted, and too many of them end the run."""

import pytest
import torch

from draftv_trainer.draftv_trainer import DRaFTVTrainer
from tests.draftv.factories import lora_weights, redness, tiny_args, tiny_wan

DATA = ["a red dog runs", "a blue cat", "a green bird jumps"]


class Poisoned:
    """A reward that is spoilt at chosen calls."""

    def __init__(self, calls, spoil):
        self.calls, self.spoil, self.num_calls = calls, spoil, 0

    def __call__(self, frames, prompts):
        self.num_calls += 1
        values = redness(frames, prompts)
        return self.spoil(values) if self.num_calls in self.calls else values


def gradient_only(values):
    """Finite values whose gradient is not: the slope of a root at 0."""
    return values + (values - values.detach()).abs().sqrt()


SPOILS = [
    lambda values: values * torch.nan,
    lambda values: values + torch.inf,
    lambda values: torch.stack([*values[:-1], values[-1] / 0]),
    gradient_only,
]


def trainer(tmp_path, reward, **overrides):
    settings = {"max_steps": 4, "per_device_train_batch_size": 3, "learning_rate": 0.05}
    args = tiny_args(tmp_path, **{**settings, **overrides})
    return DRaFTVTrainer(tiny_wan(), reward, args, train_dataset=DATA)


def logged(run, name):
    return [entry.get(name) for entry in run.state.log_history if "loss" in entry]


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_spoilt_update_leaves_no_trace(tmp_path, spoil):
    run = trainer(tmp_path, Poisoned({2}, spoil))
    run.train()
    assert logged(run, "nonfinite_steps") == [0, 1, 1, 1]
    assert all(torch.isfinite(weight).all() for weight in lora_weights(run.pipe).values())
    optimizer_steps = {int(state["step"]) for state in run.optimizer.state.values()}
    assert optimizer_steps == {3}
    weights = lora_weights(run.pipe)
    one_step = trainer(tmp_path, redness, max_steps=1)
    one_step.train()
    one = lora_weights(one_step.pipe)
    stopped = trainer(tmp_path, Poisoned({2}, spoil), max_steps=2)
    stopped.train()
    assert all(torch.equal(weight, one[name]) for name, weight in lora_weights(stopped.pipe).items())
    assert any(not torch.equal(weight, one[name]) for name, weight in weights.items())


def test_the_mean_of_logged_rewards_leaves_a_skipped_batch_out(tmp_path):
    run = trainer(tmp_path, Poisoned({2}, SPOILS[0]), logging_steps=2)
    run.train()
    first_only = trainer(tmp_path, redness, max_steps=1)
    first_only.train()
    assert logged(run, "reward")[0] == logged(first_only, "reward")[0]
    spoilt = trainer(tmp_path, Poisoned({2}, SPOILS[0]), max_steps=2)
    spoilt.train()
    assert logged(spoilt, "reward")[1] is None


def test_one_spoilt_micro_batch_spoils_the_whole_update(tmp_path):
    run = trainer(
        tmp_path, Poisoned({4}, SPOILS[0]), max_steps=2, per_device_train_batch_size=1, gradient_accumulation_steps=3
    )
    run.train()
    assert logged(run, "nonfinite_steps") == [0, 1]


def test_too_many_end_the_run(tmp_path):
    reward = Poisoned({2, 3, 4}, SPOILS[0])
    run = trainer(tmp_path, reward, max_nonfinite_steps=1)
    with pytest.raises(RuntimeError, match="2 updates up to step 3 were not finite: at most max_nonfinite_steps=1"):
        run.train()
    assert reward.num_calls == 3
    assert all(torch.isfinite(weight).all() for weight in lora_weights(run.pipe).values())


def test_the_first_step_is_an_error_at_once(tmp_path):
    with pytest.raises(ValueError, match="Reward 'Poisoned' must return finite values: got nan for the prompt"):
        trainer(tmp_path, Poisoned({1}, SPOILS[0])).train()
    with pytest.raises(ValueError, match="max_nonfinite_steps must be at least 0"):
        trainer(tmp_path, redness, max_nonfinite_steps=-1)
