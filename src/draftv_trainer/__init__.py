"""DRaFT-V: tune a diffusers text-to-video pipeline by backpropagating a video reward (Wu et al. 2024, Sec. 3.3)."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from draftv_trainer.draftv_config import DRaFTVConfig
    from draftv_trainer.draftv_trainer import DRaFTVTrainer
    from draftv_trainer.graph_steps import GraphSteps
    from draftv_trainer.instructvideo import InstructVideoConfig, InstructVideoTrainer
    from draftv_trainer.lora import default_lora_config, load_lora, set_lora_scale
    from draftv_trainer.sampling import sample, sample_renoised, sample_with_grad

# Imported on first use: diffusers, peft and transformers' trainer take seconds that `draftv --help` need not wait for.
_MODULES = {
    "DRaFTVConfig": "draftv_config",
    "DRaFTVTrainer": "draftv_trainer",
    "GraphSteps": "graph_steps",
    "InstructVideoConfig": "instructvideo",
    "InstructVideoTrainer": "instructvideo",
    "default_lora_config": "lora",
    "load_lora": "lora",
    "sample": "sampling",
    "sample_renoised": "sampling",
    "sample_with_grad": "sampling",
    "set_lora_scale": "lora",
}

__all__ = [
    "DRaFTVConfig",
    "DRaFTVTrainer",
    "GraphSteps",
    "InstructVideoConfig",
    "InstructVideoTrainer",
    "default_lora_config",
    "load_lora",
    "sample",
    "sample_renoised",
    "sample_with_grad",
    "set_lora_scale",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
