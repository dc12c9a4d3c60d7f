"""VIDEORM on ImageReward at a tiny size."""

from pathlib import Path
from typing import Any

import torch
from transformers import BertTokenizer

from videorm_hf import VideoRMBlipConfig, VideoRMBlipModel, VideoRMBlipProcessor, VideoRMBlipVideoProcessor

TOWER = {"intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.2}


def tiny_videorm_blip(vocab_size: int, seed: int = 0, open_gate: bool = False, **overrides: Any) -> VideoRMBlipModel:
    """A tiny model with seeded random weights; `open_gate` lets the temporal head act, as after training."""
    vision = {**TOWER, "hidden_size": 32, "image_size": 32, "patch_size": 8}
    special = {"bos_token_id": None, "sep_token_id": 3}
    text = {**TOWER, **special, "hidden_size": 64, "encoder_hidden_size": 32, "vocab_size": vocab_size}
    fields: dict[str, Any] = {"vision_config": vision, "text_config": text, "temporal_num_layers": 2}
    torch.manual_seed(seed)
    model = VideoRMBlipModel(VideoRMBlipConfig(**{**fields, **overrides})).eval()
    for layer in model.score_head.layers:
        torch.nn.init.normal_(layer.weight, std=1.5 / layer.in_features**0.5)
        torch.nn.init.normal_(layer.bias)
    if open_gate:
        torch.nn.init.normal_(model.temporal_head.gate, std=0.5)
    return model


def tiny_videorm_blip_processor(bert: Path) -> VideoRMBlipProcessor:
    """Its processor, with the vocabulary in the folder `bert`."""
    return VideoRMBlipProcessor(
        VideoRMBlipVideoProcessor(size={"shortest_edge": 32}), BertTokenizer.from_pretrained(bert)
    )


def tiny_videorm_blip_folder(path: Path, bert: Path, **overrides: Any) -> Path:
    """Save both, as `from_pretrained` expects them."""
    processor = tiny_videorm_blip_processor(bert)
    tiny_videorm_blip(len(processor.tokenizer) + 2, **overrides).save_pretrained(path)
    processor.save_pretrained(path)
    return path
