"""The sizes a family of pipelines can make, so that a wrong one is an error before anything is sampled.

Most pipelines round silently, and some fail deep inside their denoiser. Little else differs between families here:
sampling counts scheduler steps, decoding is the pipeline's own, and the default LoRA fits diffusers' attention layers.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

# Sizes depend on a checkpoint's configuration, such as the factor of its VAE.
SizeRule = Callable[[Any], int]


@dataclass(frozen=True)
class PipelineSpec:
    """The rules of one family.

    Args:
        title (`str`):
            Name of the family in messages.
        frame_step (`Callable[[DiffusionPipeline], int]`, *optional*):
            m of the rule that `num_frames` is `m k + r` for a whole k; by default there is none.
        frame_remainders (`tuple[int, ...]`, defaults to `(1,)`):
            The values that r may have.
        max_frames (`Callable[[DiffusionPipeline], int]`, *optional*):
            The longest clip; by default there is none.
        frame_choices (`Callable[[DiffusionPipeline], tuple[int, ...]]`, *optional*):
            The only values of `num_frames`, in rising order; by default nothing is known.
        size_step (`Callable[[DiffusionPipeline], int]`, *optional*):
            What height and width must be multiples of; by default nothing is known.
        folds_frames (`bool`, defaults to `False`):
            Whether the scheduler gets the frames of all videos along the batch axis.
        frames_argument (`str`, defaults to `"num_frames"`):
            What the pipeline's call calls the number of frames.
    """

    title: str
    frame_step: SizeRule | None = None
    frame_remainders: tuple[int, ...] = (1,)
    max_frames: SizeRule | None = None
    frame_choices: Callable[[Any], tuple[int, ...]] | None = None
    size_step: SizeRule | None = None
    folds_frames: bool = False
    frames_argument: str = "num_frames"


def check_sizes(spec: PipelineSpec, pipe: DiffusionPipeline, pipeline_kwargs: Mapping[str, Any]) -> None:
    """Check the sizes that the arguments ask for.

    The pipeline's own defaults are taken as right, but for `num_frames` where the checkpoint has only some choices.

    Args:
        spec (`PipelineSpec`):
            The rules.
        pipe (`DiffusionPipeline`):
            The pipeline.
        pipeline_kwargs (`dict[str, Any]`):
            Arguments of its call.

    Raises:
        ValueError: If a size breaks its rule; the message says the rule.
    """
    num_frames = pipeline_kwargs.get("num_frames", pipeline_kwargs.get(spec.frames_argument))
    if num_frames is not None and spec.frame_step is not None:
        step = spec.frame_step(pipe)
        if num_frames % step not in spec.frame_remainders:
            rule = " or ".join(f"{step}k+{rest}" if rest else f"{step}k" for rest in spec.frame_remainders)
            nearest = sorted(_nearest(num_frames, step, spec.frame_remainders))
            raise ValueError(
                f"num_frames must be {rule} for {spec.title}, got {num_frames}: take {' or '.join(map(str, nearest))}."
            )
    longest = spec.max_frames(pipe) if spec.max_frames is not None else None
    if num_frames is not None and longest is not None and num_frames > longest:
        raise ValueError(f"num_frames must be at most {longest} for this {spec.title}, got {num_frames}.")
    if spec.frame_choices is not None:
        _check_choice(spec, pipe, num_frames, spec.frame_choices(pipe))
    for name in ("height", "width"):
        size = pipeline_kwargs.get(name)
        if size is not None and spec.size_step is not None and size % spec.size_step(pipe):
            raise ValueError(f"{name} must be a multiple of {spec.size_step(pipe)} for {spec.title}, got {size}.")


def _check_choice(spec: PipelineSpec, pipe: DiffusionPipeline, num_frames: int | None, choices: Sequence[int]) -> None:
    """Raise when the clip's length, which may be the default of the call, is none of those that can be made."""
    default = inspect.signature(type(pipe).__call__).parameters[spec.frames_argument].default
    if (default if num_frames is None else num_frames) not in choices:
        got = f"none, which means {default}" if num_frames is None else num_frames
        rule = " or ".join(map(str, choices))
        raise ValueError(f"num_frames must be {rule} for this {spec.title}, got {got}: take {choices[-1]}.")


def _nearest(num_frames: int, step: int, remainders: tuple[int, ...]) -> set[int]:
    """Return the next shorter and the next longer clip that the rule allows."""
    allowed = [number for number in range(1, num_frames + step + 1) if number % step in remainders]
    shorter = [number for number in allowed if number < num_frames]
    longer = [number for number in allowed if number > num_frames]
    return {*shorter[-1:], *longer[:1]}
