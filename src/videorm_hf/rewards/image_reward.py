"""ImageRewardReward: ImageReward, a BLIP that reads the prompt with the image in sight (Xu et al. 2023)."""

import os
from pathlib import Path

import torch
from torchvision.transforms.v2 import functional as tvF
from transformers import PreTrainedTokenizerBase
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from typing_extensions import Self

from videorm_hf.models.image_preprocessing import resize_and_crop
from videorm_hf.models.videorm_blip.configuration_videorm_blip import VideoRMBlipConfig
from videorm_hf.models.videorm_blip.image_reward_checkpoint import load_bert_tokenizer, load_image_reward
from videorm_hf.models.videorm_blip.modeling_videorm_blip import VideoRMBlipModel
from videorm_hf.rewards.base import check_images
from videorm_hf.rewards.complete_models import load_complete
from videorm_hf.rewards.frames import ImageReward
from videorm_hf.rewards.published_files import published_file
from videorm_hf.rewards.videorm_blip import TokenCache

_CHECKPOINT = "ImageReward.pt"
_TOKENIZER = "google-bert/bert-base-uncased"
_VOCABULARIES = ("vocab.txt", "tokenizer.json")


class ImageRewardReward(ImageReward):
    """Score images by ImageReward; standardised over its authors' data to mean 0 and deviation 1, unbounded.

    Each distinct prompt is tokenised once; the text encoder sees the image, so it runs once an image.

    Args:
        model ([`VideoRMBlipModel`]):
            ImageReward as the variant with the temporal head `"mean"`. It is frozen and set to evaluation.
        tokenizer (`PreTrainedTokenizerBase`):
            BERT's, uncased.

    Raises:
        ValueError: If the model has another temporal head.

    Example:

    ```python
    >>> import torch
    >>> from videorm_hf.rewards import ImageRewardReward

    >>> reward = ImageRewardReward.from_pretrained("THUDM/ImageReward")
    >>> rewards = reward(torch.rand(2, 8, 3, 256, 256), ["a corgi", "a cat asleep"])
    ```

    Reference:
        Xu et al. 2023 (ImageReward); preprocessing of the `image-reward` package. Differs: frames are not rounded to
        eight bits.
    """

    def __init__(self, model: VideoRMBlipModel, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        if model.config.temporal_head != "mean":
            raise ValueError(
                f"ImageReward has the temporal head 'mean', got {model.config.temporal_head!r}: that is a VIDEORM on "
                "ImageReward, which VideoRMBlipReward scores clips by (`videorm:`)."
            )
        self.model = model.eval().requires_grad_(False)
        self._tokens = TokenCache(tokenizer)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        tokenizer: str | os.PathLike[str] | None = None,
        config: VideoRMBlipConfig | None = None,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Load ImageReward.

        Missing, unexpected and misshapen weights are a `ConversionError` that names them.

        Args:
            source (`str` or `os.PathLike`):
                `ImageReward.pt`, a folder or hub id that holds it, or the folder of a [`VideoRMBlipModel`].
            tokenizer (`str` or `os.PathLike`, *optional*):
                Folder or hub id with BERT's vocabulary, which the checkpoint does not hold. Defaults to the folder of
                the weights if it has one, else to `google-bert/bert-base-uncased` on the hub.
            config ([`VideoRMBlipConfig`], *optional*):
                The architecture of a checkpoint file, where its shapes do not tell.
            revision (`str`, *optional*):
                Branch, tag or commit of `source` on the hub.
            dtype (`torch.dtype`, defaults to `torch.float32`):
                Number type of the weights.

        Returns:
            [`ImageRewardReward`]: the reward, on the CPU.
        """
        source = os.fspath(source)
        file = published_file(source, _CHECKPOINT, revision)
        if file is None:
            model = _load_folder(source, revision, dtype)
        elif config is None:
            model = load_image_reward(file, dtype=dtype, temporal_head="mean")
        else:
            model = load_image_reward(file, config, dtype=dtype)
        if tokenizer is None:
            folder = Path(source if file is None else file).parent if Path(source).is_file() else Path(source)
            has_vocabulary = any((folder / name).is_file() for name in _VOCABULARIES)
            tokenizer = folder if has_vocabulary else _TOKENIZER
        return cls(model, load_bert_tokenizer(tokenizer, model.config.text_config.vocab_size))

    @property
    def name(self) -> str:
        """`"image_reward"`."""
        return "image_reward"

    def score_images(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        """Score images; see [`ImageReward`]."""
        check_images(images)
        pixels = resize_and_crop(images.float(), self.model.config.vision_config.image_size)
        pixels = tvF.normalize(pixels, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD).to(self.model.device)
        return self.model(pixels[:, None], *self._tokens.look_up(prompts, self.model.device)).rewards


def _load_folder(source: str, revision: str | None, dtype: torch.dtype) -> VideoRMBlipModel:
    """Load the folder or hub id of a saved model, all of it."""
    try:
        return load_complete(VideoRMBlipModel, source, revision=revision, dtype=dtype)
    except OSError as error:
        raise FileNotFoundError(
            f"{source} neither is nor holds {_CHECKPOINT}, and is no saved VideoRMBlipModel either. {error}"
        ) from error
