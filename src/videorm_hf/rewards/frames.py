"""Image rewards as video rewards: ImageReward, the mean over all frames; FrameMean, over frames chosen and weighed.

All frames and no weights is how image rewards score videos (Wu et al. 2024, NeurIPS, Sec. 4), and the reward of
DRaFT-H. With segments and attenuation it is InstructVideo's (Yuan et al. 2023, arXiv 2312.12490).
Layouts: B videos, S scored frames of each.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from videorm_hf.rewards.base import Reward, check_videos

# (images (N, 3, H, W) in [0, 1], one prompt per image) -> (N,)
ImageFunction = Callable[[torch.Tensor, list[str]], torch.Tensor]


class ImageReward(Reward):
    """Score a video by the mean of an image reward over all its frames.

    [`FrameMean`] scores chosen frames instead: `FrameMean(reward, frames=[0, 8])`.
    """

    @abstractmethod
    def score_images(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        """Score images.

        Args:
            images (`torch.FloatTensor` of shape `(num_images, 3, height, width)`):
                RGB images, values in [0, 1]. Gradients flow through.
            prompts (`list[str]` of length `num_images`):
                One prompt an image.

        Returns:
            `torch.FloatTensor` of shape `(num_images,)`: rewards, higher is better.
        """

    def forward(self, frames: torch.Tensor, prompts: list[str], **columns: Any) -> torch.Tensor:
        """Score videos; see [`Reward`]."""
        check_videos(frames, prompts)
        return _score_frames(self.score_images, frames, prompts).mean(dim=1)


class FrameMean(Reward):
    r"""Score a video by the mean of an image reward r over frames f: `mean_f w(f) r(f)`.

    Args:
        image_reward ([`ImageReward`] or `Callable`):
            An image reward, or `(images (N, 3, height, width) in [0, 1], prompts of length N) -> (N,)`,
            differentiable, higher is better.
        num_segments (`int`, *optional*):
            Of each video, score one frame of each of so many equal parts (SegVR): a random one given `seeds`, else
            the middle one. By default all frames are scored.
        attenuation (`float`, *optional*, defaults to 0.0):
            a of the weight `w(f) = exp(-a |f - F / 2|)` of frame f, counted from 0, of F (TAR). At 0 all count alike.
        name (`str`, *optional*):
            Under which the reward is logged. Defaults to the image reward's own name, or `"frame_mean"`.
        frames (`Sequence[int]`, *optional*):
            Score these frames, counted from 0; negative numbers count from the end.

    Raises:
        ValueError: If `num_segments` is below 1, `attenuation` is negative, `frames` is empty, or both `frames` and
            `num_segments` are given.

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
        image_reward: ImageReward | ImageFunction,
        num_segments: int | None = None,
        attenuation: float = 0.0,
        name: str | None = None,
        frames: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if num_segments is not None and num_segments < 1:
            raise ValueError(f"num_segments must be at least 1, or None for all frames: got {num_segments}.")
        if attenuation < 0.0:
            raise ValueError(f"attenuation must be at least 0: got {attenuation}.")
        if frames is not None and len(frames) == 0:
            raise ValueError("frames must name at least one frame, or be None for all frames: got none.")
        if frames is not None and num_segments is not None:
            raise ValueError(
                f"Choose frames by number or by segment: got frames={list(frames)} and num_segments={num_segments}."
            )
        self.image_reward = image_reward
        self.num_segments = num_segments
        self.attenuation = attenuation
        self.frames = None if frames is None else tuple(frames)
        own_name = image_reward.name if isinstance(image_reward, Reward) else "frame_mean"
        self._name = own_name if name is None else name

    @property
    def name(self) -> str:
        """The name given, or the image reward's."""
        return self._name

    def forward(
        self, frames: torch.Tensor, prompts: list[str], seeds: Sequence[int] | None = None, **columns: Any
    ) -> torch.Tensor:
        """Score videos; see [`Reward`]. `seeds`, one a video, draw the frame of each segment."""
        check_videos(frames, prompts)
        batch_size, num_frames = frames.shape[:2]
        chosen = [self._choose(num_frames, None if seeds is None else seeds[row]) for row in range(batch_size)]
        index_BS = torch.tensor(chosen, device=frames.device)
        rows = torch.arange(batch_size, device=frames.device).unsqueeze(1)
        reward = self.image_reward
        score_images = reward.score_images if isinstance(reward, ImageReward) else reward
        values_BS = _score_frames(score_images, frames[rows, index_BS], prompts)
        weights_BS = torch.exp(-self.attenuation * (index_BS - num_frames / 2).abs()).to(values_BS.dtype)
        return (weights_BS * values_BS).mean(dim=1)

    def _choose(self, num_frames: int, seed: int | None) -> list[int]:
        """Return the frames of one video that are scored."""
        if self.frames is not None:
            if not all(-num_frames <= frame < num_frames for frame in self.frames):
                raise ValueError(f"frames={list(self.frames)} are not all in a video of {num_frames} frames.")
            return [frame % num_frames for frame in self.frames]
        if self.num_segments is None:
            return list(range(num_frames))
        if self.num_segments > num_frames:
            raise ValueError(f"A video of {num_frames} frames cannot be cut into {self.num_segments} segments.")
        starts = [part * num_frames // self.num_segments for part in range(self.num_segments + 1)]
        if seed is None:
            return [(start + end) // 2 for start, end in zip(starts, starts[1:], strict=False)]
        return np.random.default_rng(seed).integers(starts[:-1], starts[1:]).tolist()


def _score_frames(score_images: ImageFunction, frames: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    """Score each frame of `(B, S, 3, H, W)` for its video's prompt, all in one call; return `(B, S)`."""
    batch_size, num_frames = frames.shape[:2]
    values = score_images(frames.flatten(0, 1), [prompt for prompt in prompts for _ in range(num_frames)])
    if values.shape != (batch_size * num_frames,):
        raise ValueError(
            f"The image reward must return one value per image, shape ({batch_size * num_frames},): got shape "
            f"{tuple(values.shape)}."
        )
    return values.unflatten(0, (batch_size, num_frames))
