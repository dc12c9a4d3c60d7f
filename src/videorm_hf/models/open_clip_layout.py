"""An open_clip checkpoint in transformers' terms: its configuration, its tensors' names and shapes, its tokenizer.

open_clip keeps query, key and value in one matrix and multiplies projections from the right; transformers' CLIP splits
and transposes them. Source: the module definitions of `open_clip.model` and `transformers.models.clip`.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from transformers import CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig
from transformers.convert_slow_tokenizer import bytes_to_unicode

CLIP_VOCAB_SIZE = 49408
_LISTED_KEYS = 20
# Buffers and constants that some versions saved beside the weights.
_NOT_WEIGHTS = {"attn_mask", "input_resolution", "context_length", "vocab_size"}
_BLOCK_NAMES = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OTHER_NAMES = {
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")
# Settings that are carried over, or that matter only while pre-training (`patch_dropout`).
_VISION_KEYS = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio", "patch_dropout"}
_TEXT_KEYS = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_TOP_KEYS = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale"}


class ConversionError(ValueError):
    """A checkpoint that cannot be converted; the message says what was got, what was expected and what to do."""


def clip_tokenizer() -> CLIPTokenizer:
    """Build CLIP's tokenizer from the vocabulary that open_clip carries, without a network.

    The vocabulary is the 256 byte symbols, the same 256 as ends of words, one entry a merge, and the two special
    tokens. Ids equal those of open_clip's own tokenizer for ordinary text.

    Returns:
        [`~transformers.CLIPTokenizer`]: 49408 tokens, at most 77 a prompt.

    Reference:
        Radford et al. 2021 (CLIP), byte-pair encoding of 49,152 entries. Differs: open_clip first straightens curly
        quotes, splits ligatures, narrows full-width letters and repairs broken Unicode (ftfy) and resolves HTML
        entities (`&amp;`); transformers' tokenizer does not.
    """
    bpe_file = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    symbols = list(bytes_to_unicode().values())
    num_merges = CLIP_VOCAB_SIZE - 2 * len(symbols) - 2
    with gzip.open(bpe_file, "rt", encoding="utf-8") as lines:
        next(lines)  # a version line
        merges = [(left, right) for left, right in (next(lines).split() for _ in range(num_merges))]
    tokens = symbols + [symbol + "</w>" for symbol in symbols] + [left + right for left, right in merges]
    vocab = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def clip_configs(model_cfg: Mapping[str, Any], architecture: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Translate an open_clip model configuration to transformers' text and vision configurations.

    An architecture with parts that transformers' CLIP lacks (SigLIP, CoCa, ConvNeXt, ...) is refused.

    Args:
        model_cfg (`Mapping[str, Any]`):
            What `open_clip.get_model_config` returns.
        architecture (`str`):
            The configuration's name, for error messages.

    Returns:
        `tuple[dict, dict]`: values for [`~transformers.CLIPTextConfig`] and [`~transformers.CLIPVisionConfig`].
    """
    _check_plain_clip(model_cfg, architecture)
    text, vision = open_clip.CLIPTextCfg(**model_cfg["text_cfg"]), open_clip.CLIPVisionCfg(**model_cfg["vision_cfg"])
    hidden_act = "quick_gelu" if model_cfg.get("quick_gelu", False) else "gelu"
    text_config = {
        "vocab_size": text.vocab_size,
        "hidden_size": text.width,
        "intermediate_size": int(text.width * text.mlp_ratio),
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "max_position_embeddings": text.context_length,
        "projection_dim": model_cfg["embed_dim"],
        "hidden_act": hidden_act,
    }
    vision_config = {
        "hidden_size": vision.width,
        "intermediate_size": int(vision.width * vision.mlp_ratio),
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.width // vision.head_width,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "projection_dim": model_cfg["embed_dim"],
        "hidden_act": hidden_act,
    }
    return CLIPTextConfig(**text_config).to_dict(), CLIPVisionConfig(**vision_config).to_dict()


