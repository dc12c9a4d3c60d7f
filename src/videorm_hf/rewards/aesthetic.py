"""AestheticReward: the LAION aesthetic predictor, a small head on CLIP ViT-L/14; it does not read the prompt."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.functional import normalize
from torchvision.transforms.v2 import functional as tvF
from transformers import CLIPVisionModelWithProjection
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from typing_extensions import Self

from videorm_hf.models.image_preprocessing import resize_and_crop
from videorm_hf.models.score_mlp import ScoreMLP
from videorm_hf.rewards.base import check_images
from videorm_hf.rewards.frames import ImageReward
from videorm_hf.rewards.published_files import published_file

_HEAD_FILE = "sac+logos+ava1-l14-linearMSE.pth"
_CLIP = "openai/clip-vit-large-patch14"


class AestheticReward(ImageReward):
    """Score images by how people would rate their looks; the rating is about 1 to 10 for photographs, unbounded else.

    Args:
        model (`CLIPVisionModelWithProjection`):
            The image tower. It is frozen and set to evaluation.
        head ([`ScoreMLP`]):
            From the tower's feature, of unit norm, to the score.
        image_mean (`Sequence[float]`, *optional*):
            Mean colour that the image tower was trained with. Defaults to CLIP's.
        image_std (`Sequence[float]`, *optional*):
            Standard deviation of colours that the image tower was trained with. Defaults to CLIP's.

    Example:

    ```python
    >>> import torch
    >>> from videorm_hf.rewards import AestheticReward

    >>> reward = AestheticReward.from_pretrained("sac+logos+ava1-l14-linearMSE.pth")
    >>> rewards = reward(torch.rand(2, 8, 3, 256, 256), ["", ""])
    ```

    Reference:
        The LAION "improved aesthetic predictor"; preprocessing of OpenAI's CLIP. Differs: frames are not rounded to
        eight bits.
    """

    def __init__(
        self,
        model: CLIPVisionModelWithProjection,
        head: ScoreMLP,
        image_mean: Sequence[float] = OPENAI_CLIP_MEAN,
        image_std: Sequence[float] = OPENAI_CLIP_STD,
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.head = head.eval().requires_grad_(False)
        self.image_mean, self.image_std = list(image_mean), list(image_std)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str],
        clip: str | os.PathLike[str] | None = None,
        architecture: str | None = None,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Load the head and the CLIP it stands on.

        Missing, unexpected and misshapen weights are a `ConversionError` that names them.

        Args:
            source (`str` or `os.PathLike`):
                The head: the file `sac+logos+ava1-l14-linearMSE.pth`, or a folder or hub id that holds it. A folder
                may hold a transformers CLIP beside it.
            clip (`str` or `os.PathLike`, *optional*):
                The CLIP: what [`CLIPScoreReward.from_pretrained`] takes. Defaults to `source` if it is a folder with a
                CLIP, and to OpenAI's ViT-L/14, which the published head was trained on.
            architecture (`str`, *optional*):
                open_clip's name for the architecture, where `clip` is a checkpoint file.
            revision (`str`, *optional*):
                Branch, tag or commit of `source` on the hub.
            dtype (`torch.dtype`, defaults to `torch.float32`):
                Number type of the tower's weights. The head stays in float32.

        Returns:
            [`AestheticReward`]: the reward, on the CPU.

        Raises:
            FileNotFoundError: If there is no such head.
        """
        # Imported here, for they import open_clip, which takes seconds.
        from videorm_hf.models.clip_checkpoints import load_weights, read_clip_checkpoint
        from videorm_hf.models.open_clip_layout import ConversionError, check_keys
        from videorm_hf.rewards.clip import load_clip_model

        source = os.fspath(source)
        file = published_file(source, _HEAD_FILE, revision)
        if file is None:
            raise FileNotFoundError(
                f"{source} neither is nor holds the aesthetic head, {_HEAD_FILE}; a hub id must be in the cache "
                "or within reach."
            )
        weights = load_weights(Path(file))
        if clip is None:
            clip = source if (Path(source) / "config.json").is_file() else _CLIP
        checkpoint = read_clip_checkpoint(os.fspath(clip), architecture)
        head = ScoreMLP(checkpoint.projection_dim)
        try:
            check_keys(weights, head.state_dict(), f"{file} read as the head on {clip}")
        except ConversionError as error:
            width = checkpoint.projection_dim
            raise ConversionError(f"{error}\nThe features of {clip} have the width {width}.") from error
        head.load_state_dict(weights)
        full = load_clip_model(checkpoint, dtype)
        # The text tower is left behind. The two parts are the very modules of the model that was read.
        config = full.config.vision_config
        with torch.device("meta"):
            model = CLIPVisionModelWithProjection(config)
        model.vision_model, model.visual_projection = full.vision_model, full.visual_projection
        return cls(model, head.float(), checkpoint.image_mean, checkpoint.image_std)

    @property
    def name(self) -> str:
        """`"aesthetic"`."""
        return "aesthetic"

    def score_images(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        """Score images; see [`ImageReward`]. Prompts are not read."""
        check_images(images)
        pixels = resize_and_crop(images.float(), self.model.config.image_size)
        pixels = tvF.normalize(pixels, self.image_mean, self.image_std).to(self.model.device)
        return self.head(normalize(self.model(pixel_values=pixels).image_embeds.float(), dim=-1))
