"""Read a CLIP checkpoint wherever it lies: a file, a folder, open_clip's registry, the hub.

Every reader ends in a [`ClipCheckpoint`]: weights, configuration, tokenizer and colours in transformers' terms,
complete, or in a refusal.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
from huggingface_hub import ModelCard
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer, PreTrainedConfig
from transformers.utils import logging as transformers_logging

from videorm_hf.models.open_clip_layout import (
    CLIP_VOCAB_SIZE,
    ConversionError,
    check_keys,
    clip_configs,
    clip_tokenizer,
    drop_non_weights,
    expected_open_clip_weights,
    infer_architecture,
    raise_for_keys,
    to_transformers,
)
from videorm_hf.models.sources import find_source

logger = logging.getLogger(__name__)

SourceKind = Literal["hps_v2", "open_clip", "transformers"]
_SCHEMES = ("hf-hub:", "local-dir:")
_HPS_ARCHITECTURE = "ViT-H-14"
# What the unpickler raises for a file of text, by the letter that it begins with.
_NO_PICKLE = (LookupError, AttributeError, TypeError, ValueError)
_HPS_NOTE = (
    "Scores of HPS v2.0 and v2.1 are on different scales: compare videos under one of them, never a score of one "
    "with a score of the other."
)
_CROP_NOTE = (
    "The source was trained on images resized by their shortest side and cropped at the centre. VIDEORM resizes by "
    "the longest side and pads, as HPS v2 does, so that the score sees the whole frame; on frames that are not square "
    "the numbers therefore differ from the source's own preprocessing."
)
_ACTIVATION_NOTE = (
    "The weights were trained with QuickGELU and are converted so; open_clip's {architecture} on its own would run "
    "them with GELU, and score differently."
)
_TOKENIZER_NOTE = "The source carries no tokenizer; CLIP's own was written, whose vocabulary has the same size."


@dataclass(frozen=True)
class ClipCheckpoint:
    """An image-text model in transformers' terms, wherever it came from.

    Args:
        kind (`"hps_v2"`, `"open_clip"` or `"transformers"`):
            What the source was taken for.
        architecture (`str`):
            open_clip's name of the architecture, or `"CLIPModel"`.
        state_dict (`dict[str, torch.Tensor]`):
            Weights under the names of `transformers.CLIPModel`.
        num_source_tensors (`int`):
            Tensors in the source; all of them are in `state_dict`.
        text_config (`dict`):
            Values of [`~transformers.CLIPTextConfig`].
        vision_config (`dict`):
            Values of [`~transformers.CLIPVisionConfig`].
        projection_dim (`int`):
            Width of the joint space.
        tokenizer ([`~transformers.CLIPTokenizer`]):
            The text tower's tokenizer.
        image_mean (`tuple[float, ...]`):
            Mean colour that the image tower was trained with.
        image_std (`tuple[float, ...]`):
            Standard deviation of colours that the image tower was trained with.
        license (`str`, *optional*):
            The source's licence, where it says one.
        notes (`tuple[str, ...]`):
            What a user should know.
    """

    kind: SourceKind
    architecture: str
    state_dict: dict[str, torch.Tensor]
    num_source_tensors: int
    text_config: dict[str, Any]
    vision_config: dict[str, Any]
    projection_dim: int
    tokenizer: CLIPTokenizer
    image_mean: tuple[float, ...] = open_clip.OPENAI_DATASET_MEAN
    image_std: tuple[float, ...] = open_clip.OPENAI_DATASET_STD
    license: str | None = None
    notes: tuple[str, ...] = ()


def read_clip_checkpoint(source: str, architecture: str | None = None, revision: str | None = None) -> ClipCheckpoint:
    """Tell what `source` is and read it.

    Args:
        source (`str`):
            A checkpoint file, an open_clip name with its pretrained weights, or a transformers CLIPModel.
        architecture (`str`, *optional*):
            open_clip's name for the architecture of a checkpoint file.
        revision (`str`, *optional*):
            Branch, tag or commit of a transformers hub id.

    Returns:
        [`ClipCheckpoint`]: complete, every tensor at its place.

    Raises:
        ConversionError: If the source cannot be read, or its keys do not fit the architecture.
    """
    path = Path(source)
    if revision is not None and (path.exists() or source.startswith(_SCHEMES)):
        raise ConversionError(f"revision={revision!r} needs a transformers hub id as the source, got {source!r}.")
    if path.is_file():
        return _read_file(path, architecture)
    if architecture is not None:
        raise ConversionError(
            f"architecture={architecture!r} describes a checkpoint file, and {source!r} is not a file. For an "
            "open_clip model write `ARCHITECTURE:TAG`; a transformers folder knows its architecture."
        )
    if path.is_dir() and not (path / "config.json").is_file() and (path / "open_clip_config.json").is_file():
        return _read_open_clip_folder(f"local-dir:{source}")
    if source.startswith(_SCHEMES):
        return _read_open_clip_folder(source)
    name, _, tag = source.partition(":")
    if not path.is_dir() and name in open_clip.list_models():
        return _read_open_clip_tag(name, tag)
    return _read_transformers(source, revision)


def _read_file(path: Path, architecture: str | None) -> ClipCheckpoint:
    """Read an open_clip or HPS v2 checkpoint file."""
    state_dict = drop_non_weights(load_weights(path))
    is_hps = path.name.startswith("HPS_v2")
    if architecture is None:
        architecture = _HPS_ARCHITECTURE if is_hps else infer_architecture(state_dict)
    return _from_open_clip(
        state_dict,
        _open_clip_config(architecture),
        architecture,
        str(path),
        kind="hps_v2" if is_hps else "open_clip",
        license="apache-2.0" if is_hps else None,
        notes=(_HPS_NOTE,) if is_hps else (_CROP_NOTE,),
    )


def load_weights(path: Path) -> dict[str, Any]:
    """Read a file's tensors, without running any code a pickle may carry.

    Args:
        path (`Path`):
            safetensors, or a pickle of tensors and plain values.

    Returns:
        `dict[str, Any]`: the tensors by name, those under `state_dict` where there is one.

    Raises:
        ConversionError: If the file is neither, or holds no weights.
    """
    try:
        loaded = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, *_NO_PICKLE) as error:
        raise ConversionError(
            f"{path} could not be read: {error}. Expected safetensors, or a pickle of tensors and plain values. A "
            "pickle that holds other classes is refused, because loading it would run its code: save its state dict "
            "alone."
        ) from error
    weights = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(weights, dict) or not any(isinstance(value, torch.Tensor) for value in weights.values()):
        held = ", ".join(map(str, list(loaded)[:10])) if isinstance(loaded, dict) else f"a {type(loaded).__name__}"
        raise ConversionError(f"{path} holds no weights: expected tensors by name, or under `state_dict`, got {held}.")
    return weights


def _open_clip_config(architecture: str) -> dict[str, Any]:
    """Look up an open_clip architecture, or read it from a folder's or hub repository's `open_clip_config.json`."""
    try:
        model_cfg = open_clip.get_model_config(architecture)
    except (OSError, ValueError) as error:
        raise ConversionError(f"The open_clip configuration of {architecture!r} could not be read: {error}") from error
    if model_cfg is None:
        names = ", ".join(open_clip.list_models())
        raise ConversionError(f"open_clip has no architecture {architecture!r}. It has: {names}.")
    return model_cfg


def _from_open_clip(
    state_dict: dict[str, torch.Tensor], model_cfg: dict[str, Any], architecture: str, source: str, **facts: Any
) -> ClipCheckpoint:
    """Check open_clip weights against their architecture and translate both."""
    text_config, vision_config = clip_configs(model_cfg, architecture)
    check_keys(state_dict, expected_open_clip_weights(model_cfg), f"{source} read as open_clip {architecture}")
    return ClipCheckpoint(
        architecture=architecture,
        state_dict=to_transformers(state_dict),
        num_source_tensors=len(state_dict),
        text_config=text_config,
        vision_config=vision_config,
        projection_dim=model_cfg["embed_dim"],
        tokenizer=clip_tokenizer(),
        **facts,
    )


def _read_open_clip_folder(source: str) -> ClipCheckpoint:
    """Read `local-dir:FOLDER` or `hf-hub:ORG/NAME`: weights beside an `open_clip_config.json`."""
    model_cfg = _open_clip_config(source)
    clip_configs(model_cfg, source)  # refuse what cannot be converted before a download
    model = _load_open_clip(source, None)
    return _from_open_clip(
        drop_non_weights(model.state_dict()),
        model_cfg,
        source,
        source,
        kind="open_clip",
        license=_license_of(source.partition(":")[2]),
        notes=(_CROP_NOTE,),
        **_colours_of_open_clip(model),
    )


def _read_open_clip_tag(name: str, tag: str) -> ClipCheckpoint:
    """Read `ARCHITECTURE:TAG` through open_clip's registry and cache."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag.lower().replace("-", "_") not in {known.lower().replace("-", "_") for known in tags}:
        problem = f"has no pretrained weights {tag!r}" if tag else "names no weights; without them it scores at random"
        raise ConversionError(
            f"open_clip's {name} {problem}. Write {name}:TAG with one of: {', '.join(tags) or 'none are published'}; "
            "or convert a checkpoint file."
        )
    model_cfg = _open_clip_config(name)
    clip_configs(model_cfg, name)
    # The tag knows the activation its weights were trained with; open_clip itself only warns where the name differs.
    quick_gelu = open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False)
    differs = quick_gelu != model_cfg.get("quick_gelu", False)
    notes = (_CROP_NOTE, _ACTIVATION_NOTE.format(architecture=name)) if differs else (_CROP_NOTE,)
    model_cfg["quick_gelu"] = quick_gelu
    model = _load_open_clip(name, tag)
    state_dict = drop_non_weights(model.state_dict())
    colours = _colours_of_open_clip(model)
    return _from_open_clip(state_dict, model_cfg, name, f"{name}:{tag}", kind="open_clip", notes=notes, **colours)


