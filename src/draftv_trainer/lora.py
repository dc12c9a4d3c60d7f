"""The LoRA that DRaFT-V trains: adding it to a pipeline's denoiser, writing it and reading it back.

Files are in diffusers' format (`pytorch_lora_weights.safetensors`, adapter settings in the header), so that a
pipeline's own `load_lora_weights` reads them. Source: LoRA (Hu et al. 2021, arXiv 2106.09685); rank and targets of
InstructVideo (Yuan et al. 2023, arXiv 2312.12490).
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

LORA_WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
ADAPTER_NAME = "default"
# The key under which diffusers looks for the adapter's settings in the header of the file.
METADATA_KEY = "lora_adapter_metadata"
DENOISER_NAMES = ("transformer", "unet")


def default_lora_config() -> LoraConfig:
    """Return the LoRA that is trained when none is given: rank 4 on the attention's q, k, v and output projections.

    Returns:
        `peft.LoraConfig`: a fresh configuration.

    Reference:
        Yuan et al. 2023 (InstructVideo), which Wu et al. 2024 follow. Differs: none.
    """
    return LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"])


def find_denoiser(pipe: DiffusionPipeline) -> tuple[str, ModelMixin]:
    """Find the one network of the pipeline that denoises.

    Args:
        pipe (`DiffusionPipeline`):
            A pipeline with a component called `transformer` or `unet`.

    Returns:
        `tuple[str, ModelMixin]`: the component's name and the network.

    Raises:
        ValueError: If there is no such component, or the pipeline switches between two denoisers.
    """
    components = pipe.components
    if components.get("transformer_2") is not None:
        raise ValueError(
            f"{type(pipe).__name__} switches between two denoisers (transformer, transformer_2), which is not "
            "supported yet: got both, expected one."
        )
    names = [name for name in DENOISER_NAMES if components.get(name) is not None]
    if len(names) != 1:
        raise ValueError(
            f"Expected one of {list(DENOISER_NAMES)} among the components of {type(pipe).__name__}: got "
            f"{sorted(components)}."
        )
    return names[0], components[names[0]]


def freeze(pipe: DiffusionPipeline) -> None:
    """Take gradients off every weight of the pipeline and put every network in evaluation mode.

    Args:
        pipe (`DiffusionPipeline`):
            Changed in place.
    """
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False).eval()


def add_lora(pipe: DiffusionPipeline, peft_config: LoraConfig | None = None) -> ModelMixin:
    """Freeze the pipeline and add a trainable LoRA to its denoiser, in float32 whatever the denoiser's type.

    Args:
        pipe (`DiffusionPipeline`):
            Changed in place.
        peft_config (`peft.LoraConfig`, *optional*):
            By default [`default_lora_config`].

    Returns:
        `ModelMixin`: the denoiser; only its LoRA weights require gradients.

    Raises:
        ValueError: If the denoiser already carries adapters, the LoRA has dropout, or its targets match nothing.
    """
    config = peft_config if peft_config is not None else default_lora_config()
    if config.lora_dropout:
        raise ValueError(
            f"lora_dropout must be 0: got {config.lora_dropout}. Videos are sampled in evaluation mode, where dropout "
            "does nothing."
        )
    _, denoiser = find_denoiser(pipe)
    if any(".lora_A." in name for name, _ in denoiser.named_parameters()):
        raise ValueError(
            f"The denoiser of {type(pipe).__name__} already carries a LoRA: fuse it (pipe.fuse_lora(), then "
            "pipe.unload_lora_weights()) or load a fresh pipeline."
        )
    freeze(pipe)
    try:
        inject_adapter_in_model(config, denoiser, ADAPTER_NAME)
    except ValueError as error:
        raise ValueError(
            f"The LoRA does not fit {type(denoiser).__name__}: got target_modules={config.target_modules!r}, expected "
            "names of its linear or convolution layers. Pass a peft_config whose target_modules match."
        ) from error
    for parameter in denoiser.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return denoiser


def save_lora(pipe: DiffusionPipeline, directory: str | os.PathLike[str]) -> Path:
    """Write the LoRA of the pipeline's denoiser to `directory/pytorch_lora_weights.safetensors`.

    The file appears at once and whole: it is written beside its place and then renamed.

    Args:
        pipe (`DiffusionPipeline`):
            A pipeline after [`add_lora`].
        directory (`str` or `os.PathLike`):
            Made if it does not exist.

    Returns:
        `Path`: the written file; `pipe.load_lora_weights(directory)` reads it.
    """
    name, denoiser = find_denoiser(pipe)
    weights = {
        f"{name}.{key}": tensor.detach().cpu().contiguous() for key, tensor in _lora_state_dict(denoiser).items()
    }
    settings = {f"{name}.{key}": value for key, value in _lora_config(denoiser).to_dict().items()}
    header = {"format": "pt", METADATA_KEY: json.dumps(settings, indent=2, sort_keys=True, default=sorted)}
    path = Path(directory) / LORA_WEIGHTS_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".lora-") as scratch:
        written = Path(scratch) / LORA_WEIGHTS_NAME
        save_file(weights, written, metadata=header)
        os.replace(written, path)
    return path


def restore_lora(pipe: DiffusionPipeline, directory: str | os.PathLike[str]) -> None:
    """Read weights written by [`save_lora`] into the LoRA that the pipeline already carries.

    Args:
        pipe (`DiffusionPipeline`):
            A pipeline after [`add_lora`] with the same settings.
        directory (`str` or `os.PathLike`):
            A checkpoint's folder.

    Raises:
        FileNotFoundError: If the folder holds no LoRA.
        ValueError: If its weights or scaling belong to another pipeline or another LoRA.
    """
    path = Path(directory) / LORA_WEIGHTS_NAME
    if not path.is_file():
        raise FileNotFoundError(f"Expected a LoRA at {path}: found none. Give the folder of a DRaFT-V checkpoint.")
    name, denoiser = find_denoiser(pipe)
    weights = load_file(path)
    expected = {f"{name}.{key}": tuple(tensor.shape) for key, tensor in _lora_state_dict(denoiser).items()}
    got = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    if got != expected:
        different = sorted(key for key in got.keys() | expected.keys() if got.get(key) != expected.get(key))
        raise ValueError(
            f"The LoRA at {path} belongs to another pipeline or has other settings: {len(different)} tensors differ, "
            f"for example {different[0]} (got shape {got.get(different[0])}, expected {expected.get(different[0])})."
        )
    _check_same_alpha(path, name, _lora_config(denoiser))
    stripped = {key.removeprefix(f"{name}."): tensor for key, tensor in weights.items()}
    set_peft_model_state_dict(denoiser, stripped, adapter_name=ADAPTER_NAME)


def _lora_state_dict(denoiser: ModelMixin) -> dict[str, torch.Tensor]:
    """Return the LoRA weights under peft's names, without the adapter's name in them."""
    return get_peft_model_state_dict(denoiser, adapter_name=ADAPTER_NAME)


def _lora_config(denoiser: ModelMixin) -> LoraConfig:
    """Return the settings of the LoRA that the denoiser carries."""
    configs: dict[str, LoraConfig] = denoiser.peft_config
    return configs[ADAPTER_NAME]


def _check_same_alpha(path: Path, name: str, config: LoraConfig) -> None:
    """Raise when the file's LoRA has another alpha, which no tensor's shape would tell."""
    with safe_open(path, framework="pt") as file:
        settings: dict[str, Any] = json.loads(file.metadata()[METADATA_KEY])
    alpha = settings[f"{name}.lora_alpha"]
    if alpha != config.lora_alpha:
        raise ValueError(
            f"The LoRA at {path} was trained with lora_alpha={alpha}: expected {config.lora_alpha}. Resume with the "
            "same peft_config."
        )
