"""Sampling from an unmodified diffusers pipeline, with gradients through chosen steps only.

The pipeline's own call runs as it is; only the gradient mode changes while it runs, at the calls of its scheduler.
Source: K-truncation of DRaFT (Clark et al. 2024, arXiv 2309.17400), used by DRaFT-V (Wu et al. 2024, NeurIPS).

Layout: frames_BTCHW has axes batch, time, channel, height, width.
"""

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from draftv_trainer.clean_prediction import check_clean_prediction, noised_to_last_step
from draftv_trainer.graph_steps import GraphSteps, last_steps
from draftv_trainer.pipelines.specs import find_spec
from draftv_trainer.trajectory import PassedOver, PredictionObserver, Trajectory, follow

Generators = torch.Generator | list[torch.Generator] | None

# What sampling itself passes to the pipeline: a caller cannot pass them a second time.
RESERVED_ARGUMENTS = ("prompt", "generator", "output_type", "return_dict", "num_inference_steps")


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
    generator: Generators = None,
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
    num_backprop_steps: int | GraphSteps,
    *,
    num_inference_steps: int | None = None,
    generator: Generators = None,
    output_type: str = "pt",
    checkpoint_calls: bool = False,
    observe: PredictionObserver | None = None,
    **pipeline_kwargs: Any,
) -> torch.Tensor:
    """Sample videos that can be differentiated through the last K sampling steps, or any others, and decoding.

    The frames equal those of ordinary inference exactly (ReFL's choice, which ends early, aside). Nothing before the
    first of these steps builds a graph: neither the text encoder nor the early denoiser calls. The gradient mode of
    the caller, on or off, is restored in any case.

    Args:
        pipe (`DiffusionPipeline`):
            Any text-to-video (or text-to-image) pipeline of diffusers. What is to be tuned must require gradients.
        prompts (`list[str]`):
            One text per video.
        num_backprop_steps (`int` or `GraphSteps`):
            K of the paper, at least 1, at most the number of scheduler steps; or any other choice of steps.
        num_inference_steps (`int`, *optional*):
            Number of sampling steps. By default the pipeline's own.
        generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
            Source of the noise; a list holds one per prompt.
        output_type (`str`, defaults to `"pt"`):
            `"pt"` for frames, `"latent"` for the pipeline's undecoded latents in its own layout.
        checkpoint_calls (`bool`, defaults to `False`):
            Whether to recompute each denoiser call in the backward pass, so that memory does not grow with K.
        observe (`Callable`, *optional*):
            Told of each denoiser call that builds a graph: its output, and a function that repeats the call.
        pipeline_kwargs:
            Any further argument of the pipeline's call (`guidance_scale`, `height`, `width`, `num_frames`, ...).

    Returns:
        `torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`: values in `[0, 1]`, with a graph. A
        pipeline that makes images gives clips of one frame. K out of range, wrong prompts, and a size the pipeline
        cannot make are `ValueError` or `TypeError`; frames without a graph are a `RuntimeError`.

    Reference:
        DRaFT-K of Clark et al. 2024 (arXiv 2309.17400), Sec. 3. Differs: early steps build no graph instead of a
        graph that is cut afterwards; the gradient is the same.
    """
    steps = num_backprop_steps if isinstance(num_backprop_steps, GraphSteps) else last_steps(num_backprop_steps)
    _check_not_inference_mode()
    with follow(pipe, Trajectory(steps, checkpoint_calls, observe)):
        frames = _run_pipeline(pipe, prompts, num_inference_steps, generator, output_type, pipeline_kwargs)
    _check_has_graph(frames, pipe, output_type)
    return frames


