"""The processor of VIDEORM on ImageReward: ImageReward's preprocessing over clips, and BERT's tokenizer.

Source: the `image-reward` package: short side to 224, bicubic, centre crop, CLIP's mean and standard deviation;
prompts of 35 tokens.
"""

import torch
from transformers import PreTrainedTokenizerBase
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin
from transformers.video_processing_utils import BaseVideoProcessor

from videorm_hf.models.image_preprocessing import resize_and_crop
from videorm_hf.models.videorm.video_processing_videorm import (
    Size,
    VideoRMVideoProcessor,
    VideoRMVideoProcessorKwargs,
    edge_length,
)


class VideoRMBlipVideoProcessor(VideoRMVideoProcessor):
    """Turn clips into `pixel_values_videos` as [`VideoRMVideoProcessor`] does, but crop instead of padding.

    Args:
        size (`dict[str, int]`, *optional*):
            `"shortest_edge"`, by default 224: length of the shortest side after resizing, and height and width of the
            square cut from the middle.
    """

    size = {"shortest_edge": 224}
    do_pad = False
    # Its parent's files are copied into a saved folder as remote code; these need the package.
    _auto_class = None

    def _resize_and_pad(self, frames: torch.Tensor, size: Size, pad_size: Size | None) -> torch.Tensor:
        """Bring frames `(T, 3, H, W)` to the target size: nothing is padded here."""
        return resize_and_crop(frames, edge_length(size, "shortest_edge"))


class VideoRMBlipProcessorKwargs(ProcessingKwargs, total=False):  # type: ignore[call-arg]
    """Defaults of [`VideoRMBlipProcessor`]: prompts fill ImageReward's 35 tokens."""

    videos_kwargs: VideoRMVideoProcessorKwargs
    _defaults = {
        "text_kwargs": {
            "padding": "max_length",
            "truncation": True,
            "max_length": 35,
            "return_token_type_ids": False,
        },
        "common_kwargs": {"return_tensors": "pt"},
    }


class VideoRMBlipProcessor(ProcessorMixin):
    """Prepare prompts and clips for a [`VideoRMBlipModel`].

    Args:
        video_processor ([`VideoRMBlipVideoProcessor`]):
            Samples, resizes, crops and normalises clips.
        tokenizer (`BertTokenizer`):
            Tokenises prompts.
    """

    valid_processor_kwargs = VideoRMBlipProcessorKwargs

    def __init__(
        self, video_processor: BaseVideoProcessor | None = None, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        super().__init__(video_processor, tokenizer)


__all__ = ["VideoRMBlipProcessor", "VideoRMBlipVideoProcessor"]
