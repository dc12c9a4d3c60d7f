"""DRaFT-V: tune a diffusers text-to-video pipeline by backpropagating a video reward (Wu et al. 2024, Sec. 3.3)."""

from draftv_trainer.draftv_config import DRaFTVConfig
from draftv_trainer.draftv_trainer import DRaFTVTrainer
from draftv_trainer.lora import default_lora_config, load_lora, set_lora_scale
from draftv_trainer.sampling import sample, sample_with_grad

__all__ = [
    "DRaFTVConfig",
    "DRaFTVTrainer",
    "default_lora_config",
    "load_lora",
    "sample",
    "sample_with_grad",
    "set_lora_scale",
]
