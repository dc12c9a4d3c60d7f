"""VideoRMReward: VIDEORM as a reward that looks at the whole clip at once (Wu et al. 2024, NeurIPS)."""

import os
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor
from typing_extensions import Self

from videorm_hf.models.sources import VIDEORM_FILES, find_source, hub_arguments
from videorm_hf.models.videorm.modeling_videorm import VideoRMModel
from videorm_hf.models.videorm.processing_videorm import VideoRMProcessor
from videorm_hf.rewards.base import Reward, check_videos, frames_to_score
from videorm_hf.rewards.complete_models import load_complete
from videorm_hf.rewards.prompt_cache import PromptCache


class VideoRMReward(Reward):
    """Score videos by the cosine of a VIDEORM.

    Each distinct prompt is encoded once. Of a longer video, `num_frames` frames are scored, spread uniformly.

    Args:
        model ([`VideoRMModel`]):
            The reward model. It is frozen and set to evaluation.
        processor ([`VideoRMProcessor`]):
            Its processor.
        num_frames (`int`, *optional*):
            Frames scored. Defaults to the model's `config.num_frames`.

    Raises:
        ValueError: If `num_frames` is not between 1 and the model's `max_frames`.

    Example:

    ```python
    >>> import torch
    >>> from videorm_hf.rewards import VideoRMReward

    >>> reward = VideoRMReward.from_pretrained("path/to/videorm")
    >>> frames = torch.rand(2, 16, 3, 64, 96, requires_grad=True)
    >>> rewards = reward(frames, ["a corgi on a skateboard", "a cat asleep"])
    >>> rewards.mean().backward()
    ```
    """

    def __init__(self, model: VideoRMModel, processor: VideoRMProcessor, num_frames: int | None = None) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.num_frames = frames_to_score(model.config, num_frames)
        self._text_embeds = PromptCache()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], num_frames: int | None = None, **kwargs: Any
    ) -> Self:
        """Load model and processor from a folder, a Hub id or `videorm-mini`.

        `kwargs` reach `AutoModel.from_pretrained`. Missing, unexpected and misshapen weights are a `ConversionError`
        that names them.
        """
        source = find_source(pretrained_model_name_or_path, "A VIDEORM", VIDEORM_FILES)
        model = load_complete(AutoModel, source, **kwargs)
        if model.config.model_type != VideoRMModel.config_class.model_type:
            raise ValueError(
                f"{str(pretrained_model_name_or_path)!r} holds a {model.config.model_type!r} model, expected a "
                "VIDEORM. Convert CLIP-like checkpoints with `videorm convert SOURCE OUT`."
            )
        processor = AutoProcessor.from_pretrained(source, **hub_arguments(kwargs))
        return cls(model, processor, num_frames)

    @property
    def name(self) -> str:
        """`"videorm"`."""
        return "videorm"

    def forward(self, frames: torch.Tensor, prompts: list[str], **columns: Any) -> torch.Tensor:
        """Score videos; see [`Reward`]. Rewards lie in [-1, 1]."""
        check_videos(frames, prompts)
        inputs = self.processor.video_processor(
            frames, num_frames=self.num_frames, input_data_format="channels_first", device=self.model.device
        )
        video_embeds = self.model.get_video_embeds(inputs["pixel_values_videos"])
        text_embeds = self._text_embeds.look_up(prompts, self._encode_prompts, video_embeds.device)
        return (video_embeds * text_embeds).sum(dim=-1)

    def _encode_prompts(self, prompts: list[str]) -> torch.Tensor:
        """Return text embeddings `(B, D)` of unit norm."""
        return self.model.get_text_embeds(**self.processor(text=prompts).to(self.model.device))
