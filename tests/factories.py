"""Real classes at tiny sizes: what the tests build instead of downloading."""

import functools
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPTokenizer

from videorm_hf import VideoRMConfig, VideoRMModel, VideoRMProcessor, VideoRMVideoProcessor
from videorm_hf.models.open_clip_layout import clip_tokenizer


@functools.cache
def shared_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer, whose 49,408 tokens take their time: built once for all that only read it."""
    return clip_tokenizer()


def tiny_videorm_config(**overrides: Any) -> VideoRMConfig:
    """A VIDEORM of two-layer towers, 224 x 224 pixels and CLIP's true vocabulary."""
    tower: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    tower["initializer_range"] = 0.2  # lively enough that a tiny tower tells images apart
    fields: dict[str, Any] = {
        "text_config": tower,
        "vision_config": {**tower, "image_size": 224, "patch_size": 32},
        "projection_dim": 64,
        "temporal_num_layers": 2,
    }
    return VideoRMConfig(**{**fields, **overrides})


def tiny_videorm(seed: int = 0, open_gate: bool = False, **overrides: Any) -> VideoRMModel:
    """A tiny VIDEORM with seeded random weights; `open_gate` lets the temporal head act, as after training."""
    torch.manual_seed(seed)
    model = VideoRMModel(tiny_videorm_config(**overrides)).eval()
    if open_gate:
        torch.nn.init.normal_(model.temporal_head.gate, std=0.5)
    return model


def tiny_processor() -> VideoRMProcessor:
    return VideoRMProcessor(VideoRMVideoProcessor(), shared_tokenizer())


def tiny_videorm_folder(path: str | Path, **overrides: Any) -> Path:
    """Save a tiny VIDEORM with its processor, as `from_pretrained` expects it."""
    tiny_videorm(**overrides).save_pretrained(path)
    tiny_processor().save_pretrained(path)
    return Path(path)
