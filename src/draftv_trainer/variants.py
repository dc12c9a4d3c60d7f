"""Videos of several variants of a pipeline for the same prompts and the same noise: the base model, LoRAs, scales.

Layout: frames_TCHW has axes time, channel, height, width; frames_BTCHW has the batch before them.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from tqdm import tqdm

from draftv_trainer.lora import LORA_WEIGHTS_NAME, load_lora, set_lora_scale
from draftv_trainer.pipelines import check_sizes, find_spec
from draftv_trainer.rollout import noise_seed
from draftv_trainer.sample_videos import SampleVideo
from draftv_trainer.sampling import check_prompts, sample
from videorm_hf.models.sources import find_source, loading
from videorm_hf.videoprefer.video_io import to_bytes, write_video

METADATA_NAME = "metadata.jsonl"
BASE = "base"
_GAP = 4


@dataclass(frozen=True)
class Variant:
    """A pipeline, with a LoRA or without.

    Args:
        name (`str`):
            What it is called in tables, and the name of its folder of videos.
        pipeline (`str`):
            Folder or Hub id.
        lora (`Path`, *optional*):
            Folder of a LoRA; None for the pipeline as it is.
        lora_scale (`float`, defaults to `1.0`):
            Strength of the LoRA, in `[0, 1]`.
    """

    name: str
    pipeline: str
    lora: Path | None = None
    lora_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.lora_scale <= 1.0:
            raise ValueError(
                f"lora_scale must be between 0 (the base model) and 1 (the LoRA as trained): got {self.lora_scale}."
            )

    def renamed(self, name: str) -> "Variant":
        """Return the same variant under another name."""
        return dataclasses.replace(self, name=name)

    def facts(self) -> dict[str, Any]:
        """Return what a table of videos says of the variant."""
        lora = {} if self.lora is None else {"lora": str(self.lora), "lora_scale": self.lora_scale}
        return {"variant": self.name, "pipeline": self.pipeline, **lora}


@dataclass(frozen=True)
class VideoSettings:
    """How the videos of all variants are sampled.

    Args:
        call (`dict[str, Any]`):
            Arguments of the pipeline's call.
        seed (`int`, defaults to `42`):
            From which each prompt's noise seed is derived, as in the trainer's evaluation.
        batch_size (`int`, defaults to `1`):
            Videos sampled at once.
        dtype (`torch.dtype`, defaults to `torch.float32`):
            What pipelines are loaded in.
        device (`torch.device`):
            Where they run.
        fps (`int`, defaults to `8`):
            Frames per second of the files.
    """

    call: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 42
    batch_size: int = 1
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")
    fps: int = 8


@dataclass(frozen=True)
class VideoBatch:
    """Videos of one variant.

    Args:
        variant (`Variant`):
            Which.
        videos (`list[SampleVideo]`):
            The clips with their places and prompts, as bytes on the CPU.
        seeds (`list[int]`):
            Noise seed of each.
        frames_BTCHW (`torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`):
            The same clips as they were sampled, in `[0, 1]`, on the pipeline's device.
    """

    variant: Variant
    videos: list[SampleVideo]
    seeds: list[int]
    frames_BTCHW: torch.Tensor


def find_variant(word: str, pipeline: str | None, lora_scale: float = 1.0) -> Variant:
    """Tell what a word means: the base model, a LoRA's folder, or another pipeline.

    Args:
        word (`str`):
            `"base"`, a folder with a LoRA, or a pipeline's folder or Hub id.
        pipeline (`str`, *optional*):
            What `"base"` and LoRAs belong to.
        lora_scale (`float`, defaults to `1.0`):
            Strength of a LoRA.

    Returns:
        `Variant`: named after the word.

    Raises:
        ValueError: If a pipeline is needed and not given, or a folder holds neither.
    """
    folder = Path(word)
    if word != BASE and not (folder / LORA_WEIGHTS_NAME).is_file():
        if folder.is_dir() and not (folder / DiffusionPipeline.config_name).is_file():
            raise ValueError(
                f"{word} must hold a LoRA ({LORA_WEIGHTS_NAME}) or a pipeline ({DiffusionPipeline.config_name}): got "
                f"a folder with neither."
            )
        return Variant(folder.resolve().name, find_source(word, "A pipeline"))
    if pipeline is None:
        raise ValueError(f"{word} needs a pipeline: give --pipeline, the folder or Hub id of its base model.")
    pipeline = find_source(pipeline, "The pipeline")
    if word == BASE:
        return Variant(BASE, pipeline)
    return Variant(folder.resolve().name, pipeline, folder, lora_scale)


def sample_variants(
    variants: Sequence[Variant], prompts: Sequence[str], settings: VideoSettings
) -> Iterator[VideoBatch]:
    """Sample every prompt from every variant, one variant after the other, each prompt from the same noise.

    A pipeline is loaded once for the variants that follow each other on it; only one is held at a time.

    Args:
        variants (`list[Variant]`):
            What to sample from.
        prompts (`list[str]`):
            Texts.
        settings (`VideoSettings`):
            How to sample.

    Yields:
        `VideoBatch`: up to `batch_size` videos. Sizes that a pipeline cannot make are a `ValueError`.
    """
    prompts = check_prompts(prompts)
    with tqdm(total=len(variants) * len(prompts), unit="video", desc="sampling") as progress:
        for variant, pipe in _prepare(variants, settings):
            for start in range(0, len(prompts), settings.batch_size):
                batch = _sample_batch(pipe, variant, prompts, start, settings)
                progress.update(len(batch.videos))
                yield batch
            del pipe  # so that it is gone before the next one is loaded


def _prepare(variants: Sequence[Variant], settings: VideoSettings) -> Iterator[tuple[Variant, DiffusionPipeline]]:
    """Yield each variant with its pipeline, loading anew only where a LoRA would have to be taken out again."""
    pipe: DiffusionPipeline | None = None
    held: str | None = None
    held_lora: Path | None = None
    for variant in variants:
        if pipe is None or held != variant.pipeline or held_lora not in (None, variant.lora):
            pipe = None
            pipe, held, held_lora = _load_pipeline(variant.pipeline, settings), variant.pipeline, None
        if variant.lora is not None and held_lora is None:
            load_lora(pipe, variant.lora, variant.lora_scale)
        elif variant.lora is not None:
            set_lora_scale(pipe, variant.lora_scale)
        held_lora = variant.lora
        yield variant, pipe


def _load_pipeline(name: str, settings: VideoSettings) -> DiffusionPipeline:
    """Load a pipeline and check that it can make the sizes asked for."""
    with loading(name):
        pipe = DiffusionPipeline.from_pretrained(name, dtype=settings.dtype)
    pipe.set_progress_bar_config(disable=True)
    check_sizes(find_spec(pipe), pipe, settings.call)
    return pipe.to(settings.device)


def _sample_batch(
    pipe: DiffusionPipeline, variant: Variant, prompts: list[str], start: int, settings: VideoSettings
) -> VideoBatch:
    """Sample the prompts from `start` on, as many as fit in a batch."""
    batch = prompts[start : start + settings.batch_size]
    positions = range(start, start + len(batch))
    seeds = [noise_seed(settings.seed, 0, position) for position in positions]
    # On the CPU, one per video: the noise is the same on every device and in every batch.
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    frames_BTCHW = sample(pipe, batch, generator=generators, **settings.call)
    clips = to_bytes(frames_BTCHW).cpu()
    videos = [SampleVideo(*row) for row in zip(positions, batch, clips, strict=True)]
    return VideoBatch(variant, videos, seeds, frames_BTCHW)


def write_batch(batch: VideoBatch, folder: Path, settings: VideoSettings) -> list[dict[str, Any]]:
    """Write a batch's videos to the folder of their variant.

    Args:
        batch (`VideoBatch`):
            The videos.
        folder (`Path`):
            Holds one folder per variant.
        settings (`VideoSettings`):
            How they were sampled.

    Returns:
        `list[dict[str, Any]]`: one row per video: `file_name` in `folder`, prompt, seed, variant and settings.
    """
    rows = []
    for video, seed in zip(batch.videos, batch.seeds, strict=True):
        name = f"{batch.variant.name}/{video.name}.mp4"
        write_video(video.frames_TCHW, folder / name, settings.fps)
        rows.append(
            {"file_name": name, "prompt": video.prompt, "seed": seed, **batch.variant.facts(), **settings.call}
        )
    return rows


def open_output(folder: str | os.PathLike[str], overwrite: bool) -> Path:
    """Make the folder of a command's results.

    Args:
        folder (`str` or `os.PathLike`):
            Where.
        overwrite (`bool`):
            Whether it may hold results, whose table is then begun anew.

    Returns:
        `Path`: the folder.

    Raises:
        FileExistsError: If it holds results and must not.
    """
    folder = Path(folder)
    metadata = folder / METADATA_NAME
    if metadata.exists() and not overwrite:
        raise FileExistsError(f"{folder} holds results already: give another --output, or --overwrite.")
    folder.mkdir(parents=True, exist_ok=True)
    metadata.write_text("", encoding="utf-8")
    return folder


def append_rows(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to the table of videos, so that it is true also when a run is interrupted.

    Args:
        folder (`Path`):
            What [`open_output`] returned.
        rows (`list[dict[str, Any]]`):
            Values that JSON can hold.
    """
    with open(folder / METADATA_NAME, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def tile(rows: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """Lay clips of one size out as a grid, a narrow white gap between them.

    Args:
        rows (`list[list[torch.Tensor]]`):
            Clips `(num_frames, 3, height, width)` as bytes, one list for each row, from left to right.

    Returns:
        `torch.Tensor` of shape `(num_frames, 3, grid height, grid width)`: bytes.

    Raises:
        ValueError: If the clips differ in size.
    """
    shapes = {tuple(clip.shape) for row in rows for clip in row}
    if len(shapes) != 1:
        raise ValueError(f"A grid needs clips of one size: got {sorted(shapes)}.")
    time, channels, height, width = shapes.pop()
    columns = len(rows[0])
    size = (len(rows) * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP)
    grid_TCHW = torch.full((time, channels, *size), 255, dtype=torch.uint8)
    for row, clips in enumerate(rows):
        for column, clip in enumerate(clips):
            top, left = row * (height + _GAP), column * (width + _GAP)
            grid_TCHW[:, :, top : top + height, left : left + width] = clip
    return grid_TCHW
