"""Reward: what a scorer of (prompt, video) must offer to be trained on, mixed or compared."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn


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