def sample_renoised(
    pipe: DiffusionPipeline,
    prompts: Sequence[str],
    num_samples: int,
    *,
    num_inference_steps: int | None = None,
    generator: Generators = None,
    output_type: str = "pt",
    checkpoint_calls: bool = False,
    observe: PredictionObserver | None = None,
    **pipeline_kwargs: Any,
) -> list[torch.Tensor]:
    """Sample without a graph, then noise the sample anew to the last step's level and denoise it once, n times.

    Each of the n results is x0 = clean prediction at x1 = noised(sample), with a graph through that one step. The mean
    of their rewards has a gradient of lower variance than DRaFT-1's. The pipeline itself decodes each: it is called
    once more per sample, all steps but the last passed over.

    Args:
        pipe (`DiffusionPipeline`):
            Any pipeline whose scheduler is one of `clean_prediction.SUPPORTED`.
        prompts (`list[str]`):
            One text per video.
        num_samples (`int`):
            n, at least 1.
        num_inference_steps (`int`, *optional*):
            Number of sampling steps. By default the pipeline's own.
        generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
            Source of all noise; a list holds one per prompt.
        output_type (`str`, defaults to `"pt"`):
            `"pt"` for frames, `"latent"` for the pipeline's undecoded latents in its own layout.
        checkpoint_calls (`bool`, defaults to `False`):
            Whether to recompute each denoiser call in the backward pass.
        observe (`Callable`, *optional*):
            Told of each denoiser call that builds a graph: its output, and a function that repeats the call.
        pipeline_kwargs:
            Any further argument of the pipeline's call.

    Returns:
        `list[torch.Tensor]`: n tensors of shape `(batch_size, num_frames, 3, height, width)`, values in `[0, 1]`.

    Raises:
        ValueError: If n or the scheduler is unfit.

    Reference:
        DRaFT-LV of Clark et al. 2024 (arXiv 2309.17400), Sec. 3. Differs: the sampled video's own last step is not
        one of the n.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1: got {num_samples}.")
    _check_not_inference_mode()
    check_clean_prediction(pipe.scheduler)
    recorded = Trajectory(GraphSteps(lambda num_steps: frozenset()))
    with follow(pipe, recorded):
        _run_pipeline(pipe, prompts, num_inference_steps, generator, "latent", pipeline_kwargs)
    clean = recorded.result[0]
    noises = [_noise_like(clean, generator) for _ in range(num_samples)]
    results = []
    for noise in noises:
        noised = noised_to_last_step(recorded.fresh_scheduler, clean, noise)
        trajectory = Trajectory(
            dataclasses.replace(last_steps(1), predict_clean=True),
            checkpoint_calls,
            observe,
            PassedOver(noised, recorded.prediction, recorded.result),
        )
        with follow(pipe, trajectory):
            result = _run_pipeline(pipe, prompts, num_inference_steps, generator, output_type, pipeline_kwargs)
        _check_has_graph(result, pipe, output_type)
        results.append(result)
    return results


def _noise_like(sample: torch.Tensor, generator: Generators) -> torch.Tensor:
    """Draw standard normal noise for a sample in whose first axis each generator's videos lie together."""
    if not isinstance(generator, list):
        return randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=sample.dtype)
    shape = (len(sample) // len(generator), *sample.shape[1:])
    parts = [randn_tensor(shape, generator=one, device=sample.device, dtype=sample.dtype) for one in generator]
    return torch.cat(parts)


def _check_not_inference_mode() -> None:
    """Raise inside torch.inference_mode(), where no graph can be built whatever the gradient mode."""
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "Sampling with gradients cannot build a graph inside torch.inference_mode(): leave that context "
            "(torch.no_grad() and torch.set_grad_enabled(False) do no harm)."
        )


def _check_has_graph(frames: torch.Tensor, pipe: DiffusionPipeline, output_type: str) -> None:
    """Raise when nothing can be differentiated."""
    if not frames.requires_grad:
        raise RuntimeError(
            f"The {output_type} output of {type(pipe).__name__} has no graph. Either nothing in it requires gradients "
            "in the chosen steps (call requires_grad_() on what is to be tuned; of two denoisers, each takes only its "
            f"part of the steps), or its scheduler ({type(pipe.scheduler).__name__}) or its VAE cuts the graph and "
            "needs replacing."
        )


def _run_pipeline(
    pipe: DiffusionPipeline,
    prompts: Sequence[str],
    num_inference_steps: int | None,
    generator: Generators,
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
    if (
        pipeline_kwargs.get("eta")
        and isinstance(generator, list)
        and len(prompts) > 1
        and find_spec(pipe).folds_frames
    ):
        raise ValueError(
            f"{type(pipe).__name__} gives its scheduler frames as if they were videos, which fresh noise (eta="
            f"{pipeline_kwargs['eta']}) from one generator per video does not fit: sample one video at a time "
            "(per_device_train_batch_size=1, per_device_eval_batch_size=1, --batch_size 1). "
            f"Got {len(prompts)} prompts."
        )
    frames_argument = find_spec(pipe).frames_argument
    arguments = {frames_argument if name == "num_frames" else name: value for name, value in pipeline_kwargs.items()}
    # Unwrapped: inside a decorator such as torch.inference_mode() gradients could not be switched on again.
    call: Callable[..., BaseOutput] = inspect.unwrap(type(pipe).__call__)
    output = call(pipe, prompt=prompts, generator=generator, output_type=output_type, return_dict=True, **arguments)
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
