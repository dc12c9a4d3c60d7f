"""Rewards that compare an image with a prompt in CLIP's joint space: CLIP score, PickScore, HPS v2.

All three run on transformers' CLIPModel, whatever layout their weights were published in. Each keeps its original's
preprocessing and scale. Sources: Radford et al. 2021 (CLIP); Kirstain et al. 2023 (PickScore); Wu et al. 2023 (HPS
v2).
"""

import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn.functional import normalize
from torchvision.transforms.v2 import functional as tvF
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerBase
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from typing_extensions import Self

from videorm_hf.models.image_preprocessing import resize_and_crop, resize_and_pad
from videorm_hf.rewards.base import check_images
from videorm_hf.rewards.frames import ImageReward
from videorm_hf.rewards.prompt_cache import PromptCache
from videorm_hf.rewards.published_files import published_file

if TYPE_CHECKING:
    from videorm_hf.models.clip_checkpoints import ClipCheckpoint


class ClipReward(ImageReward):
    """What the rewards on a CLIP model share: the cosine of image and prompt.

    Args:
        model (`CLIPModel`):
            Image and text tower. It is frozen and set to evaluation.
        tokenizer (`PreTrainedTokenizerBase`):
            The text tower's tokenizer.
        image_mean (`Sequence[float]`, *optional*):
            Mean colour that the image tower was trained with. Defaults to CLIP's.
        image_std (`Sequence[float]`, *optional*):
            Standard deviation of colours that the image tower was trained with. Defaults to CLIP's.
    """

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: PreTrainedTokenizerBase,
        image_mean: Sequence[float] = OPENAI_CLIP_MEAN,
        image_std: Sequence[float] = OPENAI_CLIP_STD,
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.image_mean, self.image_std = list(image_mean), list(image_std)
        self._text_embeds = PromptCache()

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        architecture: str | None = None,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        **kwargs: Any,
    ) -> Self:
        """Load a reward; missing, unexpected and misshapen weights are a `ConversionError` that names them.

        Args:
            source (`str` or `os.PathLike`):
                An open_clip checkpoint file; an open_clip name with pretrained weights
                (`ViT-H-14:laion2b_s32b_b79k`, `hf-hub:org/name`, `local-dir:folder`); or a transformers CLIPModel
                (folder or hub id).
            architecture (`str`, *optional*):
                open_clip's name for the architecture of a checkpoint file, where its shapes do not tell.
            revision (`str`, *optional*):
                Branch, tag or commit of a hub id.
            dtype (`torch.dtype`, defaults to `torch.float32`):
                Number type of the weights. Embeddings are compared in float32 in any case.
            kwargs (`Any`):
                Further arguments of the class.

        Returns:
            [`ClipReward`]: the reward, on the CPU.
        """
        # Imported here, for it imports open_clip, which takes seconds.
        from videorm_hf.models.clip_checkpoints import read_clip_checkpoint

        clip = read_clip_checkpoint(os.fspath(source), architecture, revision)
        return cls(load_clip_model(clip, dtype), clip.tokenizer, clip.image_mean, clip.image_std, **kwargs)

    @abstractmethod
    def fit(self, images: torch.Tensor) -> torch.Tensor:
        """Bring images `(N, 3, H, W)` to the image tower's size, as the original does."""

    def score_images(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        """Score images by the cosine; see [`ImageReward`]. Each prompt is encoded once."""
        check_images(images)
        pixels = tvF.normalize(self.fit(images.float()), self.image_mean, self.image_std).to(self.model.device)
        image_embeds = self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)
        text_embeds = self._text_embeds.look_up(prompts, self._encode_prompts, image_embeds.device)
        return (normalize(image_embeds.float(), dim=-1) * text_embeds).sum(dim=-1)

    @property
    def side(self) -> int:
        """Height and width of the image tower's input in pixels."""
        return self.model.config.vision_config.image_size

    def _encode_prompts(self, prompts: list[str]) -> torch.Tensor:
        """Return text embeddings `(N, D)` of unit norm."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).to(self.model.device)
        pooled = self.model.text_model(**tokens).pooler_output
        return normalize(self.model.text_projection(pooled).float(), dim=-1)


class CLIPScoreReward(ClipReward):
    """Score images by the cosine of CLIP, in [-1, 1]; the paper's baseline is ViT-H/14 trained on LAION-2B.

    Example:

    ```python
    >>> import torch
    >>> from videorm_hf.rewards import CLIPScoreReward

    >>> reward = CLIPScoreReward.from_pretrained("ViT-H-14:laion2b_s32b_b79k")
    >>> rewards = reward(torch.rand(2, 8, 3, 256, 256), ["a corgi", "a cat asleep"])
    ```

    Reference:
        Radford et al. 2021 (CLIP); preprocessing of open_clip. Differs: frames are not rounded to eight bits.
    """

    @property
    def name(self) -> str:
        """`"clip_score"`."""
        return "clip_score"

    def fit(self, images: torch.Tensor) -> torch.Tensor:
        """Short side to the model's, centre crop, as open_clip."""
        return resize_and_crop(images, self.side)


