"""The LoRA that DRaFT-V trains: adding it to a pipeline's denoiser, writing it and reading it back.

Files are in diffusers' format (`pytorch_lora_weights.safetensors`, adapter settings in the header), so that a
pipeline's own `load_lora_weights` reads them where it has one; [`load_lora`] reads them on every pipeline. Source:
LoRA (Hu et al. 2021, arXiv 2106.09685); rank and targets of InstructVideo (Yuan et al. 2023, arXiv 2312.12490).
"""

import dataclasses
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LoraBaseMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

LORA_WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
ADAPTER_NAME = "default"
# The key under which diffusers looks for the adapter's settings in the header of the file.
METADATA_KEY = "lora_adapter_metadata"
# The keys under which we note what it was trained on: the pipeline's class, and the denoiser's with those it extends.
PIPELINE_KEY = "pipeline"
DENOISER_KEY = "denoiser"
COMPONENT_KEY = "component"
DENOISER_NAMES = ("transformer", "unet")
# Where a pipeline switches between two denoisers, as Wan 2.2's does, the one for the late steps.
SECOND_DENOISER = "transformer_2"


def default_lora_config() -> LoraConfig:
    """Return the LoRA that is trained when none is given: rank 4 on the attention's q, k, v and output projections.

    Returns:
        `peft.LoraConfig`: a fresh configuration.

    Reference:
        Yuan et al. 2023 (InstructVideo), which Wu et al. 2024 follow. Differs: none.
    """
    return LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"])


def find_denoisers(pipe: DiffusionPipeline) -> dict[str, ModelMixin]:
    """Find the networks of the pipeline that denoise: one, or two between which it switches on the way.

    Args:
        pipe (`DiffusionPipeline`):
            A pipeline with a component called `transformer` or `unet`, and perhaps `transformer_2`.

    Returns:
        `dict[str, ModelMixin]`: by the components' names, the one for the late steps last.

    Raises:
        ValueError: If there is no such component.
    """
    components = pipe.components
    found = {name: components[name] for name in (*DENOISER_NAMES, SECOND_DENOISER) if components.get(name) is not None}
    if not found or set(DENOISER_NAMES) <= found.keys():
        raise ValueError(
            f"Expected one of {list(DENOISER_NAMES)} among the components of {type(pipe).__name__}: got "
            f"{sorted(components)}."
        )
    return found


def find_denoiser(pipe: DiffusionPipeline, name: str | None = None) -> tuple[str, ModelMixin]:
    """Find the network of the pipeline that is tuned.

    Args:
        pipe (`DiffusionPipeline`):
            A pipeline as for [`find_denoisers`].
        name (`str`, *optional*):
            The component. By default the one that carries a LoRA, else, of two, the one for the late steps.

    Returns:
        `tuple[str, ModelMixin]`: the component's name and the network.

    Raises:
        ValueError: If the pipeline has no denoiser of that name.
    """
    found = find_denoisers(pipe)
    if name is not None and name not in found:
        raise ValueError(f"denoiser must be one of {list(found)} of this {type(pipe).__name__}: got {name!r}.")
    carrying = [key for key, network in found.items() if _carries_lora(network)]
    chosen = name if name is not None else (carrying or list(found))[-1]
    return chosen, found[chosen]


def freeze(pipe: DiffusionPipeline) -> None:
    """Take gradients off every weight of the pipeline and put every network in evaluation mode.

    Args:
        pipe (`DiffusionPipeline`):
            Changed in place.
    """
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False).eval()


