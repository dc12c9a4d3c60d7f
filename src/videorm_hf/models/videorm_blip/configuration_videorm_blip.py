"""VideoRMBlipConfig: every number of VIDEORM on ImageReward, the paper's variant beta.

How a temporal transformer attaches to ImageReward, a BLIP cross-encoder, the paper leaves open; our choice and its
reason stand in `docs/paper_index.md`.
"""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import BlipTextConfig, BlipVisionConfig, PreTrainedConfig

from videorm_hf.models.videorm.configuration_videorm import _LIBRARY_KEYS, VideoRMConfig

# ImageReward's towers: a ViT-L/16 at 224 pixels, and BERT-base with cross-attention.
IMAGE_REWARD_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 16,
    "layer_norm_eps": 1e-6,
    "initializer_range": 0.02,
}
IMAGE_REWARD_TEXT = {"num_attention_heads": 12, "encoder_hidden_size": 1024}


@strict
class VideoRMBlipConfig(PreTrainedConfig):
    """Configure a [`VideoRMBlipModel`]; the defaults are ImageReward's with VIDEORM's temporal transformer.

    Args:
        text_config (`dict` or `BlipTextConfig`, *optional*):
            The text encoder with cross-attention to a frame. Defaults to ImageReward's.
        vision_config (`dict` or `BlipVisionConfig`, *optional*):
            The image encoder. Defaults to ImageReward's.
        projection_dim (`int`, *optional*):
            Width of the fused features and of the temporal head: the text encoder's.
        num_frames (`int`, defaults to 8):
            Frames sampled from a clip by default (paper: 8).
        max_frames (`int`, defaults to 32):
            Longest clip, in frames, that the temporal transformer has positions for.
        temporal_head (`"transformer"`, `"conv1d"`, `"lstm"` or `"mean"`, defaults to `"transformer"`):
            The module over fused frame features; with `"mean"` the model is ImageReward, averaged over frames.
        temporal_num_layers (`int`, defaults to 6):
            Layers of the temporal head.
        temporal_num_heads (`int`, *optional*):
            Attention heads of the temporal transformer. Defaults to `projection_dim // 64`, at least 1.
        temporal_intermediate_size (`int`, *optional*):
            MLP width of the temporal transformer. Defaults to `4 * projection_dim`.
        temporal_hidden_act (`str`, defaults to `"gelu"`):
            Activation of the temporal transformer and of the convolution head.
        temporal_dropout (`float`, defaults to 0.0):
            Dropout in the temporal head, in [0, 1).
        layer_norm_eps (`float`, defaults to 1e-5):
            Epsilon of the temporal head's layer norms.
        score_mean (`float`, defaults to 0.16717362830052426):
            Mean score of ImageReward's head, subtracted from its score.
        score_std (`float`, defaults to 1.0333394966054072):
            Standard deviation of these scores, by which the difference is divided.
        logit_scale_init_value (`float`, defaults to 0.0):
            Initial logarithm of the scale that multiplies rewards in the loss; ImageReward has none, so it is 1.
        initializer_range (`float`, defaults to 0.02):
            Standard deviation of initial weights.
        initializer_factor (`float`, defaults to 1.0):
            Multiplies CLIP's initial standard deviations in the temporal transformer.

    Raises:
        TypeError: If a key is not a field, as for a mistyped name.
        ValueError: If fields contradict each other.

    Reference:
        Wu et al. 2024 (NeurIPS), VIDEORM variant beta; Xu et al. 2023 (ImageReward). Differs: the attachment is ours.
    """

    model_type = "videorm_blip"
    sub_configs = {"text_config": BlipTextConfig, "vision_config": BlipVisionConfig}
    attribute_map = VideoRMConfig.attribute_map

    text_config: Any = None
    vision_config: Any = None
    projection_dim: int | None = None
    num_frames: int = 8
    max_frames: int = 32
    temporal_head: Literal["transformer", "conv1d", "lstm", "mean"] = "transformer"
    temporal_num_layers: int = 6
    temporal_num_heads: int | None = None
    temporal_intermediate_size: int | None = None
    temporal_hidden_act: str = "gelu"
    temporal_dropout: float | int = 0.0
    layer_norm_eps: float = 1e-5
    score_mean: float | int = 0.16717362830052426
    score_std: float | int = 1.0333394966054072
    logit_scale_init_value: float | int = 0.0
    initializer_range: float = 0.02
    initializer_factor: float | int = 1.0

    def __post_init__(self, **kwargs: object) -> None:
        unknown = sorted(key for key in kwargs if key not in _LIBRARY_KEYS and not hasattr(PreTrainedConfig(), key))
        if unknown:
            fields = ", ".join(sorted(VideoRMBlipConfig.__annotations__))
            raise TypeError(f"VideoRMBlipConfig got unknown keys: {', '.join(unknown)}. The fields are: {fields}.")
        self.text_config = _as_config(BlipTextConfig, self.text_config, IMAGE_REWARD_TEXT, "text_config")
        self.vision_config = _as_config(BlipVisionConfig, self.vision_config, IMAGE_REWARD_VISION, "vision_config")
        if self.projection_dim is None:
            self.projection_dim = self.text_config.hidden_size
        if self.temporal_num_heads is None:
            self.temporal_num_heads = max(1, self.projection_dim // 64)
        if self.temporal_intermediate_size is None:
            self.temporal_intermediate_size = 4 * self.projection_dim
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Check fields against each other; `@strict` runs this after construction and has checked each one's type."""
        for name in ("num_frames", "max_frames", "temporal_num_layers", "temporal_num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.num_frames > self.max_frames:
            raise ValueError(
                f"num_frames must not exceed max_frames, got num_frames={self.num_frames} and "
                f"max_frames={self.max_frames}. Raise max_frames or sample fewer frames."
            )
        if not 0 <= self.temporal_dropout < 1:
            raise ValueError(f"temporal_dropout must be in [0, 1), got {self.temporal_dropout}.")
        width = self.text_config.hidden_size
        if self.projection_dim != width:
            raise ValueError(
                f"projection_dim must be the text encoder's hidden_size={width}, got {self.projection_dim}."
            )
        if self.temporal_head == "transformer" and width % (self.temporal_num_heads or 1) != 0:
            raise ValueError(
                f"projection_dim must be a multiple of temporal_num_heads, got projection_dim={width} "
                f"and temporal_num_heads={self.temporal_num_heads}."
            )
        if self.text_config.encoder_hidden_size != self.vision_config.hidden_size:
            raise ValueError(
                "text_config.encoder_hidden_size must be the image encoder's "
                f"hidden_size={self.vision_config.hidden_size}, got {self.text_config.encoder_hidden_size}."
            )
        if not self.text_config.is_decoder:
            raise ValueError("text_config.is_decoder must be True: without it BLIP builds no cross-attention.")
        if self.score_std <= 0:
            raise ValueError(f"score_std must be above 0, got {self.score_std}.")


def _as_config(
    config_class: type[PreTrainedConfig], value: object, defaults: dict[str, Any], name: str
) -> PreTrainedConfig:
    """Build a tower's own copy of its configuration, refusing keys of a dictionary that it does not have."""
    if isinstance(value, PreTrainedConfig):
        return config_class(**value.to_dict())
    if not isinstance(value, dict | None):
        raise TypeError(f"{name} must be a dict or a {config_class.__name__}, got {type(value).__name__}.")
    value = defaults if value is None else value
    known = config_class()
    unknown = sorted(key for key in value if key not in _LIBRARY_KEYS and not hasattr(known, key))
    if unknown:
        raise TypeError(f"{name} got keys that {config_class.__name__} does not have: {', '.join(unknown)}.")
    return config_class(**value)


__all__ = ["VideoRMBlipConfig"]
