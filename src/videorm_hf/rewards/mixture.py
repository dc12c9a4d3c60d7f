"""MixtureReward: a weighted sum of rewards as one reward."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from videorm_hf.rewards.base import Reward, check_videos
from videorm_hf.rewards.function import FunctionReward, VideoFunction


class MixtureReward(Reward):
    """Score videos by `sum_i w_i r_i`.

    Rewards have scales of their own (a cosine, a rating, a standardised score), so weights are named, never implied.

    Args:
        rewards (`Mapping[str, Reward]`):
            The rewards, or functions such as [`FunctionReward`] takes, by names of the caller's choice.
        weights (`Mapping[str, float]`):
            A weight for each of these names; negative ones are allowed.
        name (`str`, *optional*, defaults to `"mixture"`):
            Under which the sum is logged.

    Raises:
        ValueError: If there is no reward, or the names of rewards and weights differ.

    Example:

    ```python
    >>> import torch
    >>> from videorm_hf.rewards import FrameMean, MixtureReward

    >>> red = FrameMean(lambda images, prompts: images[:, 0].mean(dim=(1, 2)))
    >>> dark = FrameMean(lambda images, prompts: 1 - images.mean(dim=(1, 2, 3)))
    >>> reward = MixtureReward({"red": red, "dark": dark}, weights={"red": 1.0, "dark": 0.5})
    >>> rewards = reward(torch.rand(2, 16, 3, 32, 32), ["a red ball", "a red kite"])
    ```
    """

    def __init__(
        self, rewards: Mapping[str, Reward | VideoFunction], weights: Mapping[str, float], name: str = "mixture"
    ) -> None:
        super().__init__()
        if not rewards:
            raise ValueError("A mixture needs at least one reward: got none.")
        if rewards.keys() != weights.keys():
            raise ValueError(
                f"rewards and weights must have the same names: got rewards {', '.join(sorted(rewards))} and weights "
                f"{', '.join(sorted(weights)) or 'none'}."
            )
        # A list: names may hold a dot, which a ModuleDict refuses.
        self._parts = nn.ModuleList(
            reward if isinstance(reward, Reward) else FunctionReward(reward, key) for key, reward in rewards.items()
        )
        self.weights = {key: float(weights[key]) for key in rewards}
        self._name = name

    @property
    def name(self) -> str:
        """The name given."""
        return self._name

    def forward(self, frames: torch.Tensor, prompts: list[str], **columns: Any) -> torch.Tensor:
        """Score videos; see [`Reward`]."""
        check_videos(frames, prompts)
        parts = zip(self._parts, self.weights.values(), strict=True)
        return torch.stack([weight * part(frames, prompts, **columns) for part, weight in parts]).sum(dim=0)