def add_lora(
    pipe: DiffusionPipeline, peft_config: LoraConfig | None = None, denoiser_name: str | None = None
) -> ModelMixin:
    """Freeze the pipeline and add a trainable LoRA to its denoiser, in float32 whatever the denoiser's type.

    Args:
        pipe (`DiffusionPipeline`):
            Changed in place.
        peft_config (`peft.LoraConfig`, *optional*):
            By default [`default_lora_config`].
        denoiser_name (`str`, *optional*):
            Which one, as for [`find_denoiser`].

    Returns:
        `ModelMixin`: the denoiser; only its LoRA weights require gradients.

    Raises:
        ValueError: If the denoiser already carries adapters, the LoRA's targets match nothing, or it is more than a
            LoRA: with dropout, trained biases or further modules, DoRA, or a start that changes the base weights.
    """
    config = peft_config if peft_config is not None else default_lora_config()
    _check_plain(config)
    _check_carries_none(pipe)
    _, denoiser = find_denoiser(pipe, denoiser_name)
    freeze(pipe)
    try:
        inject_adapter_in_model(config, denoiser, ADAPTER_NAME)
    except ValueError as error:
        raise ValueError(
            f"The LoRA does not fit {type(denoiser).__name__}: got target_modules={config.target_modules!r}, expected "
            f"names of its linear or convolution layers, such as {_layer_names(denoiser)}. Pass a peft_config whose "
            "target_modules match."
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
        `Path`: the written file; [`load_lora`] reads it, and `pipe.load_lora_weights(directory)` where it can, of a
        second denoiser with `load_into_transformer_2=True`.
    """
    name, denoiser = find_denoiser(pipe)
    prefix = _file_prefix(name)
    weights = {
        f"{prefix}.{key}": tensor.detach().cpu().contiguous() for key, tensor in _lora_state_dict(denoiser).items()
    }
    settings = {f"{prefix}.{key}": value for key, value in _lora_config(denoiser).to_dict().items()}
    header = {"format": "pt", METADATA_KEY: json.dumps(settings, indent=2, sort_keys=True, default=sorted)}
    header |= {PIPELINE_KEY: type(pipe).__name__, DENOISER_KEY: json.dumps(_lineage(denoiser)), COMPONENT_KEY: name}
    path = Path(directory) / LORA_WEIGHTS_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".lora-") as scratch:
        written = Path(scratch) / LORA_WEIGHTS_NAME
        save_file(weights, written, metadata=header)
        os.replace(written, path)
    return path


def load_lora(pipe: DiffusionPipeline, directory: str | os.PathLike[str], scale: float = 1.0) -> None:
    """Freeze a fresh pipeline, whichever it is, and add a LoRA written by [`save_lora`].

    Frames equal those of the trained pipeline exactly. Unlike diffusers' loaders, this keeps the LoRA in float32 as it
    was trained, also on a bfloat16 denoiser.

    Args:
        pipe (`DiffusionPipeline`):
            Changed in place.
        directory (`str` or `os.PathLike`):
            A folder with `pytorch_lora_weights.safetensors`.
        scale (`float`, defaults to `1.0`):
            As for [`set_lora_scale`]. A folder without a LoRA is a `FileNotFoundError`; a second LoRA and a scale out
            of range are a `ValueError`.

    Raises:
        ValueError: If the LoRA belongs to another pipeline.
    """
    _check_scale(scale)
    path = _existing(directory)
    _check_carries_none(pipe)
    header, weights = _read_header(path), load_file(path)
    origin, component = header.get(PIPELINE_KEY, "an unknown pipeline"), header.get(COMPONENT_KEY)
    problem = f"The LoRA at {path} (trained on {origin}) does not fit {type(pipe).__name__}"
    if component is not None and component not in find_denoisers(pipe):
        raise ValueError(f"{problem}: there is no {component} in it.")
    name, denoiser = find_denoiser(pipe, component)
    prefix = _file_prefix(name)
    _check_fits(weights, header, prefix, denoiser, problem)
    settings: dict[str, Any] = json.loads(header[METADATA_KEY])
    fields = {field.name for field in dataclasses.fields(LoraConfig)}
    stripped = {key.removeprefix(f"{prefix}."): value for key, value in settings.items()}
    config = LoraConfig(**{key: value for key, value in stripped.items() if key in fields})
    # As in training, LoRA apart: torch.matmul rounds differently when a weight requires gradients.
    freeze(pipe)
    stripped_weights = {key.removeprefix(f"{prefix}."): tensor for key, tensor in weights.items()}
    inject_adapter_in_model(config, denoiser, ADAPTER_NAME, state_dict=stripped_weights)
    for key, parameter in denoiser.named_parameters():
        if ".lora_" in key:
            parameter.data = parameter.data.float()
    set_peft_model_state_dict(denoiser, stripped_weights, adapter_name=ADAPTER_NAME)
    set_lora_scale(pipe, scale)


def set_lora_scale(pipe: DiffusionPipeline, scale: float) -> None:
    """Trade what the LoRA has learnt for closeness to the base model.

    Args:
        pipe (`DiffusionPipeline`):
            A pipeline after [`add_lora`] or [`load_lora`].
        scale (`float`):
            In `[0, 1]`: 0 is the base model exactly, 1 the LoRA as trained.

    Raises:
        ValueError: If `scale` is out of range, or the pipeline carries no LoRA of ours.

    Reference:
        Clark et al. 2024 (DRaFT, arXiv 2309.17400), who scale the LoRA after training. Differs: none.
    """
    _check_scale(scale)
    _, denoiser = find_denoiser(pipe)
    layers = [module for module in denoiser.modules() if isinstance(module, LoraLayer)]
    if not any(ADAPTER_NAME in layer.scaling for layer in layers):
        others = sorted({name for layer in layers for name in layer.scaling})
        what = f"the adapters {others}, whose strength pipe.set_adapters changes" if others else "no LoRA"
        raise ValueError(f"The denoiser of {type(pipe).__name__} carries {what}: load one with load_lora first.")
    for layer in layers:
        layer.set_scale(ADAPTER_NAME, scale)


def restore_lora(pipe: DiffusionPipeline, directory: str | os.PathLike[str]) -> None:
    """Read weights written by [`save_lora`] into the LoRA that the pipeline already carries.

    Args:
        pipe (`DiffusionPipeline`):
            A pipeline after [`add_lora`] with the same settings.
        directory (`str` or `os.PathLike`):
            A checkpoint's folder; one without a LoRA is a `FileNotFoundError`.

    Raises:
        ValueError: If its weights or scaling belong to another pipeline or another LoRA.
    """
    path = _existing(directory)
    name, denoiser = find_denoiser(pipe)
    prefix = _file_prefix(name)
    weights = load_file(path)
    expected = {f"{prefix}.{key}": tuple(tensor.shape) for key, tensor in _lora_state_dict(denoiser).items()}
    got = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    if got != expected:
        different = sorted(key for key in got.keys() | expected.keys() if got.get(key) != expected.get(key))
        raise ValueError(
            f"The LoRA at {path} belongs to another pipeline or has other settings: {len(different)} tensors differ, "
            f"for example {different[0]} (got shape {got.get(different[0])}, expected {expected.get(different[0])})."
        )
    _check_same_scaling(path, prefix, _lora_config(denoiser))
    stripped = {key.removeprefix(f"{prefix}."): tensor for key, tensor in weights.items()}
    set_peft_model_state_dict(denoiser, stripped, adapter_name=ADAPTER_NAME)


def _lora_state_dict(denoiser: ModelMixin) -> dict[str, torch.Tensor]:
    """Return the LoRA weights under peft's names, without the adapter's name in them."""
    return get_peft_model_state_dict(denoiser, adapter_name=ADAPTER_NAME)


def _lora_config(denoiser: ModelMixin) -> LoraConfig:
    """Return the settings of the LoRA that the denoiser carries."""
    configs: dict[str, LoraConfig] = denoiser.peft_config
    return configs[ADAPTER_NAME]


def _file_prefix(name: str) -> str:
    """Return what diffusers writes before a weight's name: its loaders are told of a second denoiser otherwise."""
    return DENOISER_NAMES[0] if name == SECOND_DENOISER else name


def _check_same_scaling(path: Path, prefix: str, config: LoraConfig) -> None:
    """Raise when the file's LoRA is scaled in another way, which no tensor's shape would tell."""
    written = json.loads(_read_header(path)[METADATA_KEY])
    for name in ("lora_alpha", "use_rslora", "alpha_pattern"):
        value, expected = written[f"{prefix}.{name}"], getattr(config, name)
        if value != expected:
            raise ValueError(
                f"The LoRA at {path} was trained with {name}={value}: expected {expected}. Resume with the same "
                "peft_config."
            )


def _existing(directory: str | os.PathLike[str]) -> Path:
    """Return the path of the folder's LoRA."""
    path = Path(directory) / LORA_WEIGHTS_NAME
    if not path.is_file():
        raise FileNotFoundError(f"Expected a LoRA at {path}: found none. Give the folder that training wrote.")
    return path


def _read_header(path: Path) -> dict[str, str]:
    """Return what is noted beside the weights: the adapter's settings and what it was trained on."""
    with safe_open(path, framework="pt") as file:
        header: dict[str, str] = file.metadata() or {}
    if METADATA_KEY not in header:
        raise ValueError(
            f"The LoRA at {path} carries no settings of its adapter: expected a file written by DRaFT-V or by a "
            "recent version of diffusers. Try the pipeline's own load_lora_weights."
        )
    return header


def _lineage(denoiser: ModelMixin) -> list[str]:
    """Return the denoiser's class and the models it extends, for a subclass takes the same LoRA."""
    kinds = [kind for kind in type(denoiser).__mro__ if issubclass(kind, ModelMixin) and kind is not ModelMixin]
    return [kind.__name__ for kind in kinds]


def _check_fits(
    weights: dict[str, torch.Tensor], header: dict[str, str], prefix: str, denoiser: ModelMixin, problem: str
) -> None:
    """Raise when the denoiser is another, or a weight has no layer of its shape in it, before anything is changed."""
    lineage: list[str] = json.loads(header.get(DENOISER_KEY, "[]"))
    if lineage and not set(lineage) & set(_lineage(denoiser)):
        raise ValueError(f"{problem}: its {prefix} is a {type(denoiser).__name__}, expected a {lineage[0]}.")
    parameters = {f"{prefix}.{key}": parameter for key, parameter in denoiser.named_parameters()}
    for key, tensor in weights.items():
        base = parameters.get(f"{key.partition('.lora_')[0]}.weight")
        if base is None:
            raise ValueError(f"{problem}: {key} has no layer there. Load it on the pipeline it was trained on.")
        axis = 0 if ".lora_B." in key else 1
        if tensor.shape[axis] != base.shape[axis]:
            raise ValueError(
                f"{problem}: {key} has size {tensor.shape[axis]}, expected {base.shape[axis]}. Load it on a model of "
                "the size it was trained on."
            )


def _check_scale(scale: float) -> None:
    """Raise for a scale out of range."""
    if not 0.0 <= scale <= 1.0:
        raise ValueError(f"scale must be between 0 (the base model) and 1 (the LoRA as trained): got {scale}.")


def _carries_lora(denoiser: ModelMixin) -> bool:
    """Tell whether the denoiser carries a LoRA."""
    return any(".lora_A." in name for name, _ in denoiser.named_parameters())


def _check_carries_none(pipe: DiffusionPipeline) -> None:
    """Raise when a denoiser already carries a LoRA."""
    if any(_carries_lora(denoiser) for denoiser in find_denoisers(pipe).values()):
        own = isinstance(pipe, LoraBaseMixin)
        fuse = "fuse it (pipe.fuse_lora(), then pipe.unload_lora_weights()), " if own else ""
        adapters = ", or with pipe.set_adapters after pipe.load_lora_weights" if own else ""
        raise ValueError(
            f"The denoiser of {type(pipe).__name__} already carries a LoRA: {fuse}load a fresh pipeline, or change "
            f"its strength with set_lora_scale after load_lora{adapters}."
        )


def _check_plain(config: LoraConfig) -> None:
    """Raise for settings that train, or change, more than the LoRA's own two matrices."""
    if config.lora_dropout:
        raise ValueError(
            f"lora_dropout must be 0: got {config.lora_dropout}. Videos are sampled in evaluation mode, where dropout "
            "does nothing."
        )
    if config.bias != "none" or config.use_dora or config.modules_to_save:
        raise ValueError(
            "peft_config must train nothing but the LoRA (bias='none', use_dora=False, modules_to_save=None): got "
            f"bias={config.bias!r}, use_dora={config.use_dora}, modules_to_save={config.modules_to_save}."
        )
    if config.init_lora_weights not in (True, False, "gaussian"):
        raise ValueError(
            "init_lora_weights must be True, False or 'gaussian', for the others change the base weights, which are "
            f"not saved: got {config.init_lora_weights!r}."
        )


def _layer_names(denoiser: ModelMixin) -> list[str]:
    """Return the names that linear layers of the denoiser go by, without their place."""
    linear = {name for name, module in denoiser.named_modules() if isinstance(module, torch.nn.Linear)}
    parts = [name.split(".") for name in linear]
    return sorted({".".join(part[-2:]) if part[-1].isdigit() else part[-1] for part in parts})
