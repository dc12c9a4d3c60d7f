"""VideoRMProcessor: the video processor and the tokenizer of a VIDEORM behind one call."""

from transformers import PreTrainedTokenizerBase
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin
from transformers.video_processing_utils import BaseVideoProcessor

from .video_processing_videorm import VideoRMVideoProcessorKwargs

PROMPT_LENGTH = 77  # tokens, of every CLIP


class VideoRMProcessorKwargs(ProcessingKwargs, total=False):  # type: ignore[call-arg]
    """Defaults of [`VideoRMProcessor`]: prompts fill CLIP's 77 tokens, as the towers were trained."""

    videos_kwargs: VideoRMVideoProcessorKwargs
    _defaults = {
        "text_kwargs": {"padding": "max_length", "truncation": True, "max_length": PROMPT_LENGTH},
        "common_kwargs": {"return_tensors": "pt"},
    }


class VideoRMProcessor(ProcessorMixin):
    """Prepare prompts and clips for a [`VideoRMModel`].

    Args:
        video_processor ([`VideoRMVideoProcessor`]):
            Samples, resizes and normalises clips.
        tokenizer (`CLIPTokenizer`):
            Tokenises prompts.

    Example:

    ```python
    >>> from transformers import AutoProcessor
    >>> import videorm_hf

    >>> processor = AutoProcessor.from_pretrained("path/to/videorm")
    >>> inputs = processor(text=["a corgi on a skateboard"], videos=["clip.mp4"])
    >>> sorted(inputs)
    ['attention_mask', 'input_ids', 'pixel_values_videos']
    ```
    """

    valid_processor_kwargs = VideoRMProcessorKwargs

    def __init__(
        self, video_processor: BaseVideoProcessor | None = None, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        super().__init__(video_processor, tokenizer)


__all__ = ["VideoRMProcessor"]
