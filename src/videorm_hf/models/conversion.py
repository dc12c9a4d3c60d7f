"""From an image reward to a VIDEORM folder: HPS v2, any plain open_clip model, any transformers CLIP (PickScore).

The towers are taken over number by number; only the temporal head is new. What is published where: HPS v2 is an
open_clip ViT-H/14 in a pickle under `state_dict` (Wu et al. 2023), PickScore a transformers CLIPModel (Kirstain 2023).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from videorm_hf.models.clip_checkpoints import (
    ClipCheckpoint,
    SourceKind,
    read_clip_checkpoint,
    without_load_report,
)
from videorm_hf.models.dtypes import DTYPES
from videorm_hf.models.model_card import render_model_card
from videorm_hf.models.open_clip_layout import ConversionError, clip_tokenizer, raise_for_keys
from videorm_hf.models.videorm.configuration_videorm import VideoRMConfig
from videorm_hf.models.videorm.modeling_videorm import VideoRMModel
from videorm_hf.models.videorm.processing_videorm import PROMPT_LENGTH, VideoRMProcessor
from videorm_hf.models.videorm.video_processing_videorm import VideoRMVideoProcessor

__all__ = ["ConversionError", "ConversionReport", "clip_tokenizer", "convert_checkpoint"]


@dataclass(frozen=True)
class ConversionReport:
    """What [`convert_checkpoint`] read and wrote.

    Args:
        source (`str`):
            What was converted, as given.
        source_kind (`"hps_v2"`, `"open_clip"` or `"transformers"`):
            What the source was taken for.
        architecture (`str`):
            open_clip's name of the architecture, or `"CLIPModel"`.
        out (`Path`):
            The folder that was written.
        num_source_tensors (`int`):
            Tensors read; every one of them went into the model.
        num_converted_parameters (`int`):
            Numbers in the tensors that were taken over.
        fresh_parameters (`tuple[str, ...]`):
            Names of the parameters that are new: the temporal head's, and no others.
        num_fresh_parameters (`int`):
            Numbers in them.
        image_size (`int`):
            Side of the square frames the image tower takes, in pixels.
        config ([`VideoRMConfig`]):
            The model's configuration.
        dtype (`str`):
            What the folder's weights are stored in.
        license (`str`):
            The source's licence, or `"unknown"`.
        notes (`tuple[str, ...]`):
            What a user should know about this conversion; also in the model card.
    """

    source: str
    source_kind: SourceKind
    architecture: str
    out: Path
    num_source_tensors: int
    num_converted_parameters: int
    fresh_parameters: tuple[str, ...]
    num_fresh_parameters: int
    image_size: int
    config: VideoRMConfig
    dtype: str
    license: str
    notes: tuple[str, ...]


def convert_checkpoint(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    num_frames: int = 8,
    temporal_shift: Literal["residual", "block", "none"] = "residual",
    temporal_head: Literal["transformer", "conv1d", "lstm", "mean"] = "transformer",
    dtype: str = "float32",
    revision: str | None = None,
    license: str | None = None,
    overwrite: bool = False,
    seed: int = 0,
) -> ConversionReport:
    """Write a complete VIDEORM folder from an image-text checkpoint.

    Nothing stays random silently: every tensor of the source must find its place, and every parameter of the towers
    its tensor. The folder appears in one piece at the end, so an interrupted run leaves nothing half done.

    Args:
        source (`str` or `os.PathLike`):
            An HPS v2 or open_clip checkpoint file (`.pt`, `.bin`, `.safetensors`); an open_clip name with pretrained
            weights (`ViT-H-14:laion2b_s32b_b79k`, `hf-hub:org/name`, `local-dir:folder`); or a transformers CLIPModel
            (folder or hub id).
        out (`str` or `os.PathLike`):
            The folder to write. It must be empty or absent, unless `overwrite`.
        architecture (`str`, *optional*):
            open_clip's name for the architecture of a checkpoint file, where neither the file's name (`HPS_v2*`) nor
            its shapes tell; `local-dir:folder` reads it from the folder's `open_clip_config.json`.
        num_frames (`int`, defaults to 8):
            Frames the processor samples from each clip.
        temporal_shift (`"residual"`, `"block"` or `"none"`, defaults to `"residual"`):
            Where the image tower exchanges channels between frames.
        temporal_head (`"transformer"`, `"conv1d"`, `"lstm"` or `"mean"`, defaults to `"transformer"`):
            The module over frame features.
        dtype (`str`, defaults to `"float32"`):
            What to store weights in: `"float32"`, `"bfloat16"` or `"float16"`.
        revision (`str`, *optional*):
            Branch, tag or commit of a transformers hub id.
        license (`str`, *optional*):
            The source's licence for the model card, where the source's own card does not say.
        overwrite (`bool`, defaults to `False`):
            Replace `out` if it holds a VIDEORM.
        seed (`int`, defaults to 0):
            Seed of the temporal head's initial weights.

    Returns:
        [`ConversionReport`]: what was read, what is new, where it went.

    Raises:
        ConversionError: If the source cannot be read, its keys do not fit, or `out` is in the way.
    """
    source, out = os.fspath(source), Path(out)
    if dtype not in DTYPES:
        raise ConversionError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    _check_destination(out, overwrite)
    clip = read_clip_checkpoint(source, architecture, revision)
    if (length := clip.text_config["max_position_embeddings"]) != PROMPT_LENGTH:
        raise ConversionError(f"{source!r} takes prompts of {length} tokens; expected CLIP's {PROMPT_LENGTH}.")
    config = VideoRMConfig(
        text_config=clip.text_config,
        vision_config=clip.vision_config,
        projection_dim=clip.projection_dim,
        num_frames=num_frames,
        max_frames=max(VideoRMConfig.max_frames, num_frames),
        temporal_shift=temporal_shift,
        temporal_head=temporal_head,
    )
    model, fresh = _build_model(config, clip, DTYPES[dtype], seed)
    report = ConversionReport(
        source=source,
        source_kind=clip.kind,
        architecture=clip.architecture,
        out=out,
        num_source_tensors=clip.num_source_tensors,
        num_converted_parameters=sum(tensor.numel() for tensor in clip.state_dict.values()),
        fresh_parameters=fresh,
        num_fresh_parameters=sum(parameter.numel() for name, parameter in model.named_parameters() if name in fresh),
        image_size=clip.vision_config["image_size"],
        config=config,
        dtype=dtype,
        license=license or clip.license or "unknown",
        notes=clip.notes,
    )
    with _written_in_one_piece(out) as folder:
        model.save_pretrained(folder, max_shard_size="5GB")
        _build_processor(config, clip).save_pretrained(folder)
        (folder / "README.md").write_text(_model_card(report), encoding="utf-8")
    return report


def _build_model(
    config: VideoRMConfig, clip: ClipCheckpoint, dtype: torch.dtype, seed: int
) -> tuple[VideoRMModel, tuple[str, ...]]:
    """Put the towers' weights into a model; return it with the names of the parameters that are new."""
    with torch.random.fork_rng(devices=[]), without_load_report():
        torch.manual_seed(seed)
        loaded: Any = VideoRMModel.from_pretrained(
            None, config=config, state_dict=clip.state_dict, dtype=dtype, output_loading_info=True
        )
    model, info = loaded
    unfilled = sorted(name for name in info["missing_keys"] if not name.startswith("temporal_head."))
    mismatched = sorted(str(key) for key in info["mismatched_keys"])
    raise_for_keys(unfilled, sorted(info["unexpected_keys"]), mismatched, "VideoRMModel given the converted towers")
    return model, tuple(sorted(info["missing_keys"]))


