"""VideoRMConfig: every number of the VIDEORM architecture.

VIDEORM is a CLIP image-text model with two temporal modules (Wu et al. 2024, NeurIPS, "VIDEORM"): a parameter-free
temporal shift inside the image tower (Lin et al. 2019, TSM) and a small temporal head over the frame features. Where
the paper is silent the choice and its reason stand in `docs/paper_index.md`.
"""

import difflib
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.models.clip.configuration_clip import CLIPTextConfig, CLIPVisionConfig

# Keys that transformers itself writes to, or reads from, a configuration besides the fields of `PreTrainedConfig`.
_LIBRARY_KEYS = frozenset({
    "_commit_hash", "_name_or_path", "attn_implementation", "auto_map", "experts_implementation", "model_type",
    "name_or_path", "quantization_config", "torch_dtype", "transformers_version",
})  # fmt: skip


@strict
class VideoRMConfig(PreTrainedConfig):
    """Configure a [`VideoRMModel`].

    The fields that describe the temporal transformer are also reachable under transformers' standard names
    (`hidden_size` is `projection_dim`, `num_attention_heads` is `temporal_num_heads`, ...), so that its layers are
    plain CLIP encoder layers.

    Args:
        text_config (`dict` or `CLIPTextConfig`, *optional*):
            The text tower. Defaults to CLIP ViT-B/32's.
        vision_config (`dict` or `CLIPVisionConfig`, *optional*):
            The image tower. Defaults to CLIP ViT-B/32's.
        projection_dim (`int`, defaults to 512):
            Width of the joint text-video space and of the temporal head.
        num_frames (`int`, defaults to 8):
            Frames sampled from a clip by default (paper: 8).
        max_frames (`int`, defaults to 32):
            Longest clip, in frames, that the temporal transformer has positions for.
        temporal_shift (`"residual"`, `"block"` or `"none"`, defaults to `"residual"`):
            Where patch tokens are shifted in time: at the entrance of each attention branch, on the residual stream
            before each block, or nowhere.
        temporal_shift_fold_div (`int`, defaults to 8):
            One part in `temporal_shift_fold_div` of the channels moves forward in time and one part backward.
        temporal_shift_padding (`"replicate"` or `"zero"`, defaults to `"replicate"`):
            What the first and last frame receive from beyond the clip: their own channels, or zeros.
        temporal_head (`"transformer"`, `"conv1d"`, `"lstm"` or `"mean"`, defaults to `"transformer"`):
            The module over frame features; `"mean"` has no parameters.
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
        logit_scale_init_value (`float`, defaults to 2.6592):
            Initial logarithm of the scale that multiplies rewards in the loss.
        initializer_range (`float`, defaults to 0.02):
            Standard deviation of the initial weights that CLIP's own scheme does not cover.
        initializer_factor (`float`, defaults to 1.0):
            Multiplies CLIP's initial standard deviations.

    Raises:
        TypeError: If a key is not a field, as for a mistyped name.
        ValueError: If fields contradict each other.

    Reference:
        Wu et al. 2024 (NeurIPS), VIDEORM. Differs: depth, heads, gate and shift placement are ours
        (docs/paper_index.md).

    Example:

    ```python
    >>> from videorm_hf import VideoRMConfig, VideoRMModel

    >>> config = VideoRMConfig(temporal_num_layers=2)
    >>> model = VideoRMModel(config)
    >>> model.config.temporal_num_heads
    8
    ```
    """

    model_type = "videorm"
    sub_configs = {"text_config": CLIPTextConfig, "vision_config": CLIPVisionConfig}
    attribute_map = {
        "hidden_size": "projection_dim",
        "num_hidden_layers": "temporal_num_layers",
        "num_attention_heads": "temporal_num_heads",
        "intermediate_size": "temporal_intermediate_size",
        "hidden_act": "temporal_hidden_act",
        "attention_dropout": "temporal_dropout",
    }

    text_config: Any = None
    vision_config: Any = None
    projection_dim: int = 512
    num_frames: int = 8
    max_frames: int = 32
    temporal_shift: Literal["residual", "block", "none"] = "residual"
    temporal_shift_fold_div: int = 8
    temporal_shift_padding: Literal["replicate", "zero"] = "replicate"
    temporal_head: Literal["transformer", "conv1d", "lstm", "mean"] = "transformer"
    temporal_num_layers: int = 6
    temporal_num_heads: int | None = None
    temporal_intermediate_size: int | None = None
    temporal_hidden_act: str = "gelu"
    temporal_dropout: float | int = 0.0
    layer_norm_eps: float = 1e-5
    logit_scale_init_value: float | int = 2.6592
    initializer_range: float = 0.02
    initializer_factor: float | int = 1.0

    def __post_init__(self, **kwargs: object) -> None:
        _refuse_unknown_keys(kwargs, known=list(VideoRMConfig.__annotations__))
        self.text_config = _as_config(CLIPTextConfig, self.text_config, "text_config")
        self.vision_config = _as_config(CLIPVisionConfig, self.vision_config, "vision_config")
        if self.temporal_num_heads is None:
            self.temporal_num_heads = max(1, self.projection_dim // 64)
        if self.temporal_intermediate_size is None:
            self.temporal_intermediate_size = 4 * self.projection_dim
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Check fields against each other; `@strict` runs this after construction and has checked each one's type."""
        for name in ("projection_dim", "num_frames", "max_frames", "temporal_num_layers", "temporal_num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.num_frames > self.max_frames:
            raise ValueError(
                f"num_frames must not exceed max_frames, got num_frames={self.num_frames} and "
                f"max_frames={self.max_frames}. Raise max_frames or sample fewer frames."
            )
        if not 0 <= self.temporal_dropout < 1:
            raise ValueError(f"temporal_dropout must be in [0, 1), got {self.temporal_dropout}.")
        if self.temporal_head == "transformer" and self.projection_dim % (self.temporal_num_heads or 1) != 0:
            raise ValueError(
                f"projection_dim must be a multiple of temporal_num_heads, got projection_dim={self.projection_dim} "
                f"and temporal_num_heads={self.temporal_num_heads}."
            )
        width = self.vision_config.hidden_size
        if self.temporal_shift != "none" and not 2 <= self.temporal_shift_fold_div <= width:
            raise ValueError(
                f"temporal_shift_fold_div must be between 2 (half of the channels forward, half backward) and the "
                f"image tower's width {width}, got {self.temporal_shift_fold_div}."
            )
        if self.vision_config.num_channels != 3:
            raise ValueError(f"vision_config.num_channels must be 3 (RGB), got {self.vision_config.num_channels}.")


def _refuse_unknown_keys(keys: dict[str, object], known: list[str]) -> None:
    """Raise for keys that neither VIDEORM nor transformers knows: `@strict` would keep a mistyped one silently."""
    unknown = [key for key in keys if key not in _LIBRARY_KEYS and not hasattr(PreTrainedConfig, key)]
    unknown = [key for key in unknown if key not in PreTrainedConfig().__dict__]
    if unknown:
        hints = {key: difflib.get_close_matches(key, known, n=1) for key in unknown}
        named = ", ".join(
            f"{key!r}" + (f" (did you mean {hint[0]!r}?)" if hint else "") for key, hint in hints.items()
        )
        raise TypeError(f"VideoRMConfig got unknown keys: {named}. The fields are: {', '.join(sorted(known))}.")


def _as_config(config_class: type[PreTrainedConfig], value: object, name: str) -> PreTrainedConfig:
    """Build a tower's own copy of its configuration, refusing keys of a dictionary that it does not have."""
    if isinstance(value, PreTrainedConfig):
        # Published CLIP configurations carry keys of older libraries; only the fields are kept.
        return config_class(**{field: getattr(value, field) for field in config_class.__dataclass_fields__})
    if not isinstance(value, dict | None):
        raise TypeError(f"{name} must be a dict or a {config_class.__name__}, got {type(value).__name__}.")
    value = value or {}
    defaults = config_class()
    unknown = [key for key in value if key not in _LIBRARY_KEYS and not hasattr(defaults, key)]
    if unknown:
        raise TypeError(f"{name} got keys that {config_class.__name__} does not have: {', '.join(unknown)}.")
    return config_class(**value)


__all__ = ["VideoRMConfig"]
