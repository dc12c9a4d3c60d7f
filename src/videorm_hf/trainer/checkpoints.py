"""A run's weights on disk, and what its checkpoints consist of."""

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from videorm_hf.trainer.model_card import FACTS_NAME
from videorm_hf.trainer.resuming import CheckpointFiles

# What trains beside an adapter's base model, under the model's own names; only there.
TRAINED_WEIGHTS_NAME = "trained_weights.safetensors"
BAD_CLIPS_NAME = "bad_clips.json"
CHECKPOINT = CheckpointFiles(
    facts=FACTS_NAME,
    settings=("architecture", "num_frames", "trainable", "sets", "loss", "training"),
    weights=(SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, TRAINED_WEIGHTS_NAME),
    json_files=(BAD_CLIPS_NAME,),
)


def write_weights(model: PreTrainedModel, folder: Path) -> None:
    """Save a model; of one with an adapter, the adapter, and what trains under the model's own names.

    Args:
        model (`PreTrainedModel`):
            The reward model.
        folder (`Path`):
            Where to.
    """
    model.save_pretrained(folder)
    if _has_adapter(model):
        save_file(
            {name: p.detach().contiguous() for name, p in _trained(model).items()}, folder / TRAINED_WEIGHTS_NAME
        )


def read_weights(model: PreTrainedModel, folder: str | os.PathLike[str]) -> None:
    """Read what [`write_weights`] wrote into a model of the same architecture.

    Args:
        model (`PreTrainedModel`):
            Changed in place.
        folder (`str` or `os.PathLike`):
            A checkpoint.

    Raises:
        ValueError: If the weights are those of another architecture.
    """
    has_adapter = _has_adapter(model)
    expected = _trained(model) if has_adapter else model.state_dict()
    found: dict[str, torch.Tensor] = {}
    # One file, or the parts of a large model.
    for path in sorted(Path(folder).glob(TRAINED_WEIGHTS_NAME if has_adapter else "model*.safetensors")):
        found |= load_file(path)
    shapes = {name: value.shape for name, value in found.items()}
    wanted = {name: value.shape for name, value in expected.items()}
    different = sorted(name for name in {*shapes, *wanted} if shapes.get(name) != wanted.get(name))
    if different:
        raise ValueError(
            f"{folder} is a checkpoint of another architecture: {len(different)} weights are missing, unknown or of "
            f"another shape, such as {different[:3]}. Resume with the model and settings it was written with."
        )
    model.load_state_dict(found, strict=not has_adapter)


def _has_adapter(model: PreTrainedModel) -> bool:
    return model._hf_peft_config_loaded


def _trained(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
