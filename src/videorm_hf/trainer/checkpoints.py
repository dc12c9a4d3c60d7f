"""A run's weights on disk, and which checkpoints can be resumed from: those that were written to their end.

Trainer writes a checkpoint file by file and its state last; one that was cut short while it was written, or while it
was deleted, is told from a good one by what is missing.
"""

import json
import logging
import os
import re
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

logger = logging.getLogger(__name__)

# What trains beside an adapter's base model, under the model's own names; only there.
TRAINED_WEIGHTS_NAME = "trained_weights.safetensors"
BAD_CLIPS_NAME = "bad_clips.json"


def last_complete_checkpoint(output_dir: str | os.PathLike[str]) -> str | None:
    """Find the newest checkpoint that was written to its end.

    Args:
        output_dir (`str` or `os.PathLike`):
            The folder that holds the `checkpoint-<step>` folders of a run.

    Returns:
        `str`: its path, or None where there is none. Incomplete ones that are newer are logged as skipped.
    """
    pattern = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
    found = [(int(match[1]), path) for path in Path(output_dir).glob("*/") if (match := pattern.fullmatch(path.name))]
    for _, path in sorted(found, reverse=True):
        missing = missing_files(path)
        if not missing:
            return str(path)
        logger.warning("Skipping %s, which is incomplete: missing or cut short are %s.", path, missing)
    return None


def missing_files(checkpoint: str | os.PathLike[str]) -> list[str]:
    """List what a checkpoint lacks for an exact resumption.

    Args:
        checkpoint (`str` or `os.PathLike`):
            A checkpoint's folder.

    Returns:
        `list[str]`: names of files that are missing or cut short; empty for a complete checkpoint.
    """
    folder = Path(checkpoint)
    # Several processes each write a random state of their own.
    random_states = [path.name for path in folder.glob("rng_state*.pth")] or ["rng_state.pth"]
    archives = (OPTIMIZER_NAME, SCHEDULER_NAME, *random_states)
    missing = [name for name in archives if not zipfile.is_zipfile(folder / name)]
    weights = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, TRAINED_WEIGHTS_NAME)
    missing += [] if any((folder / name).is_file() for name in weights) else [SAFE_WEIGHTS_NAME]
    return missing + [name for name in (BAD_CLIPS_NAME, TRAINER_STATE_NAME) if not _is_json(folder / name)]


def check_complete(checkpoint: str | os.PathLike[str]) -> None:
    """Raise unless a checkpoint was written to its end, for Trainer would start anew what it does not find.

    Args:
        checkpoint (`str` or `os.PathLike`):
            A checkpoint's folder.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a file is missing or cut short.
    """
    if not os.path.isdir(checkpoint):
        raise FileNotFoundError(f"Expected a checkpoint's folder at {checkpoint}: found none.")
    missing = missing_files(checkpoint)
    if missing:
        raise ValueError(
            f"{checkpoint} is not a complete checkpoint: missing or cut short are {missing}. Resume from an earlier "
            "one, or with resume_from_checkpoint=True from the last that is complete."
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


def _is_json(path: Path) -> bool:
    """Tell whether a file is there and was written to its closing brace."""
    try:
        json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True
