"""Augmentation before the rewards: one draw a clip, made of facts, differentiable, and hard on single pixels."""

import dataclasses

import pytest
import torch
from transformers import HfArgumentParser

from draftv_trainer import DRaFTVConfig
from draftv_trainer.augmentation import DEFAULT_STRENGTHS, RewardAugmentation, augment, parse_augmentation
from draftv_trainer.rollout import noise_seed
from tests.draftv.factories import tiny_args

STRONG = RewardAugmentation(shift=0.2, blur=0.05, noise=0.2, color=0.3)
ONE_BY_ONE = [RewardAugmentation(**{name: value}) for name, value in dataclasses.asdict(STRONG).items()]
SEEDS = [noise_seed(0, 0, position) for position in range(20)]


def clips(num=2, side=32):
    return torch.rand(num, 4, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("augmentation", [STRONG, *ONE_BY_ONE])
def test_frames_of_a_clip_get_the_same_and_clips_get_different_changes(augmentation):
    still = clips(1)[:, :1].expand(len(SEEDS), 4, -1, -1, -1)
    changed = augment(still, augmentation, SEEDS)
    assert changed.shape == still.shape
    assert torch.equal(changed, changed[:, :1].expand_as(changed))
    assert len({clip.sum().item() for clip in changed}) > len(SEEDS) // 2
    assert changed.min() >= 0.0 and changed.max() <= 1.0
    assert not torch.equal(changed, still)


@pytest.mark.parametrize("augmentation", [STRONG, *ONE_BY_ONE])
def test_seeds_alone_decide(augmentation):
    frames, state = clips(3), torch.random.get_rng_state()
    expected = augment(frames, augmentation, SEEDS[:3])
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(augment(frames, augmentation, SEEDS[:3]), expected)
    one_by_one = [augment(frames[[index]], augmentation, [SEEDS[index]]) for index in range(3)]
    assert torch.equal(torch.cat(one_by_one), expected)


@pytest.mark.parametrize("augmentation", [STRONG, *ONE_BY_ONE])
def test_gradients_pass(augmentation):
    frames = (0.25 + 0.5 * clips().double()).requires_grad_()
    direction = torch.randn(frames.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def value(frames):
        return (augment(frames, augmentation, SEEDS[:2]) ** 2).sum()

    (gradient,) = torch.autograd.grad(value(frames), frames)
    step = 1e-6
    with torch.no_grad():
        difference = (value(frames + step * direction) - value(frames - step * direction)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(difference.item(), rel=1e-5)
    assert (gradient != 0).float().mean() > 0.6


def test_the_draw_of_one_transform_does_not_depend_on_the_others():
    frames = clips(1)
    shifted = augment(frames, RewardAugmentation(shift=0.2), SEEDS[:1])
    blurred = augment(shifted, RewardAugmentation(blur=0.05), SEEDS[:1])
    torch.testing.assert_close(augment(frames, RewardAugmentation(shift=0.2, blur=0.05), SEEDS[:1]), blurred)


def test_shift_moves_whole_pixels_and_repeats_the_border():
    ramp = torch.arange(32.0).expand(1, 1, 3, 32, 32) / 32
    columns = [clip[0, 0, 16] * 32 for clip in augment(ramp.expand(20, 1, 3, 32, 32), ONE_BY_ONE[0], SEEDS)]
    moved = {int((column - torch.arange(32.0))[16].item()) for column in columns}
    assert min(moved) < -2 and max(moved) > 2 and all(abs(pixels) <= 0.2 * 32 for pixels in moved)
    for column in columns:
        pixels = (column - torch.arange(32.0))[16]
        torch.testing.assert_close(column, (torch.arange(32.0) + pixels).clamp(0, 31), atol=1e-4, rtol=0)


@pytest.mark.parametrize("augmentation", [RewardAugmentation(shift=0.05), RewardAugmentation(blur=0.05)])
def test_a_pattern_of_single_pixels_loses_most_of_its_effect(augmentation):
    """A reward that looks for its own checkerboard of noise, and one that looks for a large bright area."""
    pattern = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(2)).sign()
    area = torch.ones(3, 64, 64)
    area[:, 32:] = -1.0
    clip = torch.full((len(SEEDS), 2, 3, 64, 64), 0.5)

    def kept(shape_CHW):
        def effect(frames):
            return ((frames - 0.5) * shape_CHW).mean(dim=(1, 2, 3, 4)).mean().item()

        attacked = clip + 0.1 * shape_CHW
        return effect(augment(attacked, augmentation, SEEDS)) / effect(attacked)

    assert kept(pattern) < 0.5
    assert kept(area) > 0.85


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("shift", RewardAugmentation(shift=DEFAULT_STRENGTHS.shift)),
        ("shift,blur, noise,color", DEFAULT_STRENGTHS),
        (["noise"], RewardAugmentation(noise=DEFAULT_STRENGTHS.noise)),
        ({"blur": 0.01, "color": 0.5}, RewardAugmentation(blur=0.01, color=0.5)),
        ({"blur": 0.0}, None),
    ],
)
def test_settings(value, expected, tmp_path):
    assert parse_augmentation(value) == expected
    assert tiny_args(tmp_path, reward_augmentation=value).sampling_settings().augmentation == expected


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("shift,crop", ValueError, r"must name some of \['shift', .*got \['crop'\]"),
        ({"jitter": 0.1}, ValueError, r"got \['jitter'\]"),
        ({"noise": 1.5}, ValueError, r"\['noise'\] must be in \[0, 1\): got 1.5"),
        ({"noise": "much"}, ValueError, "got 'much'"),
        (0.1, TypeError, "got float"),
    ],
)
def test_wrong_settings(value, error, message, tmp_path):
    with pytest.raises(error, match=message):
        tiny_args(tmp_path, reward_augmentation=value)


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("shift,blur", RewardAugmentation(shift=DEFAULT_STRENGTHS.shift, blur=DEFAULT_STRENGTHS.blur)),
        ('{"noise": 0.1}', RewardAugmentation(noise=0.1)),
    ],
)
def test_command_line(flag, expected, tmp_path):
    flags = ["--output_dir", str(tmp_path), "--use_cpu", "--reward_augmentation", flag]
    (config,) = HfArgumentParser(DRaFTVConfig).parse_args_into_dataclasses(flags)
    assert config.sampling_settings().augmentation == expected
