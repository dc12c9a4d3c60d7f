"""How the shipped miniature is sampled and tuned: by the demo, the Space and the studies alike.

Its learning rate, and the gradient through all sampling steps, were chosen on prompts of the validation split:
`benchmarks/studies/tuning_choice.py`.
"""

from typing import Any

from peft import LoraConfig

from draftv_trainer.lora import default_lora_config
from videorm_hf.miniature.clips import NUM_FRAMES, SIDE

NUM_INFERENCE_STEPS = 10
GUIDANCE_SCALE = 3.0
# What else the pipeline is called with.
SIZE: dict[str, Any] = {"height": SIDE, "width": SIDE}
PIPELINE_KWARGS: dict[str, Any] = {"video_length": NUM_FRAMES, "clean_caption": False}
PIXEL_SCALE = 4  # H.264 halves the resolution of colour: tiny clips are written enlarged
# Ratings closer than this are a tie: half of one claim of a prompt with five.
TIE_MARGIN = 0.1
LEARNING_RATE = 7e-4
UPDATES = 40  # of the demo and the Space: a few minutes
LORA_RANK = 8
AUGMENTATION = "shift,noise,color"


def tuning_arguments(updates: int) -> dict[str, Any]:
    """Return what every way to tune the miniature has in common.

    Args:
        updates (`int`): Updates of the LoRA.

    Returns:
        `dict[str, Any]`: arguments of [`DRaFTVConfig`], all of which [`InstructVideoConfig`] takes too.
    """
    return {
        "max_steps": updates,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": max(1, updates // 10),
        "num_inference_steps": NUM_INFERENCE_STEPS,
        "backprop": "all",
        "guidance_scale": GUIDANCE_SCALE,
        **SIZE,
        "reward_augmentation": AUGMENTATION,
        "checkpointing": "step",
        "report_to": "none",
        "use_cpu": True,
    }


def lora_config(rank: int = LORA_RANK) -> LoraConfig:
    """Return the LoRA: on the query, key, value and output projections of all attention.

    Args:
        rank (`int`): Its rank, and its scale.

    Returns:
        `LoraConfig`
    """
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=default_lora_config().target_modules)
