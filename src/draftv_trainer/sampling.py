"""Sampling from an unmodified diffusers pipeline, with gradients through chosen steps only.

The pipeline's own call runs as it is; only the gradient mode changes while it runs, at the calls of its scheduler.
Source: K-truncation of DRaFT (Clark et al. 2024, arXiv 2309.17400), used by DRaFT-V (Wu et al. 2024, NeurIPS).

Layout: frames_BTCHW has axes batch, time, channel, height, width.
"""

import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

# What sampling itself passes to the pipeline: a caller cannot pass them a second time.
RESERVED_ARGUMENTS = ("prompt", "generator", "output_type", "return_dict", "num_inference_steps")

# Given the number of scheduler steps, the indices of those that build a graph.
StepChoice = Callable[[int], frozenset[int]]


def last_steps(num_backprop_steps: int, num_steps: int) -> frozenset[int]:
    """Return the indices of the last `num_backprop_steps` of `num_steps` steps.

    Args:
        num_backprop_steps (`int`):
            K of the paper, in `[1, num_steps]`.
        num_steps (`int`):
            Number of scheduler steps of one trajectory.

    Returns:
        `frozenset[int]`: step indices, counted from 0.

    Raises:
        ValueError: If K is not an integer in `[1, num_steps]`.

    Reference:
        DRaFT-K of Clark et al. 2024 (arXiv 2309.17400), Sec. 3. Differs: none.
    """
    check_num_backprop_steps(num_backprop_steps)
    if num_backprop_steps > num_steps:
        raise ValueError(
            f"num_backprop_steps must be at most the number of sampling steps: got {num_backprop_steps}, but the "
            f"scheduler takes {num_steps} steps. Lower num_backprop_steps or raise num_inference_steps."
        )
    return frozenset(range(num_steps - num_backprop_steps, num_steps))


def check_num_backprop_steps(num_backprop_steps: int) -> None:
    """Check what can be known about K before sampling starts.

    Args:
        num_backprop_steps (`int`):
            K of the paper.

    Raises:
        ValueError: If K is not an integer of at least 1.
    """
    is_integer = isinstance(num_backprop_steps, int) and not isinstance(num_backprop_steps, bool)
    if not is_integer or num_backprop_steps < 1:
        raise ValueError(
            f"num_backprop_steps must be an integer of at least 1: got {num_backprop_steps!r}. "
            "It is the number of last sampling steps that the gradient passes through."
        )


def check_prompts(prompts: Sequence[str]) -> list[str]:
    """Return the prompts as a list after checking that they are a non-empty sequence of strings.

    Args:
        prompts (`list[str]`):
            One text per video.

    Returns:
        `list[str]`: the same texts.

    Raises:
        TypeError: If `prompts` is not a list or tuple of strings.
        ValueError: If `prompts` is empty.
    """
    if not isinstance(prompts, list | tuple):
        raise TypeError(f"prompts must be a list of strings: got {type(prompts).__name__}. Wrap one prompt in a list.")
    if not prompts:
        raise ValueError("prompts must hold at least one string: got an empty list.")
    wrong = [index for index, prompt in enumerate(prompts) if not isinstance(prompt, str)]
    if wrong:
        got = type(prompts[wrong[0]]).__name__
        raise TypeError(f"prompts must be a list of strings: got {got} at index {wrong[0]}.")
    return list(prompts)


def sample(
    pipe: DiffusionPipeline,
    prompts: Sequence[str],
    *,
    num_inference_steps: int | None = None,
    generator: torch.Generator | list[torch.Generator] | None = None,
    output_type: str = "pt",
    **pipeline_kwargs: Any,
) -> torch.Tensor:
    """Sample videos without building a graph: ordinary inference, with frames in the layout of this package.

    Args:
        pipe (`DiffusionPipeline`):
            Any text-to-video (or text-to-image) pipeline of diffusers.
        prompts (`list[str]`):
            One text per video.
        num_inference_steps (`int`, *optional*):
            Number of sampling steps. By default the pipeline's own.
        generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
            Source of the noise; a list holds one per prompt.
        output_type (`str`, defaults to `"pt"`):
            `"pt"` for frames, `"latent"` for the pipeline's undecoded latents in its own layout.
        pipeline_kwargs:
            Any further argument of the pipeline's call (`guidance_scale`, `height`, `width`, `num_frames`, ...).

    Returns:
        `torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`: values in `[0, 1]`. A size the pipeline
        cannot make is an error, never rounded.
    """
    with torch.no_grad():
        return _run_pipeline(pipe, prompts, num_inference_steps, generator, output_type, pipeline_kwargs)


