"""MixtureReward: the weighted sum, with named weights."""

import pytest
import torch

from videorm_hf.rewards import FrameMean, FunctionReward, MixtureReward

PROMPTS = ["a corgi", "a cat asleep"]


def red(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    return images[:, 0].mean(dim=(1, 2))


def wordy(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    return torch.tensor([float(len(prompt)) for prompt in prompts]) * images.mean(dim=(1, 2, 3))


def test_sum_and_gradient_are_weighted() -> None:
    frames = torch.rand(2, 8, 3, 6, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    parts = {"red.1": FrameMean(red), "wordy": FrameMean(wordy, num_segments=4)}
    mixture = MixtureReward(parts, weights={"wordy": -0.5, "red.1": 2.0})
    rewards = mixture(frames, PROMPTS, seeds=[1, 2])
    expected = 2 * parts["red.1"](frames, PROMPTS) - 0.5 * parts["wordy"](frames, PROMPTS, seeds=[1, 2])
    torch.testing.assert_close(rewards, expected)
    (gradient,) = torch.autograd.grad(rewards.sum(), frames)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), frames)[0])
    assert (mixture.name, MixtureReward(parts, mixture.weights, name="all").name) == ("mixture", "all")


def test_mixtures_nest_and_hold_their_parts() -> None:
    module = torch.nn.Conv2d(3, 1, 2)
    inner = FrameMean(lambda images, prompts: module(images).mean(dim=(1, 2, 3)), name="inner")
    inner.add_module("conv", module)
    mixture = MixtureReward({"a": inner}, {"a": 1.0})
    nested = MixtureReward({"b": mixture}, {"b": 3.0})
    assert len(list(nested.parameters())) == 2
    frames = torch.rand(2, 4, 3, 6, 6)
    torch.testing.assert_close(nested(frames, PROMPTS), 3 * inner(frames, PROMPTS))


def test_a_function_is_a_part_and_gets_its_columns() -> None:
    def likeness(frames: torch.Tensor, prompts: list[str], target: list[float]) -> torch.Tensor:
        return -(frames.mean(dim=(1, 2, 3, 4)) - torch.tensor(target)).abs()

    frames = torch.rand(2, 3, 3, 4, 4)
    red = FrameMean(lambda images, prompts: images[:, 0].mean(dim=(1, 2)))
    mixture = MixtureReward({"red": red, "likeness": likeness}, weights={"red": 1.0, "likeness": 2.0})
    columns = {"target": [0.1, 0.2], "other": [1, 2]}
    expected = red(frames, ["a", "b"]) + 2 * likeness(frames, ["a", "b"], [0.1, 0.2])
    assert torch.allclose(mixture(frames, ["a", "b"], **columns), expected)


def test_names_must_agree() -> None:
    reward = FrameMean(red)
    with pytest.raises(ValueError, match="got rewards red and weights blue"):
        MixtureReward({"red": reward}, {"blue": 1.0})
    with pytest.raises(ValueError, match="got rewards red and weights none"):
        MixtureReward({"red": reward}, {})
    with pytest.raises(ValueError, match="at least one reward"):
        MixtureReward({}, {})
    with pytest.raises(ValueError, match="and 1 prompts"):
        MixtureReward({"red": reward}, {"red": 1.0})(torch.rand(2, 4, 3, 6, 6), PROMPTS[:1])


def test_a_function_must_give_one_reward_a_video() -> None:
    frames, prompts = torch.rand(2, 4, 3, 8, 8), ["a", "b"]
    for wrong, got in ((lambda f, p: f.mean(dim=(1, 3, 4))[:, :1], r"\(2, 1\)"), (lambda f, p: [0.0, 1.0], "list")):
        with pytest.raises(ValueError, match=rf"must return a tensor of shape \(2,\).* got {got}"):
            FunctionReward(wrong, name="mine")(frames, prompts)
