"""FrameMean: an image reward as a video reward, averaged over frames that it may choose and weigh.

With all frames and no weights it is how image rewards score videos (Wu et al. 2024, NeurIPS, Sec. 4), and the reward
of DRaFT-H. With segments and attenuation it is InstructVideo's (Yuan et al. 2023, arXiv 2312.12490).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from videorm_hf.rewards.base import Reward

# (images (N, 3, H, W) in [0, 1], one prompt per image) -> (N,)
ImageReward = Callable[[torch.Tensor, list[str]], torch.Tensor]


class FrameMean(Reward):
    r"""Score a video by the mean of an image reward r over frames f: `mean_f w(f) r(f)`.

    Args:
        image_reward (`Callable`):
            `(images (N, 3, height, width) in [0, 1], prompts of length N) -> (N,)`, differentiable, higher is better.
        num_segments (`int`, *optional*):
            Of each video, score one frame of each of so many equal parts (SegVR): a random one given `seeds`, else
            the middle one. By default all frames are scored.
        attenuation (`float`, *optional*, defaults to 0.0):
            a of the weight `w(f) = exp(-a |f - F / 2|)` of frame f, counted from 0, of F (TAR). At 0 all count alike.
        name (`str`, *optional*, defaults to `"frame_mean"`):
            Under which the reward is logged.

    Raises:
        ValueError: If `num_segments` is below 1 or `attenuation` is negative.

    Example:

    ```python
    >>> import torch
    >>> from videorm_hf.rewards.frames import FrameMean

    >>> reward = FrameMean(lambda images, prompts: images[:, 0].mean(dim=(1, 2)), num_segments=4, attenuation=1.0)
    >>> rewards = reward(torch.rand(2, 16, 3, 32, 32), ["a red ball", "a red kite"], seeds=[0, 1])
    ```

    Reference:
        Yuan et al. 2023 (InstructVideo): 4 segments, attenuation 1. Differs: none.
    """

    def __init__(
        self,
        image_reward: ImageReward,
        num_segments: int | None = None,
        attenuation: float = 0.0,
        name: str = "frame_mean",
    ) -> None:
        super().__init__()
        if num_segments is not None and num_segments < 1:
            raise ValueError(f"num_segments must be at least 1, or None for all frames: got {num_segments}.")
        if attenuation < 0.0:
            raise ValueError(f"attenuation must be at least 0: got {attenuation}.")
        self.image_reward = image_reward
        self.num_segments = num_segments
        self.attenuation = attenuation
        self._name = name

    @property
    def name(self) -> str:
        """The name given."""
        return self._name

    def forward(
        self, frames: torch.Tensor, prompts: list[str], seeds: Sequence[int] | None = None, **columns: Any
    ) -> torch.Tensor:
        """Score videos; see [`Reward`]. `seeds`, one a video, draw the frame of each segment."""
        if frames.ndim != 5 or len(frames) != len(prompts):
            raise ValueError(
                "Expected frames (batch_size, num_frames, 3, height, width) and one prompt a video, got frames of "
                f"shape {tuple(frames.shape)} and {len(prompts)} prompts."
            )
        batch_size, num_frames = frames.shape[:2]
        chosen = [self._choose(num_frames, None if seeds is None else seeds[row]) for row in range(batch_size)]
        index_BS = torch.tensor(chosen, device=frames.device)
        rows = torch.arange(batch_size, device=frames.device).unsqueeze(1)
        images = frames[rows, index_BS].flatten(0, 1)
        values = self.image_reward(images, [prompt for prompt in prompts for _ in chosen[0]])
        if values.shape != (len(images),):
            raise ValueError(
                f"The image reward must return one value per image, shape ({len(images)},): got shape "
                f"{tuple(values.shape)}."
            )
        weights_BS = torch.exp(-self.attenuation * (index_BS - num_frames / 2).abs()).to(values.dtype)
        return (weights_BS * values.unflatten(0, index_BS.shape)).mean(dim=1)

    def _choose(self, num_frames: int, seed: int | None) -> list[int]:
        """Return the frames of one video that are scored."""
        if self.num_segments is None:
            return list(range(num_frames))
        if self.num_segments > num_frames:
            raise ValueError(f"A video of {num_frames} frames cannot be cut into {self.num_segments} segments.")
        starts = [part * num_frames // self.num_segments for part in range(self.num_segments + 1)]
        if seed is None:
            return [(start + end) // 2 for start, end in zip(starts, starts[1:], strict=False)]
        return np.random.default_rng(seed).integers(starts[:-1], starts[1:]).tolist()
