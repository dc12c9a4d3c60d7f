"""Tiny reward models, data sets and settings for the trainer's tests."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.factories import shared_tokenizer, tiny_videorm
from videorm_hf import VideoRMModel, VideoRMProcessor, VideoRMVideoProcessor
from videorm_hf.trainer import VideoRewardConfig, VideoRewardTrainer

SIZE = 32
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "grey": (120, 120, 120)}


def small_model(seed: int = 0, open_gate: bool = True, **overrides: Any) -> VideoRMModel:
    """A VIDEORM of two-layer towers that sees 32 x 32 pixels and 4 frames."""
    tower = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "initializer_range": 0.2,
    }
    fields = {
        "vision_config": {**tower, "image_size": SIZE, "patch_size": 16},
        "projection_dim": 32,
        "temporal_num_layers": 1,
        "num_frames": 4,
        "max_frames": 8,
    }
    return tiny_videorm(seed=seed, open_gate=open_gate, **{**fields, **overrides})


def small_processor(num_frames: int = 4) -> VideoRMProcessor:
    side = {"height": SIZE, "width": SIZE}
    videos = VideoRMVideoProcessor(num_frames=num_frames, size={"longest_edge": SIZE}, pad_size=side)
    return VideoRMProcessor(videos, shared_tokenizer())


def small_folder(path: str | Path, **overrides: Any) -> str:
    small_model(**overrides).save_pretrained(path)
    small_processor().save_pretrained(path)
    return str(path)


def coloured_clip(colour: str, seed: int, num_frames: int = 6) -> np.ndarray:
    """A clip `(T, H, W, 3)` of one colour with noise that moves."""
    noise = np.random.default_rng(seed).integers(-25, 25, (num_frames, 24, 24, 3))
    return np.clip(np.array(COLOURS[colour]) + noise, 0, 255).astype(np.uint8)


def preference_rows(num_rows: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    """Pairs in which the clip of the prompt's colour is the better one."""
    names = list(COLOURS)
    return [
        {
            "prompt": f"a {names[i % 3]} square",
            "chosen": coloured_clip(names[i % 3], seed + 2 * i),
            "rejected": coloured_clip(names[(i + 1) % 3], seed + 2 * i + 1),
            "margin": 1.0 + i % 3,
            "dimension": "mean",
            "item_id": f"item-{seed}-{i}",
            "chosen_id": "a",
            "rejected_id": "b",
        }
        for i in range(num_rows)
    ]


def rated_items(num_items: int = 3, seed: int = 0, num_candidates: int = 4) -> list[dict[str, Any]]:
    """Rows of the ratings view; no two means of an item are equal, so four candidates give six pairs."""
    names = list(COLOURS)
    return [
        {
            "item_id": f"item-{seed}-{i}",
            "prompt": f"a {names[i % 4]} square",
            "prompt_source": "test",
            "candidates": [
                {
                    "candidate_id": f"c{j}",
                    "video": coloured_clip(names[(i + j) % 4], seed + 10 * i + j),
                    "ratings": {"prompt_following": 5.0 - j, "video_quality": 4.0 - j / 2},
                }
                for j in range(num_candidates)
            ],
        }
        for i in range(num_items)
    ]


def small_args(folder: str | Path, **overrides: Any) -> VideoRewardConfig:
    fields = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "max_steps": 3,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "seed": 7,
    }
    return VideoRewardConfig(**{**fields, **overrides})


def small_trainer(
    folder: str | Path, train_dataset: Any = None, model: Any = None, **settings: Any
) -> VideoRewardTrainer:
    names = ("eval_dataset", "peft_config", "callbacks", "processing_class")
    arguments = {name: settings.pop(name) for name in names if name in settings}
    arguments.setdefault("processing_class", small_processor())
    return VideoRewardTrainer(
        small_model() if model is None else model,
        small_args(folder, **settings),
        train_dataset=preference_rows() if train_dataset is None else train_dataset,
        **arguments,
    )


def weights(trainer: VideoRewardTrainer) -> dict[str, torch.Tensor]:
    """A copy of all of the reward model's weights."""
    return {name: value.detach().clone() for name, value in trainer.reward_model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """The names of weights that are not the same to the bit."""
    return {name for name in before if not torch.equal(before[name], after[name])}
