"""ImageReward's published checkpoint to a VideoRMBlipModel: the same numbers under transformers' names.

The text encoder's names are BERT's in both; the image encoder's are timm's there. Source: the module definitions of
the `image-reward` package, version 1.5, and of `transformers.models.blip`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import BertTokenizer

from videorm_hf.models.videorm_blip.configuration_videorm_blip import (
    IMAGE_REWARD_TEXT,
    IMAGE_REWARD_VISION,
    VideoRMBlipConfig,
)
from videorm_hf.models.videorm_blip.modeling_videorm_blip import VideoRMBlipModel

# What the package's model holds and its score does not read: BLIP's contrastive projections, a row of numbers.
_NOT_READ = ("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.embeddings.position_ids")
# Parts of transformers' names, and what they are called in the checkpoint.
_VISION_NAMES = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding": "patch_embed.proj",
    "encoder.layers": "blocks",
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.qkv": "attn.qkv",
    "self_attn.projection": "attn.proj",
    "post_layernorm": "norm",
}
_HEAD_WIDTH = 64
# bert-base-uncased has 30522 tokens; BLIP added two, [DEC] and [ENC], which no prompt holds.
_ADDED_TOKENS = 2


def load_image_reward(
    path: str | os.PathLike[str],
    config: VideoRMBlipConfig | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    **temporal: Any,
) -> VideoRMBlipModel:
    """Read `ImageReward.pt` into a model with a new temporal head, which at first is the mean over frames.

    Missing, unexpected and misshapen weights are a `ConversionError` that names them; a pickle that holds anything but
    tensors is refused.

    Args:
        path (`str` or `os.PathLike`):
            The checkpoint file.
        config ([`VideoRMBlipConfig`], *optional*):
            The architecture. Defaults to what the weights' shapes say, with heads of 64 channels as ImageReward has.
        dtype (`torch.dtype`, defaults to `torch.float32`):
            Number type of the weights.
        seed (`int`, defaults to 0):
            Seed of the temporal head's initial weights.
        temporal (`Any`):
            Further fields of [`VideoRMBlipConfig`], where no `config` is given: `temporal_head="mean"` is ImageReward
            itself.

    Returns:
        [`VideoRMBlipModel`]: with the checkpoint's numbers in its towers and score head.

    Raises:
        ValueError: If both `config` and fields of it are given.
    """
    # Imported here, for they import open_clip, which takes seconds.
    from videorm_hf.models.clip_checkpoints import load_weights, without_load_report
    from videorm_hf.models.open_clip_layout import check_keys, raise_for_keys

    if config is not None and temporal:
        raise ValueError(f"Give a config or fields of one, not both: got {', '.join(temporal)} and a config.")
    weights = {key: value for key, value in load_weights(Path(path)).items() if not key.startswith(_NOT_READ)}
    config = config or VideoRMBlipConfig(**_infer_config(weights), **temporal)
    with torch.device("meta"):
        expected = VideoRMBlipModel(config).state_dict()
    to_ours = {_published_name(name): name for name in expected if not name.startswith(("temporal_head.", "logit_s"))}
    check_keys(weights, {key: expected[name] for key, name in to_ours.items()}, f"{path} read as an ImageReward")
    with torch.random.fork_rng(devices=[]), without_load_report():
        torch.manual_seed(seed)
        model, info = VideoRMBlipModel.from_pretrained(
            None,
            config=config,
            state_dict={to_ours[key]: weight for key, weight in weights.items()},
            dtype=dtype,
            output_loading_info=True,
        )
    unfilled = sorted(name for name in info["missing_keys"] if name in to_ours.values())
    raise_for_keys(unfilled, sorted(info["unexpected_keys"]), sorted(map(str, info["mismatched_keys"])), str(path))
    return model


def load_bert_tokenizer(source: str | os.PathLike[str], vocab_size: int, revision: str | None = None) -> BertTokenizer:
    """Load the tokenizer of the text encoder, which ImageReward's checkpoint does not hold.

    Args:
        source (`str` or `os.PathLike`):
            A folder or hub id with BERT's vocabulary: `bert-base-uncased`.
        vocab_size (`int`):
            Number of the text encoder's tokens.
        revision (`str`, *optional*):
            Branch, tag or commit of a hub id.

    Returns:
        `BertTokenizer`: of that many tokens, or two fewer.

    Raises:
        ValueError: If its tokens are not the text encoder's.
    """
    tokenizer = BertTokenizer.from_pretrained(source, revision=revision)
    if not vocab_size - _ADDED_TOKENS <= len(tokenizer) <= vocab_size:
        raise ValueError(
            f"{source} gives a tokenizer of {len(tokenizer)} tokens, and ImageReward's text encoder has {vocab_size} "
            f"({vocab_size - _ADDED_TOKENS} of BERT and two that BLIP added). Pass `tokenizer`, a folder or hub id "
            "with the vocabulary of bert-base-uncased."
        )
    return tokenizer


def _published_name(name: str) -> str:
    """Return the published name of one of our parameters."""
    part, _, rest = name.partition(".")
    if part == "score_head":
        return f"mlp.{rest}"
    if part == "text_model":
        return f"blip.text_encoder.{rest}"
    for ours, theirs in _VISION_NAMES.items():
        rest = rest.replace(ours, theirs)
    return f"blip.visual_encoder.{rest}"


def _infer_config(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Read the towers' sizes off the weights' shapes; what is not there is left at ImageReward's size."""

    def size(name: str, axis: int, default: int) -> int:
        return weights[name].shape[axis] if name in weights and weights[name].ndim > axis else default

    def depth(prefix: str, suffix: str, default: int) -> int:
        return sum(name.startswith(prefix) and name.endswith(suffix) for name in weights) or default

    vision, text = dict(IMAGE_REWARD_VISION), dict(IMAGE_REWARD_TEXT)
    width = size("blip.visual_encoder.cls_token", 2, 1024)
    patch = size("blip.visual_encoder.patch_embed.proj.weight", 2, 16)
    grid = round((size("blip.visual_encoder.pos_embed", 1, 197) - 1) ** 0.5)
    vision |= {
        "hidden_size": width,
        "intermediate_size": size("blip.visual_encoder.blocks.0.mlp.fc1.weight", 0, 4 * width),
        "num_hidden_layers": depth("blip.visual_encoder.blocks.", ".norm1.weight", 24),
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "patch_size": patch,
        "image_size": grid * patch,
    }
    hidden = size("blip.text_encoder.embeddings.word_embeddings.weight", 1, 768)
    text |= {
        "vocab_size": size("blip.text_encoder.embeddings.word_embeddings.weight", 0, 30524),
        "hidden_size": hidden,
        "encoder_hidden_size": width,
        "intermediate_size": size("blip.text_encoder.encoder.layer.0.intermediate.dense.weight", 0, 4 * hidden),
        "num_hidden_layers": depth("blip.text_encoder.encoder.layer.", ".intermediate.dense.weight", 12),
        "num_attention_heads": max(1, hidden // _HEAD_WIDTH),
        "max_position_embeddings": size("blip.text_encoder.embeddings.position_embeddings.weight", 0, 512),
    }
    return {"vision_config": vision, "text_config": text}