def _load_open_clip(name: str, tag: str | None) -> torch.nn.Module:
    """Load pretrained weights through open_clip, or say why it could not."""
    try:
        return open_clip.create_model(name, pretrained=tag, require_pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConversionError(
            f"open_clip could not load {name if tag is None else f'{name}:{tag}'}: {error}. Without a network the "
            "weights must be in the cache already; a checkpoint file can be converted instead."
        ) from error


def _colours_of_open_clip(model: torch.nn.Module) -> dict[str, tuple[float, ...]]:
    """Return the colour normalisation open_clip attached to a loaded model."""
    preprocess = open_clip.get_model_preprocess_cfg(model)
    return {"image_mean": tuple(preprocess["mean"]), "image_std": tuple(preprocess["std"])}


def _read_transformers(source: str, revision: str | None) -> ClipCheckpoint:
    """Read a transformers CLIPModel: a folder, or a hub id from the cache or the network."""
    try:
        source = find_source(source, "A transformers model")
        config = AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise ConversionError(
            f"{source!r} is neither a file, nor an open_clip name, nor a transformers model that can be read: {error}"
        ) from error
    if config.model_type != "clip":
        raise ConversionError(f"{source!r} is a {config.model_type!r} model; expected a transformers CLIPModel.")
    if not isinstance(config.vision_config.image_size, int):
        raise ConversionError(f"{source!r} takes images of {config.vision_config.image_size}; expected a square.")
    state_dict = _load_transformers(source, revision)
    vocab_size = config.text_config.vocab_size
    tokenizer = CLIPTokenizer.from_pretrained(source, revision=revision)
    has_tokenizer = len(tokenizer) == vocab_size  # where its files are absent, transformers gives an empty one
    if not has_tokenizer and vocab_size != CLIP_VOCAB_SIZE:
        raise ConversionError(
            f"{source!r} has {vocab_size} tokens and a tokenizer of {len(tokenizer)}; expected them to be equal. Put "
            "the tokenizer the model was trained with into its folder."
        )
    return ClipCheckpoint(
        kind="transformers",
        architecture="CLIPModel",
        state_dict=state_dict,
        num_source_tensors=len(state_dict),
        text_config=_fields(config.text_config),
        vision_config=_fields(config.vision_config),
        projection_dim=config.projection_dim,
        tokenizer=tokenizer if has_tokenizer else clip_tokenizer(),
        license=_license_of(source),
        notes=(_CROP_NOTE,) if has_tokenizer else (_CROP_NOTE, _TOKENIZER_NOTE),
        **_colours_of_transformers(source, revision),
    )


def _fields(config: PreTrainedConfig) -> dict[str, Any]:
    """Return a tower's settings without the keys of older libraries, which published configurations carry."""
    return {name: getattr(config, name) for name in type(config).__dataclass_fields__}


def _load_transformers(source: str, revision: str | None) -> dict[str, torch.Tensor]:
    """Load a CLIPModel's weights, all of them and no others."""
    try:
        with without_load_report():
            model, info = CLIPModel.from_pretrained(
                source,
                revision=revision,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # reported below, with all other keys that do not fit
                output_loading_info=True,
            )
    except (OSError, SafetensorError) as error:
        raise ConversionError(f"The weights of {source!r} could not be read: {error}") from error
    mismatched = [f"{name}: got {tuple(got)}, expected {tuple(want)}" for name, got, want in info["mismatched_keys"]]
    # Older versions saved the token positions 0, 1, 2, ... beside the weights.
    unexpected = [name for name in info["unexpected_keys"] if not name.endswith(".position_ids")]
    missing = sorted(info["missing_keys"])
    raise_for_keys(missing, sorted(unexpected), sorted(mismatched), f"{source} read as a CLIPModel")
    return dict(model.state_dict())


def _colours_of_transformers(source: str, revision: str | None) -> dict[str, tuple[float, ...]]:
    """Return the colour normalisation of a model's image processor; CLIP's own where it carries none."""
    try:
        processor = CLIPImageProcessor.from_pretrained(source, revision=revision)
    except (OSError, ValueError):
        logger.info("%s carries no image processor: CLIP's mean and deviation are used.", source)
        return {}
    return {"image_mean": tuple(processor.image_mean), "image_std": tuple(processor.image_std)}


def _license_of(source: str) -> str | None:
    """Read the licence from a model's own card, if it has one within reach."""
    card = Path(source) / "README.md"
    try:
        return ModelCard.load(card if Path(source).is_dir() else source).data.license
    except (OSError, ValueError):
        logger.info("%s carries no readable model card: its licence is unknown.", source)
        return None


@contextmanager
def without_load_report() -> Iterator[None]:
    """Silence transformers' table of new weights while loading: the conversion reports them itself."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