def _check_plain_clip(model_cfg: Mapping[str, Any], architecture: str) -> None:
    """Raise unless every setting of `model_cfg` has a counterpart in transformers' CLIP."""
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    odd = sorted(set(model_cfg) - _TOP_KEYS)
    odd += [f"vision_cfg.{key}" for key in sorted(set(vision) - _VISION_KEYS)]
    odd += [f"text_cfg.{key}" for key in sorted(set(text) - _TEXT_KEYS)]
    if isinstance(vision.get("layers"), list):
        odd.append("vision_cfg.layers (a ResNet)")
    if text.get("vocab_size", CLIP_VOCAB_SIZE) != CLIP_VOCAB_SIZE:
        odd.append(f"text_cfg.vocab_size={text['vocab_size']}")
    if odd:
        raise ConversionError(
            f"open_clip architecture {architecture!r} is not a plain CLIP vision transformer: {', '.join(odd)} has no "
            "counterpart in transformers' CLIP. Convert a ViT model such as ViT-B-32, ViT-L-14 or ViT-H-14."
        )


def infer_architecture(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Find the only open_clip architecture whose tensors have these names and shapes.

    Shapes tell neither the activation nor the number of heads, so most checkpoints fit more than one architecture.

    Args:
        state_dict (`Mapping[str, torch.Tensor]`):
            Weights under open_clip's names.

    Returns:
        `str`: an architecture's name.

    Raises:
        ConversionError: If none fits, or more than one; the message lists them.
    """
    fitting: dict[str, str] = {}
    for name in open_clip.list_models():
        model_cfg = open_clip.get_model_config(name)
        try:
            text, vision = clip_configs(model_cfg, name)
        except ConversionError:
            continue
        if _outline(model_cfg, text, vision) == _outline_of_weights(state_dict):
            heads = f"{vision['num_attention_heads']} + {text['num_attention_heads']} heads"
            fitting[name] = f"{name} ({text['hidden_act']}, {heads})"
    if len(fitting) == 1:
        return next(iter(fitting))
    fit = f"these fit its shapes: {', '.join(fitting.values())}" if fitting else "no architecture fits its shapes"
    raise ConversionError(
        f"Cannot tell the open_clip architecture of this checkpoint: {fit}. Name the one it was trained with, for "
        "example `--architecture ViT-B-32` (open_clip's list_models() has all names)."
    )


def _outline(model_cfg: Mapping[str, Any], text: dict[str, Any], vision: dict[str, Any]) -> tuple[object, ...]:
    """Return the sizes that tell architectures apart, from a configuration; see `_outline_of_weights`."""
    patch, width = vision["patch_size"], vision["hidden_size"]
    return (
        (width, 3, patch, patch),
        ((vision["image_size"] // patch) ** 2 + 1, width),
        (width, model_cfg["embed_dim"]),
        vision["num_hidden_layers"],
        (text["vocab_size"], text["hidden_size"]),
        (text["max_position_embeddings"], text["hidden_size"]),
        text["num_hidden_layers"],
    )


def _outline_of_weights(state_dict: Mapping[str, torch.Tensor]) -> tuple[object, ...]:
    """Return the same sizes as `_outline`, from weights; a name that is not there counts as an empty shape."""

    def shape(name: str) -> tuple[int, ...]:
        return tuple(state_dict[name].shape) if name in state_dict else ()

    vision_layers, text_layers = (
        sum(name.startswith(f"{tower}transformer.resblocks.") and name.endswith("ln_1.weight") for name in state_dict)
        for tower in ("visual.", "")
    )
    return (
        shape("visual.conv1.weight"),
        shape("visual.positional_embedding"),
        shape("visual.proj"),
        vision_layers,
        shape("token_embedding.weight"),
        shape("positional_embedding"),
        text_layers,
    )


def drop_non_weights(state_dict: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Strip the `module.` prefix of distributed training, and leave out masks and constants that are no weights.

    Args:
        state_dict (`Mapping[str, Any]`):
            As read from an open_clip checkpoint.

    Returns:
        `dict[str, torch.Tensor]`: the weights, `logit_scale` as a scalar.
    """
    weights = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    weights = {name: tensor for name, tensor in weights.items() if name not in _NOT_WEIGHTS}
    if "logit_scale" in weights and tuple(weights["logit_scale"].shape) == (1,):
        weights["logit_scale"] = weights["logit_scale"].reshape(())
    return weights


def check_keys(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], source: str) -> None:
    """Raise a [`ConversionError`] that lists the keys unless `found` has exactly the names and shapes of `expected`.

    Args:
        found (`Mapping[str, torch.Tensor]`):
            The checkpoint's tensors.
        expected (`Mapping[str, torch.Tensor]`):
            The architecture's tensors; they may lie on the meta device.
        source (`str`):
            What was read and as what, for the message.
    """
    missing = [f"{name} {tuple(expected[name].shape)}" for name in expected if name not in found]
    unexpected = [f"{name} {tuple(found[name].shape)}" for name in found if name not in expected]
    misshapen = [
        f"{name}: got {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    raise_for_keys(missing, unexpected, misshapen, source)


def raise_for_keys(missing: list[str], unexpected: list[str], misshapen: list[str], source: str) -> None:
    """Raise one error that lists all keys that do not fit, if there are any.

    Args:
        missing (`list[str]`):
            Keys the architecture needs and the checkpoint lacks.
        unexpected (`list[str]`):
            Keys the architecture has no place for.
        misshapen (`list[str]`):
            Keys of another shape, with what was got and what was expected.
        source (`str`):
            What was read and as what.

    Raises:
        ConversionError: If any of the three lists holds something.
    """
    lines = []
    for title, keys in (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshapen)):
        if keys:
            more = [f"... and {len(keys) - _LISTED_KEYS} more"] if len(keys) > _LISTED_KEYS else []
            lines += [f"  {title} ({len(keys)}):", *(f"    {key}" for key in [*keys[:_LISTED_KEYS], *more])]
    if lines:
        raise ConversionError(
            "\n".join([f"{source}: the keys do not fit.", *lines, "Is this the architecture it was trained with?"])
        )


