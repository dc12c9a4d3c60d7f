"""What the Space shows when nothing else is given: made on the spot from the shipped miniature weights, once."""

import argparse
import hashlib
import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from options import Options

from draftv_trainer import DRaFTVConfig, DRaFTVTrainer
from draftv_trainer.cli.arguments import trained_settings
from draftv_trainer.demo.miniature import LORA_RANK, PIPELINE_KWARGS, UPDATES, lora_config, tuning_arguments
from draftv_trainer.model_card import FACTS_NAME
from draftv_trainer.variants import BASE, Variant, VideoSettings, sample_variants
from videorm_hf.miniature.clips import render
from videorm_hf.miniature.faults import render_with_fault
from videorm_hf.miniature.scenes import distinct_prompts, random_scene
from videorm_hf.miniature.shipped import T2V_MINI, VIDEORM_MINI
from videorm_hf.rewards import VideoRMReward
from videorm_hf.videoprefer.json_lines import write_lines
from videorm_hf.videoprefer.video_io import write_video
from videorm_hf.videoprefer.working_folder import ITEMS_FILE

logger = logging.getLogger(__name__)
NUM_PROMPTS = 12
FAULTS = ("wrong_direction", "wrong_color", "flicker")
_SHOWN_SIDE = 128  # tiny clips are enlarged to this, so that H.264 keeps their colours
NOTE = (
    "Miniature weights of a small synthetic world: they show how everything works, not how good the full model is, "
    "and know only words such as those of the example prompts."
)


def prepare(words: argparse.Namespace, data: Path) -> Options:
    """Complete what the command line gives by the miniature.

    Args:
        words (`argparse.Namespace`): From [`parse_words`].
        data (`Path`): The data folder.

    Returns:
        [`Options`]

    Raises:
        FileNotFoundError: If the miniature is needed and its weights are not installed.
    """
    if words.base is not None:  # then there are a LoRA and pairs for it too
        return Options(words.reward or str(VIDEORM_MINI), words.base, words.tuned, words.pairs, data, words.dtype)
    for folder in (VIDEORM_MINI, T2V_MINI):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder} is not there: install the package with its miniature weights, or give --reward, --base, "
                "--tuned and --pairs."
            )
    tuned = words.tuned or tune_lora(data / "tuned" / fingerprint(VIDEORM_MINI, T2V_MINI))
    prompts = miniature_prompts("test", NUM_PROMPTS)
    return Options(
        reward=words.reward or str(VIDEORM_MINI),
        base=str(T2V_MINI),
        tuned=tuned,
        pairs=words.pairs or sample_pairs(tuned, prompts, data / "pairs" / fingerprint(T2V_MINI, tuned)),
        data=data,
        dtype=words.dtype,
        prompts=tuple(prompts),
        example_clips=draw_examples(data / "examples"),
        note=NOTE,
    )


def fingerprint(*folders: Path) -> str:
    """Name what folders hold and what is done with it, so that what was made otherwise is not taken for it.

    Args:
        folders (`Path`): Folders of weights.

    Returns:
        `str`: the same for the same weights and recipe.
    """
    recipe = [tuning_arguments(UPDATES), PIPELINE_KWARGS, LORA_RANK, NUM_PROMPTS]
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode("utf-8"))
    for folder in folders:
        for path in sorted(folder.rglob("*.safetensors")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def miniature_prompts(split: str, number: int) -> list[str]:
    """Draw prompts of the small world, always the same.

    Args:
        split (`str`): Of the scenes.
        number (`int`): How many.

    Returns:
        `list[str]`: distinct prompts.
    """
    return distinct_prompts(number, np.random.default_rng(0), two_things=0.0, split=split)


def draw_examples(folder: Path) -> tuple[Path, ...]:
    """Draw clips for the first prompt of the tests: one as it should be, the others with a fault.

    Args:
        folder (`Path`): Where to write them.

    Returns:
        `tuple[Path, ...]`: the files, named after what is wrong with them.
    """
    rng = np.random.default_rng(0)
    scene = random_scene(rng, two_things=0.0, split="test")
    clips = {"as_told": render(scene, rng)}
    clips |= {fault: render_with_fault(scene, fault, 0.8, rng) for fault in FAULTS}
    frames = {name: torch.from_numpy(clip_THWC).permute(0, 3, 1, 2) for name, clip_THWC in clips.items()}
    return tuple(write_shown(frames_TCHW, folder / f"{name}.mp4") for name, frames_TCHW in frames.items())


def write_shown(frames_TCHW: torch.Tensor, path: Path) -> Path:
    """Write a clip, enlarged by a whole number where it is tiny.

    Args:
        frames_TCHW (`torch.Tensor` of shape `(num_frames, 3, height, width)`): Floats in [0, 1] or bytes.
        path (`Path`): The MP4 file.

    Returns:
        `Path`: the file.
    """
    return write_video(frames_TCHW, path, scale=math.ceil(_SHOWN_SIDE / min(frames_TCHW.shape[-2:])))


def tune_lora(folder: Path) -> Path:
    """Tune a LoRA for the miniature pipeline by the miniature reward, for a minute or two; a complete one is kept.

    Args:
        folder (`Path`): Where the LoRA is kept.

    Returns:
        `Path`: the folder.
    """
    if (folder / FACTS_NAME).is_file():  # what the trainer writes last
        return folder
    logger.info("First start: tuning a LoRA for %d steps.", UPDATES)
    config = DRaFTVConfig(
        **tuning_arguments(UPDATES),
        output_dir=str(folder),
        per_device_train_batch_size=2,
        pipeline_kwargs=PIPELINE_KWARGS,
        seed=0,
        save_strategy="no",
        monitor_motion=False,
    )
    trainer = DRaFTVTrainer(
        model=DiffusionPipeline.from_pretrained(T2V_MINI),
        reward_funcs=VideoRMReward.from_pretrained(VIDEORM_MINI),
        args=config,
        train_dataset=miniature_prompts("train", 2 * UPDATES),
        peft_config=lora_config(),
    )
    trainer.train()
    trainer.save_model()
    return folder


def sample_pairs(tuned: Path, prompts: Sequence[str], folder: Path) -> Path:
    """Sample every prompt from the miniature, base and tuned, from the same noise; a complete folder is kept.

    Args:
        tuned (`Path`): The LoRA.
        prompts (`Sequence[str]`): Texts.
        folder (`Path`): A working folder of VIDEOPREFER, written here.

    Returns:
        `Path`: the folder.
    """
    if (folder / ITEMS_FILE).is_file():  # what is written last
        return folder
    logger.info("Sampling %d pairs for the arena.", len(prompts))
    variants = [Variant(BASE, str(T2V_MINI)), Variant("tuned", str(T2V_MINI), tuned)]
    settings = VideoSettings(trained_settings(tuned), seed=0, batch_size=4)
    items: list[dict[str, Any]] = [
        {"item_id": f"{number:02d}", "prompt": prompt, "prompt_source": "miniature", "candidates": []}
        for number, prompt in enumerate(prompts)
    ]
    for batch in sample_variants(variants, prompts, settings):
        for video, seed in zip(batch.videos, batch.seeds, strict=True):
            name = f"videos/{video.position:02d}-{batch.variant.name}.mp4"
            write_shown(video.frames_TCHW, folder / name)
            row = {"candidate_id": batch.variant.name, "video": name, "model": batch.variant.name, "seed": seed}
            items[video.position]["candidates"].append(row)
    write_lines(iter(items), folder / ITEMS_FILE)
    return folder