def _build_processor(config: VideoRMConfig, clip: ClipCheckpoint) -> VideoRMProcessor:
    """Build the processor: HPS v2's preprocessing at the tower's size, the source's colours and tokenizer."""
    side = clip.vision_config["image_size"]
    settings: dict[str, Any] = {
        "num_frames": config.num_frames,
        "size": {"longest_edge": side},
        "pad_size": {"height": side, "width": side},
        "image_mean": list(clip.image_mean),
        "image_std": list(clip.image_std),
    }
    return VideoRMProcessor(VideoRMVideoProcessor(**settings), clip.tokenizer)


def _model_card(report: ConversionReport) -> str:
    """Put the report's facts into the card's template."""
    config = report.config
    source = _public_name(report.source)
    return render_model_card(
        source=source,
        source_kind=report.source_kind,
        architecture=_public_name(report.architecture),
        base_model=source if source == report.source and report.source_kind == "transformers" else None,
        license=report.license,
        num_converted_parameters=report.num_converted_parameters,
        num_fresh_parameters=report.num_fresh_parameters,
        image_size=report.image_size,
        num_frames=config.num_frames,
        temporal_shift=config.temporal_shift,
        temporal_head=config.temporal_head,
        dtype=report.dtype,
        notes=report.notes,
    )


def _public_name(name: str) -> str:
    """Shorten a local path to its last part: a card is published, and folders of this machine mean nothing there."""
    path = Path(name.removeprefix("local-dir:"))
    return path.resolve().name if path.exists() else name


def _check_destination(out: Path, overwrite: bool) -> None:
    """Raise if `out` holds something that must not be lost."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise ConversionError(
            f"{out} exists and is not empty. Choose another folder, or overwrite it (`--overwrite`)."
        )
    if not (out / "config.json").is_file() or '"videorm"' not in (out / "config.json").read_text(encoding="utf-8"):
        raise ConversionError(f"{out} does not hold a VIDEORM, so it is not overwritten. Choose another folder.")


@contextmanager
def _written_in_one_piece(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside `out` that takes `out`'s place at the end of the block, if the block succeeds."""
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        yield partial
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