class PickScoreReward(ClipReward):
    """Score images by PickScore: the cosine times the model's learned scale, `exp(logit_scale)`.

    Example:

    ```python
    >>> import torch
    >>> from videorm_hf.rewards import PickScoreReward

    >>> reward = PickScoreReward.from_pretrained("yuvalkirstain/PickScore_v1")
    >>> rewards = reward(torch.rand(2, 8, 3, 256, 256), ["a corgi", "a cat asleep"])
    ```

    Reference:
        Kirstain et al. 2023 (PickScore); preprocessing of transformers' CLIPImageProcessor. Differs: frames are not
        rounded to eight bits.
    """

    @property
    def name(self) -> str:
        """`"pick_score"`."""
        return "pick_score"

    def fit(self, images: torch.Tensor) -> torch.Tensor:
        """Short side to the model's, centre crop, as transformers."""
        return resize_and_crop(images, self.side, floor_offset=True)

    def score_images(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        """Score images by the scaled cosine; see [`ImageReward`]."""
        return self.model.logit_scale.float().exp() * super().score_images(images, prompts)


# The names under which the two versions are published, in a hub repository of both.
_HPS_FILES = {"2.0": "HPS_v2_compressed.pt", "2.1": "HPS_v2.1_compressed.pt"}


class HPSv2Reward(ClipReward):
    """Score images by HPS v2, the cosine of a CLIP ViT-H/14 tuned on people's choices, in [-1, 1].

    Args:
        model (`CLIPModel`):
            Image and text tower. It is frozen and set to evaluation.
        tokenizer (`PreTrainedTokenizerBase`):
            The text tower's tokenizer.
        image_mean (`Sequence[float]`, *optional*):
            Mean colour that the image tower was trained with. Defaults to CLIP's.
        image_std (`Sequence[float]`, *optional*):
            Standard deviation of colours that the image tower was trained with. Defaults to CLIP's.
        version (`"2.0"` or `"2.1"`, defaults to `"2.0"`):
            Which one the weights are. Their scores lie on different scales, so it is part of the reward's name.

    Raises:
        ValueError: If `version` is another.

    Example:

    ```python
    >>> import torch
    >>> from videorm_hf.rewards import HPSv2Reward

    >>> reward = HPSv2Reward.from_pretrained("xswu/HPSv2", version="2.1")
    >>> rewards = reward(torch.rand(2, 8, 3, 256, 256), ["a corgi", "a cat asleep"])
    ```

    Reference:
        Wu et al. 2023 (HPS v2); preprocessing of the `hpsv2` package with today's torchvision. Differs: an image whose
        long side fits already is padded too, where `hpsv2` gives the tower a shape that it refuses.
    """

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: PreTrainedTokenizerBase,
        image_mean: Sequence[float] = OPENAI_CLIP_MEAN,
        image_std: Sequence[float] = OPENAI_CLIP_STD,
        version: Literal["2.0", "2.1"] = "2.0",
    ) -> None:
        super().__init__(model, tokenizer, image_mean, image_std)
        if version not in _HPS_FILES:
            raise ValueError(f"version must be one of {', '.join(_HPS_FILES)}: got {version!r}.")
        self.version = version

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        architecture: str | None = None,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        version: Literal["2.0", "2.1"] = "2.0",
        **kwargs: Any,
    ) -> Self:
        """Load HPS v2; see [`ClipReward.from_pretrained`] for what else `source` may be.

        Args:
            source (`str` or `os.PathLike`):
                `HPS_v2_compressed.pt` or `HPS_v2.1_compressed.pt`, or a folder or hub id that holds it.
            architecture (`str`, *optional*):
                open_clip's name for the architecture of a file. Defaults to ViT-H-14 for files of these names.
            revision (`str`, *optional*):
                Branch, tag or commit of a hub id.
            dtype (`torch.dtype`, defaults to `torch.float32`):
                Number type of the weights.
            version (`"2.0"` or `"2.1"`, defaults to `"2.0"`):
                Which version to load.
            kwargs (`Any`):
                Further arguments of the class.

        Returns:
            [`HPSv2Reward`]: the reward, on the CPU.

        Raises:
            ValueError: If the file's name says another version.
        """
        if version not in _HPS_FILES:
            raise ValueError(f"version must be one of {', '.join(_HPS_FILES)}: got {version!r}.")
        source = os.fspath(source)
        found = published_file(source, _HPS_FILES[version], revision)
        named = {file: known for known, file in _HPS_FILES.items()}.get(Path(found or "").name, version)
        if named != version:
            raise ValueError(f"{source} holds HPS v{named}, not v{version}: pass version={named!r} (`hps_v{named}:`).")
        if found is not None:
            source, revision = found, None
        return super().from_pretrained(source, architecture, revision, dtype, version=version, **kwargs)

    @property
    def name(self) -> str:
        """`"hps_v2"` or `"hps_v2.1"`."""
        return "hps_v2" if self.version == "2.0" else f"hps_v{self.version}"

    def fit(self, images: torch.Tensor) -> torch.Tensor:
        """Long side to the model's, black borders, as `hpsv2`."""
        return resize_and_pad(images, self.side)


def load_clip_model(clip: "ClipCheckpoint", dtype: torch.dtype = torch.float32) -> CLIPModel:
    """Build the model of a checkpoint that was read.

    Args:
        clip ([`~videorm_hf.models.clip_checkpoints.ClipCheckpoint`]):
            Weights and configuration.
        dtype (`torch.dtype`, defaults to `torch.float32`):
            Number type of the weights.

    Returns:
        `CLIPModel`: with every weight at its place; another outcome is a `ConversionError`.
    """
    from videorm_hf.models.clip_checkpoints import without_load_report
    from videorm_hf.models.open_clip_layout import raise_for_keys

    config = CLIPConfig(
        text_config=clip.text_config, vision_config=clip.vision_config, projection_dim=clip.projection_dim
    )
    with without_load_report():
        model, info = CLIPModel.from_pretrained(
            None, config=config, state_dict=clip.state_dict, dtype=dtype, output_loading_info=True
        )
    mismatched = sorted(map(str, info["mismatched_keys"]))
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    raise_for_keys(missing, unexpected, mismatched, f"{clip.architecture} as a CLIPModel")
    return model