def sample_with_grad(
    pipe: DiffusionPipeline,
    prompts: Sequence[str],
    num_backprop_steps: int,
    *,
    num_inference_steps: int | None = None,
    generator: torch.Generator | list[torch.Generator] | None = None,
    output_type: str = "pt",
    **pipeline_kwargs: Any,
) -> torch.Tensor:
    """Sample videos whose last K sampling steps, and decoding, can be differentiated.

    The frames equal those of ordinary inference exactly. Nothing before the last K steps builds a graph: neither the
    text encoder nor the early denoiser calls. The gradient mode of the caller, on or off, is restored in any case.

    Args:
        pipe (`DiffusionPipeline`):
            Any text-to-video (or text-to-image) pipeline of diffusers. What is to be tuned must require gradients.
        prompts (`list[str]`):
            One text per video.
        num_backprop_steps (`int`):
            K of the paper, at least 1, at most the number of scheduler steps.
        num_inference_steps (`int`, *optional*):
            Number of sampling steps. By default the pipeline's own.
        generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
            Source of the noise; a list holds one per prompt.
        output_type (`str`, defaults to `"pt"`):
            `"pt"` for frames, `"latent"` for the pipeline's undecoded latents in its own layout.
        pipeline_kwargs:
            Any further argument of the pipeline's call (`guidance_scale`, `height`, `width`, `num_frames`, ...).

    Returns:
        `torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`: values in `[0, 1]`, with a graph. A
        pipeline that makes images gives clips of one frame. K out of range, wrong prompts, and a size the pipeline
        cannot make are `ValueError` or `TypeError`.

    Raises:
        RuntimeError: If the frames carry no graph, or the caller is in inference mode.

    Reference:
        DRaFT-K of Clark et al. 2024 (arXiv 2309.17400), Sec. 3. Differs: early steps build no graph instead of a
        graph that is cut afterwards; the gradient is the same.
    """
    check_num_backprop_steps(num_backprop_steps)
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "sample_with_grad cannot build a graph inside torch.inference_mode(): leave that context (torch.no_grad() "
            "and torch.set_grad_enabled(False) do no harm)."
        )
    with graph_on_steps(pipe, functools.partial(last_steps, num_backprop_steps)):
        frames = _run_pipeline(pipe, prompts, num_inference_steps, generator, output_type, pipeline_kwargs)
    if not frames.requires_grad:
        raise RuntimeError(
            f"The {output_type} output of {type(pipe).__name__} has no graph. Either nothing in the pipeline requires "
            "gradients (call requires_grad_() on what is to be tuned), or its scheduler "
            f"({type(pipe.scheduler).__name__}) or its VAE cuts the graph and needs replacing."
        )
    return frames


@contextmanager
def graph_on_steps(pipe: DiffusionPipeline, choose_steps: StepChoice) -> Iterator[None]:
    """Let a call of the pipeline build a graph in the chosen scheduler steps and after the last one, nowhere else.

    Within the context the pipeline works with a copy of its scheduler whose `set_timesteps` and `step` also switch
    the gradient mode. Counting scheduler calls needs no callback of the pipeline, and a copy keeps the user's
    scheduler free of state and of references to the graph. A loop that takes another number of steps than its
    scheduler announced is a `RuntimeError`, for the wrong steps built the graph.

    Args:
        pipe (`DiffusionPipeline`):
            A pipeline with a component called `scheduler`.
        choose_steps (`Callable[[int], frozenset[int]]`):
            Maps the number of scheduler steps to the indices of those that build a graph.

    Raises:
        ValueError: If the pipeline has no scheduler.
    """
    scheduler = pipe.components.get("scheduler")
    if not isinstance(scheduler, SchedulerMixin):
        raise ValueError(
            f"{type(pipe).__name__} has no component called `scheduler` (it has {sorted(pipe.components)}): "
            "its sampling steps cannot be told apart."
        )
    previous_mode = torch.is_grad_enabled()
    watched = copy.deepcopy(scheduler)
    counter = _StepCounter(choose_steps)
    counter.watch(watched)
    pipe.scheduler = watched
    try:
        torch.set_grad_enabled(False)
        yield
        counter.check_finished(type(pipe).__name__)
    finally:
        pipe.scheduler = scheduler
        torch.set_grad_enabled(previous_mode)


