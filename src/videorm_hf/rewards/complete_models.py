"""A saved transformers model, all of it: transformers only warns of weights that it fills with random numbers."""

import os
from typing import Any

from transformers import PreTrainedModel

from videorm_hf.models.sources import loading


def load_complete(loader: Any, source: str | os.PathLike[str], **kwargs: Any) -> PreTrainedModel:
    """Load a model; missing, unexpected and misshapen weights are a `ConversionError` that names them.

    Args:
        loader (`type`):
            A model class or an Auto class.
        source (`str` or `os.PathLike`):
            Folder or hub id.
        kwargs (`Any`):
            Further arguments of `from_pretrained`.

    Returns:
        `PreTrainedModel`: with every weight from the source.
    """
    with loading(source):
        model, info = loader.from_pretrained(source, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs)
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    mismatched = [f"{name}: got {tuple(got)}, expected {tuple(want)}" for name, got, want in info["mismatched_keys"]]
    if missing or unexpected or mismatched:
        # Imported here, for it imports open_clip, which takes seconds and a VIDEORM can do without.
        from videorm_hf.models.open_clip_layout import raise_for_keys

        raise_for_keys(missing, unexpected, sorted(mismatched), f"{source} read as a {type(model).__name__}")
    return model
