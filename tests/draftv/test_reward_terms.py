"""Rewards: names, weights, columns, checks of what a reward returns, and the loss with its gradient on the frames."""

import functools

import pytest
import torch

from draftv_trainer.reward_terms import check_finite, frames_to_read, make_reward_terms, mean_scores, score_frames
from tests.draftv.factories import PROMPTS, motion, redness
from tests.factories import tiny_processor, tiny_videorm
from videorm_hf.rewards import FunctionReward, MixtureReward, VideoRMReward

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


def test_a_name_that_begins_another_is_not_numbered():
    def motion_blurred(frames, prompts):
        return motion(frames, prompts)

    names = [term.name for term in make_reward_terms([motion_blurred, motion, motion])]
    assert names == ["motion_blurred", "motion", "motion_2"]


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


def test_a_logged_reward_that_is_not_a_number_leaves_the_total_alone():
    def undefined(frames, prompts):
        return frames.flatten(1).mean(dim=1) * float("nan")

    scores = score_frames(make_reward_terms([redness, undefined], [1.0, 0.0]), FRAMES, PROMPTS, {})
    torch.testing.assert_close(scores.total, redness(FRAMES, PROMPTS))
    assert scores.rewards[1].isnan().all() and torch.isfinite(scores.loss)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda frames, prompts: frames.mean(), ValueError, r"shape \(2,\): got shape \(\)"),
        (lambda frames, prompts: frames.mean(dim=(2, 3, 4)), ValueError, r"shape \(2,\): got shape \(2, 5\)"),
        (lambda frames, prompts: [0.0, 0.0], TypeError, "floating-point tensor: got list"),
        (lambda frames, prompts: torch.tensor([1, 2]), TypeError, "floating-point tensor: got torch.int64"),
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


def test_rewards_that_are_not_finite_are_found_by_name_and_prompt():
    terms = make_reward_terms([redness, motion])
    rewards = torch.tensor([[0.0, 1.0], [2.0, float("nan")]])
    check_finite(terms, rewards.nan_to_num(), PROMPTS)
    with pytest.raises(ValueError, match="Reward 'motion' must return finite values: got nan for the prompt 'a blue"):
        check_finite(terms, rewards, PROMPTS)


def plain_gradient(terms, frames, clip=None):
    """The gradient of the loss written out, without taking the rewards' gradients one by one."""
    leaf = frames.clone().requires_grad_()
    total = sum(term.weight * term.function(leaf, PROMPTS) for term in terms)
    loss = -(total if clip is None else total.clamp(max=clip)).mean()
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def scored(terms, frames, clip=None):
    leaf = frames.clone().requires_grad_()
    scores = score_frames(terms, 1.0 * leaf, PROMPTS, {}, clip)
    return scores, torch.autograd.grad(scores.loss, leaf)[0]


@pytest.mark.parametrize("clip", [None, 0.055, -1.0])
def test_the_loss_and_its_gradient(clip):
    terms = make_reward_terms([redness, motion, redness], [2.0, 0.5, 0.0])
    scores, gradient = scored(terms, FRAMES, clip)
    loss, expected = plain_gradient(terms[:2], FRAMES, clip)
    assert scores.loss == loss
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-8)
    if clip == 0.055:
        assert (scores.total > clip).tolist() == [False, True]
        assert (gradient[0] != 0).any() and (gradient[1] == 0).all()
    if clip == -1.0:
        assert (gradient == 0).all()


def test_the_gradient_norm_of_each_reward():
    terms = make_reward_terms([redness, motion, redness], [2.0, 0.5, 0.0])
    scores, _ = scored(terms, FRAMES)
    for index, function in enumerate([redness, motion]):
        leaf = FRAMES.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaf, PROMPTS).sum(), leaf)
        expected = torch.stack([gradient[clip].norm() for clip in range(2)]).mean()
        torch.testing.assert_close(scores.grad_norms[index], expected)
    assert scores.grad_norms[2] == 0.0
    names = ["reward", "rewards/redness", "rewards/motion", "rewards/redness_2"]
    assert list(scores.metrics(terms))[:4] == names
    assert scores.metrics(terms)["grad_norm/motion"] == scores.grad_norms[1]


