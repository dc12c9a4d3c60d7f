"""VideoRMBlipReward: VIDEORM on ImageReward (the paper's variant beta) as a reward of whole clips."""

import os
from typing import Any

import torch
from transformers import AutoProcessor, PreTrainedTokenizerBase
from typing_extensions import Self

from videorm_hf.models.sources import VIDEORM_FILES, find_source, hub_arguments
from videorm_hf.models.videorm_blip.modeling_videorm_blip import VideoRMBlipModel
from videorm_hf.models.videorm_blip.processing_videorm_blip import VideoRMBlipProcessor
from videorm_hf.rewards.base import Reward, check_videos, frames_to_score
from videorm_hf.rewards.complete_models import load_complete
from videorm_hf.rewards.prompt_cache import PromptCache

# ImageReward reads so many tokens of a prompt.
_MAX_TOKENS = 35


class VideoRMBlipReward(Reward):
    """Score videos by a VIDEORM on ImageReward; unbounded, standardised as ImageReward's.

    Each distinct prompt is tokenised once; there is nothing else to keep, for the text encoder sees the frames. Of a
    longer video, `num_frames` frames are scored, spread uniformly.

    Args:
        model ([`VideoRMBlipModel`]):
            The reward model. It is frozen and set to evaluation.
        processor ([`VideoRMBlipProcessor`]):
            Its processor.
        num_frames (`int`, *optional*):
            Frames scored. Defaults to the model's `config.num_frames`.

    Raises:
        ValueError: If `num_frames` is not between 1 and the model's `max_frames`.
    """

    def __init__(
        self, model: VideoRMBlipModel, processor: VideoRMBlipProcessor, num_frames: int | None = None
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.processor = processor
        self.num_frames = frames_to_score(model.config, num_frames)
        self._tokens = TokenCache(processor.tokenizer)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], num_frames: int | None = None, **kwargs: Any
    ) -> Self:
        """Load model and processor from a folder or Hub id; `kwargs` reach `VideoRMBlipModel.from_pretrained`.

        Missing, unexpected and misshapen weights are a `ConversionError` that names them.
        """
        source = find_source(pretrained_model_name_or_path, "A VIDEORM", VIDEORM_FILES)
        model = load_complete(VideoRMBlipModel, source, **kwargs)
        processor = AutoProcessor.from_pretrained(source, **hub_arguments(kwargs))
        return cls(model, processor, num_frames)

    @property
    def name(self) -> str:
        """`"videorm_blip"`."""
        return "videorm_blip"

    def forward(self, frames: torch.Tensor, prompts: list[str], **columns: Any) -> torch.Tensor:
        """Score videos; see [`Reward`]."""
        check_videos(frames, prompts)
        inputs = self.processor.video_processor(
            frames, num_frames=self.num_frames, input_data_format="channels_first", device=self.model.device
        )
        return self.model(inputs["pixel_values_videos"], *self._tokens.look_up(prompts, self.model.device)).rewards


class TokenCache:
    """Tokens of prompts as ImageReward reads them, each prompt tokenised once.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            BERT's.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._cache = PromptCache()

    def look_up(self, prompts: list[str], device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `input_ids` and `attention_mask`, each `(len(prompts), 35)`."""
        input_ids, attention_mask = self._cache.look_up(prompts, self._tokenise, device).unbind(dim=1)
        return input_ids, attention_mask

    def _tokenise(self, prompts: list[str]) -> torch.Tensor:
        """Return ids and mask of prompts, `(len(prompts), 2, 35)`."""
        tokens = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
        )
        return torch.stack([tokens["input_ids"], tokens["attention_mask"]], dim=1)
