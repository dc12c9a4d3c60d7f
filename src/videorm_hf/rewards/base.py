"""Reward: what a scorer of (prompt, video) must offer to be trained on, mixed or compared."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig

# An image model's output overshoots [0, 1] by rounding; anything further is another range.
_TOLERANCE = 1e-2


class Reward(nn.Module, ABC):
    """Score videos for prompts; higher is better, and gradients reach the frames.

    A reward is a frozen module: it moves with `.to(device)` and is never trained by what it scores.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name, under which the reward is logged."""

    @abstractmethod
    def forward(self, frames: torch.Tensor, prompts: list[str], **columns: Any) -> torch.Tensor:
        """Score videos.

        Args:
            frames (`torch.FloatTensor` of shape `(batch_size, num_frames, 3, height, width)`):
                RGB frames, values in [0, 1]. Gradients flow through.
            prompts (`list[str]` of length `batch_size`):
                One prompt a video.
            columns (`Any`):
                Further columns of the data set, for rewards that want them.

        Returns:
            `torch.FloatTensor` of shape `(batch_size,)`: rewards, higher is better.
        """


def check_videos(frames: torch.Tensor, prompts: list[str]) -> None:
    """Check that there are frames of videos, and one prompt for each video.

    Args:
        frames (`torch.Tensor`):
            Expected `(batch_size, num_frames, 3, height, width)`.
        prompts (`list[str]`):
            Expected `batch_size` of them.

    Raises:
        ValueError: If it is not so.
    """
    if frames.ndim != 5 or frames.shape[2] != 3 or len(frames) != len(prompts) or isinstance(prompts, str):
        got = f"the text {prompts!r}" if isinstance(prompts, str) else f"{len(prompts)} prompts"
        raise ValueError(
            "Expected frames (batch_size, num_frames, 3, height, width) and a list of one prompt a video, got frames "
            f"of shape {tuple(frames.shape)} and {got}."
        )


def frames_to_score(config: PretrainedConfig, num_frames: int | None) -> int:
    """Return how many frames of a clip a VIDEORM scores.

    Args:
        config (`PretrainedConfig`):
            The model's.
        num_frames (`int`, *optional*):
            How many were asked for; `config.num_frames` by default.

    Returns:
        `int`: between 1 and `config.max_frames`.

    Raises:
        ValueError: If more or fewer were asked for.
    """
    num_frames = config.num_frames if num_frames is None else num_frames
    if not 1 <= num_frames <= config.max_frames:
        raise ValueError(
            f"num_frames must be between 1 and the model's max_frames={config.max_frames}, got {num_frames}."
        )
    return num_frames


def check_images(images: torch.Tensor) -> None:
    """Check that images are RGB with values in [0, 1].

    Args:
        images (`torch.Tensor`):
            Expected floating-point, `(num_images, 3, height, width)`.

    Raises:
        ValueError: If shape, type or range are others.
    """
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape or not images.is_floating_point():
        raise ValueError(
            "Expected floating-point images (num_images, 3, height, width), none of them empty: got "
            f"{images.dtype} of shape {tuple(images.shape)}."
        )
    low, high = (bound.item() for bound in images.detach().aminmax())
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
        raise ValueError(f"Images must lie in [0, 1], got values from {low:g} to {high:g}.")
