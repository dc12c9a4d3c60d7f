"""The guard: what counts as a fall, and a run that is really hacked, stopped with it and not without."""

import itertools
import json
import logging

import pytest
import torch

from draftv_trainer.draftv_trainer import DRaFTVTrainer
from draftv_trainer.guard import TRAINED_REWARD, find_falls, is_sound, mean_motion, spread
from draftv_trainer.model_card import FACTS_NAME
from tests.draftv.factories import lora_weights, redness, tiny_args, tiny_wan

DATA = ["a red dog runs", "a blue cat", "a green bird jumps", "a circle falls"]


def stillness(frames, prompts):
    """A reward that a video model can hack by not moving."""
    return -mean_motion(frames)


def contrast(frames, prompts):
    return frames.std(dim=(1, 2, 3, 4))


def run(tmp_path, reward=stillness, monitor_rewards=None, **overrides):
    settings = {"max_steps": 12, "learning_rate": 0.2, "guard_steps": 2, "per_device_train_batch_size": 4}
    trainer = DRaFTVTrainer(
        tiny_wan(),
        reward,
        tiny_args(tmp_path, **{**settings, **overrides}),
        train_dataset=DATA,
        eval_dataset=DATA,
        monitor_rewards=monitor_rewards,
    )
    trainer.train()
    return trainer


def logged(trainer, name):
    return {entry["step"]: entry[name] for entry in trainer.state.log_history if name in entry}


def test_motion_of_known_clips():
    still = torch.rand(2, 1, 3, 4, 4).expand(2, 5, 3, 4, 4)
    assert mean_motion(still).tolist() == [0.0, 0.0]
    assert mean_motion(still[:, :1]).tolist() == [0.0, 0.0]
    steps = torch.tensor([0.0, 0.1, 0.3, 0.6]).view(1, 4, 1, 1, 1).expand(1, 4, 3, 2, 2)
    assert mean_motion(steps).item() == pytest.approx(0.2)


def test_spread():
    assert spread([1.0, 3.0]) == 1.0
    assert spread([-2.0, -2.0]) == pytest.approx(0.2)
    assert spread([0.0, 0.0]) == 0.0


START = {TRAINED_REWARD: [0.0, 2.0], "a": [1.0, 3.0], "b": [-1.0, 1.0]}


@pytest.mark.parametrize(
    ("reward", "a", "b", "tolerance", "fallen"),
    [
        (1.1, 2.0, 0.0, 0.5, []),
        (1.1, 1.6, -0.4, 0.5, []),
        (1.1, 1.4, 0.0, 0.5, ["a"]),
        (1.1, 1.4, -0.9, 0.5, ["b", "a"]),
        (1.1, 1.4, -0.9, 0.8, ["b"]),
        (1.0, 0.0, -9.0, 0.5, []),
        (0.9, 0.0, -9.0, 0.5, []),
        (1.1, 3.0, 9.0, 0.0, []),
    ],
)
def test_a_fall_counts_only_while_the_reward_rises(reward, a, b, tolerance, fallen):
    now = {TRAINED_REWARD: [reward, reward], "a": [a, a], "b": [b, b]}
    assert [fall.name for fall in find_falls(START, now, tolerance)] == fallen


def test_sound_is_what_has_no_monitor_below_its_start():
    assert is_sound(START, {**START, TRAINED_REWARD: [-9.0, -9.0]})
    assert is_sound(START, {**START, "a": [0.0, 4.0]})
    assert not is_sound(START, {**START, "b": [-1.0, 0.9]})


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_a_stopped_run_ends_with_the_last_weights_that_no_monitor_spoke_against(tmp_path, ema_decay):
    looks = itertools.count()

    def sound_three_times(frames, prompts):
        return torch.full((len(frames),), 1.0 if next(looks) < 3 * len(DATA) else 0.0)

    settings = {"monitor_motion": False, "ema_decay": ema_decay}
    # The best checkpoint by the reward, which is hacked, must not come back, nor a run that goes on after its stop.
    saving = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
    saving |= {"load_best_model_at_end": True}
    stopped = run(tmp_path, redness, sound_three_times, guard_steps=1, **settings, **saving)
    assert stopped.state.global_step == 3 and logged(stopped, "guard_kept_step") == {3: 2}
    assert stopped.guard_kept_step == 2
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]
    stopped.save_model()
    assert json.loads((tmp_path / FACTS_NAME).read_text())["training"]["guard_kept_step"] == 2
    until_then = run(tmp_path, redness, **settings, guard_steps=None, max_steps=2)
    assert until_then.guard_kept_step is None
    weights = lora_weights(until_then.pipe)
    assert all(torch.equal(weight, weights[name]) for name, weight in lora_weights(stopped.pipe).items())