def expected_open_clip_weights(model_cfg: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the names and shapes that open_clip gives an architecture, as tensors without memory.

    Args:
        model_cfg (`Mapping[str, Any]`):
            What `open_clip.get_model_config` returns, for a plain CLIP.

    Returns:
        `dict[str, torch.Tensor]`: a state dict on the meta device.
    """
    with torch.device("meta"):
        return open_clip.CLIP(**model_cfg).state_dict()


def to_transformers(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename open_clip's weights to transformers' CLIP, splitting fused attention and transposing projections.

    Args:
        state_dict (`Mapping[str, torch.Tensor]`):
            Weights under open_clip's names, already checked by [`check_keys`].

    Returns:
        `dict[str, torch.Tensor]`: the same numbers under the names of `transformers.CLIPModel`.
    """
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in state_dict.items():
        block = _BLOCK.fullmatch(name)
        if block is None:
            transposed = name in ("visual.proj", "text_projection")
            renamed[_OTHER_NAMES[name]] = tensor.T.contiguous() if transposed else tensor
            continue
        visual, index, part, kind = block.groups()
        layer = f"{'vision' if visual else 'text'}_model.encoder.layers.{index}"
        if part == "attn.in_proj":
            # Each third gets its own memory: safetensors refuses tensors that share it.
            for third, projection in zip(tensor.chunk(3), ("q_proj", "k_proj", "v_proj"), strict=True):
                renamed[f"{layer}.self_attn.{projection}.{kind}"] = third.clone()
        else:
            renamed[f"{layer}.{_BLOCK_NAMES[part]}.{kind}"] = tensor
    return renamed
