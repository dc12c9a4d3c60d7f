"""A reward against its original: equal scores, and equal gradients at every pixel, to 1e-5 of the largest."""

from collections.abc import Callable

import torch
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize
from torchvision.transforms import functional as F
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from tests.rewards.factories import PROMPTS, SIDE, smooth_frames
from videorm_hf.rewards import Reward

# Wide, tall, fitting, and with an odd number of pixels cut off.
SIZES = [(48, 80), (80, 44), (32, 32), (41, 58)]
TOLERANCE = 1e-5
normalize = Normalize(OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
# What open_clip, CLIP and ImageReward do to an image, on tensors.
crop = Compose([Resize(SIDE, InterpolationMode.BICUBIC), CenterCrop(SIDE), normalize])


def pad(image: torch.Tensor) -> torch.Tensor:
    """What `hpsv2` does to an image; see its `ResizeMaxSize`."""
    height, width = image.shape[-2:]
    new = [round(side * SIDE / max(height, width)) for side in (height, width)]
    image = F.resize(image, new, InterpolationMode.BICUBIC)
    extra_height, extra_width = SIDE - new[0], SIDE - new[1]
    left, top = extra_width // 2, extra_height // 2
    return normalize(F.pad(image, [left, top, extra_width - left, extra_height - top]))


def check_parity(
    reward: Reward,
    original: Callable[[torch.Tensor, list[str]], torch.Tensor],
    preprocess: Callable[[torch.Tensor], torch.Tensor],
    size: tuple[int, int],
) -> None:
    """Compare a reward on clips of three frames with the mean of `original(pixels, prompts)` over frames."""
    frames = smooth_frames(len(PROMPTS), 3, *size)
    ours, theirs = frames.clone().requires_grad_(), frames.clone().requires_grad_()
    rewards = reward(ours, PROMPTS)
    pixels = torch.stack([preprocess(image) for image in theirs.flatten(0, 1)])
    expected = original(pixels, [prompt for prompt in PROMPTS for _ in range(3)]).view(-1, 3).mean(dim=1)
    assert (expected[0] - expected[1]).abs() > 1e-3, "an original that sees no difference proves nothing"
    torch.testing.assert_close(rewards, expected, rtol=TOLERANCE, atol=TOLERANCE)
    rewards.sum().backward()
    expected.sum().backward()
    largest = theirs.grad.abs().max().item()
    assert largest > 1e-4
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=TOLERANCE * largest)