@pytest.mark.slow
def test_a_hacked_run_is_stopped_with_the_guard_and_not_without(tmp_path, caplog):
    with caplog.at_level(logging.ERROR):
        guarded = run(tmp_path)
    motion, reward = logged(guarded, "monitor/motion"), logged(guarded, "monitor/trained_reward")
    stopped = guarded.state.global_step
    assert 2 <= stopped < 12 and list(motion) == list(range(0, stopped + 1, 2))
    assert motion[stopped] < motion[0] and reward[stopped] > reward[0]
    (message,) = [record.getMessage() for record in caplog.records]
    kept = max(step for step in motion if motion[step] >= motion[0])
    assert logged(guarded, "guard_kept_step") == {stopped: kept} and f"The LoRA of step {kept} is back" in message
    assert message.startswith(f"Stopping at step {stopped}: motion fell from {motion[0]:.4g} to {motion[stopped]:.4g}")
    assert f"the trained reward rose from {reward[0]:.4g} to {reward[stopped]:.4g}" in message

    unguarded = run(tmp_path, guard_steps=None)
    assert unguarded.state.global_step == 12
    assert logged(unguarded, "monitor/motion") == {}
    assert logged(unguarded, "reward")[12] > logged(unguarded, "reward")[1]
    assert {step: logged(unguarded, "reward")[step] for step in range(1, stopped + 1)} == logged(guarded, "reward")


def test_monitors_are_logged_never_trained_on_and_change_nothing(tmp_path):
    watched = run(tmp_path, redness, [contrast, redness], guard_tolerance=100.0, monitor_motion=False, max_steps=4)
    alone = run(tmp_path, redness, guard_steps=None, max_steps=4)
    assert list(logged(watched, "monitor/contrast")) == [0, 2, 4]
    assert logged(watched, "monitor/redness") == pytest.approx(logged(watched, "monitor/trained_reward"))
    assert logged(watched, "monitor/motion") == {}
    weights = lora_weights(alone.pipe)
    assert all(torch.equal(weight, weights[name]) for name, weight in lora_weights(watched.pipe).items())


def test_a_monitor_needs_no_gradient(tmp_path):
    trainer = run(tmp_path, redness, lambda frames, prompts: contrast(frames.detach(), prompts), max_steps=2)
    assert list(logged(trainer, "monitor/<lambda>")) == [0, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guard_steps": None, "monitor_rewards": contrast}, "monitor_rewards are evaluated every guard_steps"),
        ({"sample_prompts": ["a cat"]}, "at least two fixed prompts .*got .'a cat'."),
        (
            {"monitor_rewards": lambda frames, prompts: contrast(frames, prompts) / 0},
            "finite values: got inf from <",
        ),
        ({"monitor_rewards": lambda frames, prompts: frames.mean()}, "one value per video"),
        ({"guard_tolerance": -1.0}, "guard_tolerance must be at least 0: got -1.0"),
        ({"guard_steps": 0}, "guard_steps must be at least 1"),
    ],
)
def test_wrong_monitors_are_errors_before_the_first_step(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **arguments)


def test_a_monitor_with_the_built_in_name_is_an_error(tmp_path):
    def motion(frames, prompts):
        return mean_motion(frames)

    with pytest.raises(ValueError, match="must not hold one called 'motion'"):
        run(tmp_path, redness, motion)


def test_the_end_of_a_run_is_looked_at_too(tmp_path):
    assert logged(run(tmp_path, max_steps=3, guard_tolerance=99.0), "monitor/motion").keys() == {0, 2, 3}


def test_a_run_that_was_stopped_is_not_saved_as_its_best(tmp_path):
    looks = itertools.count()

    def sound_at_first(frames, prompts):
        return torch.full((len(frames),), 1.0 if next(looks) < len(DATA) else 0.0)

    settings = {"monitor_motion": False, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "best"}
    settings |= {"metric_for_best_model": "eval_reward"}
    stopped = run(tmp_path, redness, sound_at_first, **settings)
    assert stopped.guard_kept_step == 0 and stopped.state.global_step == 2
    assert not list(tmp_path.glob("checkpoint-*"))
