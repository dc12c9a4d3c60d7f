"""Random changes of the frames before the rewards see them, so that patterns of single pixels do not pay.

Source: a common remedy against adversarial optima where pixels are optimised through a network; every transform is
torchvision's own. Each clip gets one draw for all its frames, so motion stays what it is.

Layout: frames_BTCHW has axes batch, time, channel, height, width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torchvision.transforms.v2 import functional as transforms

# Separates the draws below from the clip's noise, whose generator starts from the bare seed.
_STREAM = 1


@dataclass(frozen=True)
class RewardAugmentation:
    """How strongly frames are changed before the rewards; a strength of 0 leaves a transform out.

    Args:
        shift (`float`, defaults to `0.0`):
            Largest translation, as a fraction of each side, in `[0, 1)`. Whole pixels; the border is repeated.
        blur (`float`, defaults to `0.0`):
            Largest standard deviation of a Gaussian blur, as a fraction of the shorter side, in `[0, 1)`.
        noise (`float`, defaults to `0.0`):
            Largest standard deviation of Gaussian noise, in `[0, 1)`; the same noise on all frames of a clip.
        color (`float`, defaults to `0.0`):
            Largest relative change of brightness, contrast and saturation, in `[0, 1)`.

    Raises:
        ValueError: If a strength is out of range.
    """

    shift: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    color: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            strength = self.__dict__[field.name]
            if not isinstance(strength, int | float) or not 0 <= strength < 1:
                raise ValueError(f"reward_augmentation[{field.name!r}] must be in [0, 1): got {strength!r}.")


# Small enough that a person would give the clip the same rating.
DEFAULT_STRENGTHS = RewardAugmentation(shift=0.05, blur=0.005, noise=0.05, color=0.1)


def parse_augmentation(value: str | Sequence[str] | Mapping[str, float] | None) -> RewardAugmentation | None:
    """Read the setting `reward_augmentation`.

    Args:
        value (`str` or `list[str]` or `dict[str, float]`, *optional*):
            Names of transforms, as a list or separated by commas, which then have their default strength; or strengths
            by name.

    Returns:
        `RewardAugmentation`: the strengths, or None where there is nothing to change.

    Raises:
        TypeError: If it is of another type.
        ValueError: If a name is unknown or a strength out of range.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",")]
    if not isinstance(value, Mapping | list | tuple):
        raise TypeError(
            f"reward_augmentation must be names of transforms or strengths by name: got {type(value).__name__}."
        )
    known = [field.name for field in fields(RewardAugmentation)]
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise ValueError(f"reward_augmentation must name some of {known}: got {unknown}.")
    if not isinstance(value, Mapping):
        value = {name: DEFAULT_STRENGTHS.__dict__[name] for name in value}
    augmentation = RewardAugmentation(**value)
    return augmentation if augmentation != RewardAugmentation() else None


def augment(frames_BTCHW: torch.Tensor, augmentation: RewardAugmentation, seeds: Sequence[int]) -> torch.Tensor:
    """Change each clip by one random draw for all its frames.

    Args:
        frames_BTCHW (`torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`):
            Floats in `[0, 1]`. Gradients flow through.
        augmentation (`RewardAugmentation`):
            How strongly.
        seeds (`list[int]`):
            One per clip; they alone decide the draws. No global random state is read or changed.

    Returns:
        `torch.Tensor` of the same shape: values in `[0, 1]`.
    """
    clips = [_augment_clip(clip, augmentation, seed) for clip, seed in zip(frames_BTCHW, seeds, strict=True)]
    return torch.stack(clips)


def _augment_clip(frames_TCHW: torch.Tensor, augmentation: RewardAugmentation, seed: int) -> torch.Tensor:
    """Shift, recolour, blur and add noise. All draws are made in any case, so that one does not move the others."""
    words = np.random.SeedSequence([seed, _STREAM]).generate_state(1, np.uint64)
    generator = torch.Generator("cpu").manual_seed(int(words[0] >> np.uint64(1)))
    down, right, brightness, contrast, saturation, blur, noise = (
        2 * torch.rand(7, generator=generator, dtype=torch.float64) - 1
    ).tolist()
    frames_TCHW = _shift(frames_TCHW, augmentation.shift * down, augmentation.shift * right)
    if augmentation.color:
        frames_TCHW = transforms.adjust_brightness(frames_TCHW, 1 + augmentation.color * brightness)
        frames_TCHW = transforms.adjust_contrast(frames_TCHW, 1 + augmentation.color * contrast)
        frames_TCHW = transforms.adjust_saturation(frames_TCHW, 1 + augmentation.color * saturation)
    frames_TCHW = _blur(frames_TCHW, augmentation.blur * abs(blur) * min(frames_TCHW.shape[-2:]))
    if augmentation.noise:
        pattern_CHW = torch.randn(frames_TCHW.shape[1:], generator=generator).to(frames_TCHW.device)
        frames_TCHW = frames_TCHW + augmentation.noise * abs(noise) * pattern_CHW
    return frames_TCHW.clamp(0, 1)


def _shift(frames_TCHW: torch.Tensor, down: float, right: float) -> torch.Tensor:
    """Move the picture by whole pixels, given as fractions of the sides, repeating the border."""
    height, width = frames_TCHW.shape[-2:]
    rows, columns = round(down * height), round(right * width)
    if rows == columns == 0:
        return frames_TCHW
    padding = [max(columns, 0), max(rows, 0), max(-columns, 0), max(-rows, 0)]
    padded = transforms.pad(frames_TCHW, padding, padding_mode="edge")
    return transforms.crop(padded, max(-rows, 0), max(-columns, 0), height, width)


def _blur(frames_TCHW: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur by a Gaussian that is cut off at three standard deviations, or where the reflected border ends."""
    radius = min(math.ceil(3 * sigma), min(frames_TCHW.shape[-2:]) - 1)
    if radius == 0:
        return frames_TCHW
    return transforms.gaussian_blur(frames_TCHW, [2 * radius + 1] * 2, [sigma] * 2)
