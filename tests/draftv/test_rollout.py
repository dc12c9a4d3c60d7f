"""The rollout: seeds made of facts, every way to the gradient as a setting, and the terms of the loss."""

import pytest
import torch

from draftv_trainer.lora import add_lora
from draftv_trainer.reward_terms import make_reward_terms
from draftv_trainer.rollout import RewardRollout, SamplingSettings, noise_seed, step_seed
from draftv_trainer.sampling import sample_renoised, sample_with_grad
from tests.draftv.explicit_sampling import STEPS, assert_same_gradients, gradients_of, lora_pipe
from tests.draftv.factories import PROMPTS, TINY_SIZE, generators, motion, redness, tiny_wan

SEEDS = [0, 1]


def rollout(pipe, **settings):
    terms = make_reward_terms([redness, motion], [1.0, 0.0])
    kwargs = {"num_inference_steps": STEPS, "pipeline_kwargs": TINY_SIZE, **settings}
    return RewardRollout(pipe, pipe.transformer, terms, SamplingSettings(**kwargs)).train()


def run(module, draw=0):
    return module(PROMPTS, {}, SEEDS, step_seed=draw)


def test_noise_seeds_differ_and_are_fixed_for_all_time():
    seeds = {noise_seed(seed, step, place) for seed in range(4) for step in range(4) for place in range(4)}
    seeds |= {step_seed(seed, step) for seed in range(4) for step in range(4)}
    assert len(seeds) == 64 + 16
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert noise_seed(42, 7, 3) == 8545672181732416458
    assert step_seed(42, 7) == 2187881750519333124


@pytest.mark.parametrize("backprop", ["last", "random", "drtune", "all", "refl"])
def test_every_way_to_the_gradient_is_a_setting(backprop):
    num_steps = None if backprop in ("all", "refl") else 2
    pipe = lora_pipe()
    module = rollout(pipe, backprop=backprop, num_backprop_steps=num_steps)
    output = run(module, draw=3)
    ours = gradients_of(pipe, output["loss"])
    arguments = {**TINY_SIZE, "num_inference_steps": STEPS, "generator": generators(2)}
    frames = sample_with_grad(pipe, PROMPTS, module.settings.graph_steps(3), **arguments)
    expected = redness(frames, PROMPTS)
    torch.testing.assert_close(output["total"], expected, rtol=0.0, atol=1e-6)
    assert_same_gradients(ours, gradients_of(pipe, -expected.mean()), atol=1e-5)


def test_random_choices_follow_the_step_seed_alone():
    pipe = lora_pipe()
    module, chosen = rollout(pipe, backprop="random"), []
    pipe.transformer.register_forward_hook(lambda module, args, output: chosen.append(output[0].requires_grad))
    numbers = []
    for draw in [*range(8), 0]:
        chosen.clear()
        run(module, draw)
        numbers.append(sum(chosen) // 2)
    assert numbers[0] == numbers[-1]
    assert len(set(numbers)) > 1


def test_draft_lv_is_the_mean_of_its_samples():
    pipe = lora_pipe()
    output = run(rollout(pipe, lv_samples=2))
    ours = gradients_of(pipe, output["loss"])
    arguments = {**TINY_SIZE, "num_inference_steps": STEPS, "generator": generators(2)}
    clips = sample_renoised(pipe, PROMPTS, 2, **arguments)
    expected = torch.stack([redness(clip, PROMPTS) for clip in clips]).mean(dim=0)
    torch.testing.assert_close(output["total"], expected, rtol=0.0, atol=1e-6)
    assert_same_gradients(ours, gradients_of(pipe, -expected.mean()), atol=1e-5)


def test_the_reference_distance_is_zero_at_the_start_and_part_of_the_loss():
    pipe = tiny_wan()
    add_lora(pipe)
    output = run(rollout(pipe, num_backprop_steps=2, reference_coef=3.0))
    assert output["metrics"]["reference_distance"] == 0.0
    moved = lora_pipe()
    plain = run(rollout(moved, num_backprop_steps=2))
    held = run(rollout(moved, num_backprop_steps=2, reference_coef=3.0))
    distance = held["metrics"]["reference_distance"]
    assert distance > 0
    torch.testing.assert_close(held["loss"], plain["loss"] + 3.0 * distance)
    assert "reference_distance" not in plain["metrics"]
    evaluated = run(rollout(moved, num_backprop_steps=2, reference_coef=3.0).eval())
    assert set(evaluated["metrics"]) == {"reward", "rewards/redness", "rewards/motion"}


def test_a_reward_above_the_clip_gives_no_gradient():
    pipe = lora_pipe()
    free = run(rollout(pipe, num_backprop_steps=1))
    clip = free["total"].min().item() - 0.01
    clipped = run(rollout(pipe, num_backprop_steps=1, reward_clip=clip))
    assert clipped["loss"].item() == pytest.approx(-clip)
    torch.testing.assert_close(clipped["total"], free["total"])
    clipped["loss"].backward()
    assert all((p.grad == 0).all() for p in pipe.transformer.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("settings", "blocks", "calls"),
    [
        ({"num_backprop_steps": 1}, True, False),
        ({"num_backprop_steps": 2}, True, True),
        ({"backprop": "all"}, True, True),
        ({"backprop": "refl"}, True, False),
        ({"lv_samples": 1}, True, False),
        ({"lv_samples": 2}, True, True),
        ({"num_backprop_steps": 2, "checkpointing": "none"}, False, False),
    ],
)
def test_checkpointing(settings, blocks, calls):
    module = rollout(lora_pipe(), **settings)
    assert (module.denoiser.is_gradient_checkpointing, module.checkpoint_calls) == (blocks, calls)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backprop": "first"}, "backprop must be one of"),
        ({"num_backprop_steps": 0}, "at least 1: got 0"),
        ({"backprop": "all", "num_backprop_steps": 2}, "must be None for backprop='all'"),
        ({"refl_range": [0, 1]}, "refl_range belongs to"),
        ({"lv_samples": 0}, "lv_samples must be at least 1"),
        ({"lv_samples": 2, "num_backprop_steps": 2}, "lv_samples needs .*num_backprop_steps=2"),
        ({"lv_samples": 2, "backprop": "drtune"}, "lv_samples needs .*backprop='drtune'"),
        ({"checkpointing": "full"}, "checkpointing must be one of"),
        ({"reference_coef": -1.0}, "reference_coef must be at least 0: got -1.0"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        SamplingSettings(**settings)
