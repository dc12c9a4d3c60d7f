"""What the command line works on: a saved tiny pipeline, and a LoRA for it that visibly changes videos."""

from pathlib import Path

import torch

from draftv_trainer.lora import add_lora, save_lora
from tests.draftv.factories import TINY_SIZE, tiny_wan

PROMPTS = ["a red dog runs", "a blue cat", "the green bird falls"]
# The tiny pipeline's sizes, as options.
SIZES = ["--height", "16", "--width", "16", "--num_frames", "5", "--num_inference_steps", "2"]
SIZES += ["--pipeline_kwargs", '{"max_sequence_length": 8}', "--device", "cpu"]


def save_wan(folder: Path) -> Path:
    tiny_wan().save_pretrained(folder)
    return folder


def save_random_lora(folder: Path, seed: int = 0) -> Path:
    """A LoRA with random weights on the tiny Wan, strong enough to move every frame."""
    pipe = tiny_wan()
    denoiser = add_lora(pipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for parameter in denoiser.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.5)
    save_lora(pipe, folder)
    return folder


def tiny_call() -> dict[str, object]:
    return {**TINY_SIZE, "num_inference_steps": 2}
