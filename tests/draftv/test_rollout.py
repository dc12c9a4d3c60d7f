"""Rewards and noise: names, weights, columns, checks of what a reward returns, and seeds made of facts."""

import functools

import pytest
import torch

from draftv_trainer.rollout import make_reward_terms, noise_seed, spread_frames
from tests.draftv.factories import PROMPTS, motion, redness
from tests.factories import tiny_processor, tiny_videorm
from videorm_hf.rewards import VideoRMReward

FRAMES = torch.rand(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Brightness(torch.nn.Module):
    def forward(self, frames, prompts, scale):
        return torch.stack([clip.mean() * factor for clip, factor in zip(frames, scale, strict=True)])


def score(function, weight=1.0, columns=None):
    (term, *_) = make_reward_terms([function, redness], [weight, 1.0])
    return term.score(FRAMES.clone().requires_grad_(), PROMPTS, columns or {})


def test_names():
    videorm = VideoRMReward(tiny_videorm(), tiny_processor())
    functions = [motion, functools.partial(motion), Brightness(), videorm, motion]
    names = [term.name for term in make_reward_terms(functions)]
    assert names == ["motion", "motion_2", "Brightness", "videorm", "motion_3"]


def test_a_reward_gets_the_columns_it_takes():
    columns = {"scale": [2.0, 3.0], "source": ["a", "b"]}
    expected = FRAMES.mean(dim=(1, 2, 3, 4)) * torch.tensor([2.0, 3.0])
    torch.testing.assert_close(score(Brightness(), columns=columns), expected)
    seen = {}

    def any_columns(frames, prompts, **columns):
        seen.update(columns)
        return redness(frames, prompts)

    score(any_columns, columns=columns)
    assert seen == columns
    assert score(redness, columns=columns).requires_grad


def test_a_reward_of_weight_zero_needs_no_graph_and_builds_none():
    assert not score(lambda frames, prompts: redness(frames.detach(), prompts), weight=0.0).requires_grad
    assert not score(redness, weight=0.0).requires_grad
    assert score(redness, weight=0.5).requires_grad


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda frames, prompts: frames.mean(), ValueError, r"shape \(2,\): got shape \(\)"),
        (lambda frames, prompts: frames.mean(dim=(2, 3, 4)), ValueError, r"shape \(2,\): got shape \(2, 5\)"),
        (lambda frames, prompts: [0.0, 0.0], TypeError, "floating-point tensor: got list"),
        (lambda frames, prompts: torch.tensor([1, 2]), TypeError, "floating-point tensor: got torch.int64"),
        (lambda frames, prompts: redness(frames, prompts) / 0, ValueError, "finite values: got .*'a red dog runs'"),
        (lambda frames, prompts: redness(frames, prompts).detach(), ValueError, "cannot be differentiated"),
    ],
)
def test_what_a_reward_must_return(function, error, message):
    with pytest.raises(error, match=message):
        score(function)


@pytest.mark.parametrize(
    ("functions", "weights", "error", "message"),
    [
        ([], None, ValueError, "at least one reward"),
        ([redness], [1.0, 2.0], ValueError, "got 2 for 1"),
        ([redness], [0.0], ValueError, "must differ from 0"),
        ([3], None, TypeError, "got int"),
    ],
)
def test_wrong_rewards(functions, weights, error, message):
    with pytest.raises(error, match=message):
        make_reward_terms(functions, weights)


def test_noise_seeds_differ_and_are_fixed_for_all_time():
    seeds = {noise_seed(seed, step, place) for seed in range(4) for step in range(4) for place in range(4)}
    assert len(seeds) == 64
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert noise_seed(42, 7, 3) == 8545672181732416458


def test_spread_frames():
    clip = torch.arange(16.0).view(1, 16, 1, 1, 1)
    assert spread_frames(clip, 8).flatten().tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert spread_frames(clip, 3).flatten().tolist() == [2, 8, 13]
    assert spread_frames(clip, 1).flatten().tolist() == [8]
    assert spread_frames(clip, None) is clip
    with pytest.raises(ValueError, match="got 17 of 16"):
        spread_frames(clip, 17)
