"""Two levels of recomputing the denoiser in the backward pass: each of its blocks, and each whole call.

Checkpointing whole calls keeps one call's activations at a time, however many steps build a graph; checkpointing
blocks keeps one block's. Nested, memory is flat in K. The gradient is the same in every mode.
Source: Chen et al. 2016 (arXiv 1604.06174); PyTorch's non-reentrant checkpointing, which can be nested.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diffusers.models.modeling_utils import ModelMixin
from torch.utils.checkpoint import checkpoint

CHECKPOINTING_MODES = ("auto", "none", "block", "step", "nested")


def check_checkpointing(mode: str) -> None:
    """Check the name of a mode.

    Args:
        mode (`str`):
            One of `"auto"`, `"none"`, `"block"`, `"step"` and `"nested"`.

    Raises:
        ValueError: If it is another.
    """
    if mode not in CHECKPOINTING_MODES:
        raise ValueError(f"checkpointing must be one of {list(CHECKPOINTING_MODES)}: got {mode!r}.")


def apply_checkpointing(mode: str, denoiser: ModelMixin, num_graph_steps: int | None) -> bool:
    """Turn the checkpointing of the denoiser's blocks on or off, and say whether whole calls are to be checkpointed.

    The blocks' switch lies in the denoiser and must stay as it is until the backward pass is over.

    Args:
        mode (`str`):
            `"none"`, `"block"`, `"step"` (whole calls), `"nested"` (both), or `"auto"`: `"block"` where one step
            builds a graph, `"nested"` where more can, and `"step"` for a denoiser that cannot checkpoint its blocks.
        denoiser (`ModelMixin`):
            Changed in place.
        num_graph_steps (`int`, *optional*):
            How many steps build a graph at most; None for all.

    Returns:
        `bool`: whether to checkpoint whole calls.

    Raises:
        ValueError: If the mode is unknown or the denoiser cannot checkpoint its blocks.
    """
    check_checkpointing(mode)
    can_checkpoint_blocks = denoiser._supports_gradient_checkpointing
    if mode == "auto" and can_checkpoint_blocks:
        mode = "block" if num_graph_steps == 1 else "nested"
    elif mode == "auto":
        mode = "step"
    if mode in ("block", "nested"):
        if not can_checkpoint_blocks:
            raise ValueError(
                f"{type(denoiser).__name__} cannot checkpoint its blocks: got checkpointing={mode!r}, expected "
                '"step", "none" or "auto".'
            )
        denoiser.enable_gradient_checkpointing()
    elif can_checkpoint_blocks:
        denoiser.disable_gradient_checkpointing()
    return mode in ("step", "nested")


def checkpointed(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call a function now, and once more in the backward pass instead of keeping its activations.

    Random state, autocast and the gradient mode are those of the first call. Without a graph it is an ordinary call.

    Args:
        function (`Callable`):
            What to call; it may return tensors in any container.
        args (`Sequence`):
            Its positional arguments.
        kwargs (`Mapping[str, Any]`):
            Its keyword arguments.

    Returns:
        `Any`: what it returned.
    """
    # Bound beforehand: some names, such as `context_fn`, are arguments of checkpoint itself.
    return checkpoint(functools.partial(function, **kwargs), *args, use_reentrant=False)