class _StepCounter:
    """Count the steps of one scheduler and set the gradient mode for what follows each of them."""

    def __init__(self, choose_steps: StepChoice) -> None:
        self.choose_steps = choose_steps
        self.num_steps = 0
        self.num_done = 0
        self.graph_steps: frozenset[int] = frozenset()

    def watch(self, scheduler: Any) -> None:
        """Wrap `set_timesteps` and `step` of this scheduler, signatures kept, for pipelines inspect them."""
        scheduler_class = type(scheduler)

        @functools.wraps(scheduler_class.set_timesteps)
        def set_timesteps(this: Any, *args: Any, **kwargs: Any) -> Any:
            result = scheduler_class.set_timesteps(this, *args, **kwargs)
            if this is scheduler:
                self.start(len(this.timesteps))
            return result

        @functools.wraps(scheduler_class.step)
        def step(this: Any, *args: Any, **kwargs: Any) -> Any:
            result = scheduler_class.step(this, *args, **kwargs)
            if this is scheduler:
                self.advance()
            return result

        # Bound methods, not closures: a pipeline that copies its scheduler gets methods of the copy, uncounted.
        scheduler.set_timesteps = types.MethodType(set_timesteps, scheduler)
        scheduler.step = types.MethodType(step, scheduler)

    def start(self, num_steps: int) -> None:
        """Begin a trajectory of `num_steps` scheduler steps."""
        self.num_steps, self.num_done = num_steps, 0
        self.graph_steps = self.choose_steps(num_steps)
        self.switch()

    def advance(self) -> None:
        """Note that one step is done."""
        self.num_done += 1
        self.switch()

    def switch(self) -> None:
        """Set the gradient mode for the step that comes next, or for decoding once all are done."""
        torch.set_grad_enabled(self.num_done in self.graph_steps or self.num_done == self.num_steps)

    def check_finished(self, pipeline_name: str) -> None:
        """Raise unless the loop took the steps it announced, for else the wrong ones built the graph."""
        if self.num_steps == 0 or self.num_done != self.num_steps:
            raise RuntimeError(
                f"{pipeline_name} called scheduler.step {self.num_done} times where its scheduler announced "
                f"{self.num_steps} steps: which of them are the last cannot be known beforehand. Pipelines that start "
                "in the middle of the schedule are not supported."
            )


def _run_pipeline(
    pipe: DiffusionPipeline,
    prompts: Sequence[str],
    num_inference_steps: int | None,
    generator: torch.Generator | list[torch.Generator] | None,
    output_type: str,
    pipeline_kwargs: dict[str, Any],
) -> torch.Tensor:
    """Call the pipeline in the current gradient mode and return frames (B, T, 3, H, W), or its latents."""
    prompts = check_prompts(prompts)
    if output_type not in ("pt", "latent"):
        raise ValueError(f'output_type must be "pt" or "latent": got {output_type!r}.')
    check_pipeline_kwargs(pipeline_kwargs)
    if num_inference_steps is not None:
        pipeline_kwargs = {**pipeline_kwargs, "num_inference_steps": num_inference_steps}
    # Unwrapped: inside a decorator such as torch.inference_mode() gradients could not be switched on again.
    call: Callable[..., BaseOutput] = inspect.unwrap(type(pipe).__call__)
    output = call(
        pipe, prompt=prompts, generator=generator, output_type=output_type, return_dict=True, **pipeline_kwargs
    )
    result = output["frames"] if "frames" in output else output["images"]
    if output_type == "latent":
        return result
    frames_BTCHW = result.unsqueeze(1) if result.ndim == 4 else result
    _check_frames(frames_BTCHW, pipe, pipeline_kwargs)
    return frames_BTCHW


def check_pipeline_kwargs(pipeline_kwargs: dict[str, Any]) -> None:
    """Check that no argument is given to the pipeline twice.

    Args:
        pipeline_kwargs (`dict[str, Any]`):
            Further arguments of the pipeline's call.

    Raises:
        ValueError: If one of them is set by the sampling functions themselves.
    """
    reserved = sorted(set(pipeline_kwargs) & set(RESERVED_ARGUMENTS))
    if reserved:
        raise ValueError(f"pipeline_kwargs must not hold {reserved}: these have arguments of their own.")


def _check_frames(frames_BTCHW: torch.Tensor, pipe: DiffusionPipeline, requested: dict[str, Any]) -> None:
    """Raise when the frames have another layout than expected or another size than requested."""
    if frames_BTCHW.ndim != 5 or frames_BTCHW.shape[2] != 3:
        raise RuntimeError(
            f"{type(pipe).__name__} must return frames of shape (batch, time, 3, height, width): got "
            f"{tuple(frames_BTCHW.shape)}."
        )
    got = {"num_frames": frames_BTCHW.shape[1], "height": frames_BTCHW.shape[3], "width": frames_BTCHW.shape[4]}
    changed = {name: size for name, size in got.items() if requested.get(name) not in (None, size)}
    if changed:
        wanted = {name: requested[name] for name in changed}
        raise ValueError(f"{type(pipe).__name__} cannot make {wanted}: it made {changed}. Ask for what it can make.")