def test_a_reward_that_compares_the_clips_of_a_batch():
    def apart(frames, prompts):
        return (frames - frames.flip(0)).square().mean(dim=(1, 2, 3, 4))

    terms = make_reward_terms([apart, redness], [1.0, 3.0])
    clip = score_frames(terms, FRAMES, PROMPTS, {}).total.mean().item()
    scores, gradient = scored(terms, FRAMES, clip)
    assert sorted((scores.total > clip).tolist()) == [False, True]
    torch.testing.assert_close(gradient, plain_gradient(terms, FRAMES, clip)[1], rtol=1e-5, atol=1e-8)


def test_without_gradients_nothing_is_differentiated():
    with torch.no_grad():
        scores = score_frames(make_reward_terms([redness]), FRAMES, PROMPTS, {})
    assert not scores.loss.requires_grad
    assert list(scores.metrics(make_reward_terms([redness]))) == ["reward", "rewards/redness"]


def test_a_graph_that_does_not_reach_the_frames_is_an_error():
    scale = torch.ones((), requires_grad=True)
    terms = make_reward_terms([lambda frames, prompts: scale * redness(frames.detach(), prompts)])
    with pytest.raises(ValueError, match="a graph, but none to the frames"):
        score_frames(terms, FRAMES.clone().requires_grad_(), PROMPTS, {})


def test_a_reward_that_is_not_finite_makes_the_loss_so_too():
    terms = make_reward_terms([lambda frames, prompts: redness(frames, prompts) / 0])
    assert not score_frames(terms, FRAMES.clone().requires_grad_(), PROMPTS, {}).loss.isfinite()


def test_the_mean_of_several_scores():
    terms = make_reward_terms([redness, motion])
    one, other = (score_frames(terms, frames, PROMPTS, {}) for frames in (FRAMES, 1 - FRAMES))
    mean = mean_scores([one, other])
    torch.testing.assert_close(mean.loss, (one.loss + other.loss) / 2)
    torch.testing.assert_close(mean.rewards, (one.rewards + other.rewards) / 2)


def test_a_clip_that_is_not_finite_makes_the_loss_so_where_a_reward_would_refuse_its_frames():
    videorm = VideoRMReward(tiny_videorm(), tiny_processor())
    frames = FRAMES.clone()
    frames[1, 2] = torch.nan
    with pytest.raises(ValueError, match="must lie in"):
        videorm(frames, PROMPTS)
    scores = score_frames(make_reward_terms([videorm]), frames.requires_grad_(), PROMPTS, {})
    assert scores.rewards[0].isfinite().tolist() == [True, False] and not scores.loss.isfinite()


def test_columns_that_are_called_as_a_rewards_own_arguments_do_not_reach_it():
    seen = {}

    def any_columns(frames, prompts, **columns):
        seen.update(columns)
        return redness(frames, prompts)

    score(any_columns, columns={"frames": [1, 2], "prompts": [3, 4], "source": ["a", "b"]})
    assert seen == {"source": ["a", "b"]}


def test_rewards_are_differentiated_one_at_a_time():
    alive = []

    class Hungry(torch.nn.Module):
        def forward(self, frames, prompts):
            kept = 2.0 * frames
            kept.register_hook(lambda gradient: alive.remove(self))
            alive.append(self)
            assert len(alive) == 1
            return kept.mean(dim=(1, 2, 3, 4))

    score_frames(make_reward_terms([Hungry(), Hungry()]), FRAMES.clone().requires_grad_(), PROMPTS, {})
    assert alive == []


def test_the_most_frames_that_a_videorm_reads():
    reader = VideoRMReward(tiny_videorm(), tiny_processor(), num_frames=4)
    mixture = MixtureReward({"a": reader, "b": FunctionReward(redness)}, {"a": 1.0, "b": 1.0})
    assert frames_to_read(make_reward_terms([redness, mixture])) == 4
    assert frames_to_read(make_reward_terms([redness])) is None
