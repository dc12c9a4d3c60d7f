"""Names of number types, as YAML files and command lines spell them, turned into torch's.

diffusers takes torch's types alone: on a name it warns and loads in float32.
"""

from collections.abc import Mapping
from typing import Any

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_dtype(value: str | torch.dtype) -> torch.dtype:
    """Turn a name into torch's type.

    Args:
        value (`str` or `torch.dtype`):
            `"float32"`, `"bfloat16"` or `"float16"`, also after `"torch."`; or the type itself.

    Returns:
        `torch.dtype`: the type.

    Raises:
        ValueError: If there is no such type.
    """
    if isinstance(value, torch.dtype):
        return value
    name = value.removeprefix("torch.") if isinstance(value, str) else value
    if name not in DTYPES:
        raise ValueError(f"dtype must be one of {list(DTYPES)}: got {value!r}.")
    return DTYPES[name]


def parse_loading_dtypes(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the names of types among the arguments of `DiffusionPipeline.from_pretrained` into torch's.

    Args:
        arguments (`dict[str, Any]`):
            With `dtype` or `torch_dtype`, one name for all components or a dict of them.

    Returns:
        `dict[str, Any]`: the same arguments; `torch_dtype` is called `dtype`. Unknown names are a `ValueError`.
    """
    parsed = dict(arguments)
    if "torch_dtype" in parsed and "dtype" not in parsed:
        parsed["dtype"] = parsed.pop("torch_dtype")
    dtype = parsed.get("dtype")
    if isinstance(dtype, Mapping):
        parsed["dtype"] = {component: parse_dtype(value) for component, value in dtype.items()}
    elif dtype is not None:
        parsed["dtype"] = parse_dtype(dtype)
    return parsed
