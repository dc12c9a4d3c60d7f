"""The clean sample that a denoiser predicts in one step, and noising one back: what ReFL and DRaFT-LV need.

Both are asked of the pipeline's scheduler, so every prediction type it knows works. Supported schedulers: those of
`SUPPORTED`. Sources: Xu et al. 2023 (ReFL, arXiv 2304.05977); Clark et al. 2024 (DRaFT-LV, arXiv 2309.17400), Sec. 3.
"""

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

# These return the clean prediction beside the next sample.
_RETURN_IT = (DDIMScheduler, DDPMScheduler, CogVideoXDDIMScheduler, CogVideoXDPMScheduler)
# These keep it, unless set to the algorithms that work on the noise.
_KEEP_IT = (UniPCMultistepScheduler, DPMSolverMultistepScheduler)
# These count their steps instead of looking up the timestep.
_COUNT_STEPS = (FlowMatchEulerDiscreteScheduler, *_KEEP_IT)
SUPPORTED = (*_RETURN_IT, *_COUNT_STEPS)


def check_clean_prediction(scheduler: SchedulerMixin) -> None:
    """Check that a scheduler can say which clean sample a step predicts.

    Args:
        scheduler (`SchedulerMixin`):
            The pipeline's.

    Raises:
        ValueError: If it cannot; the message lists those that can.
    """
    on_noise = isinstance(scheduler, UniPCMultistepScheduler) and not scheduler.config["predict_x0"]
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        on_noise = "++" not in scheduler.config["algorithm_type"]
    if not isinstance(scheduler, SUPPORTED) or on_noise:
        raise ValueError(
            f"ReFL and DRaFT-LV need the clean sample that a step predicts, which {type(scheduler).__name__} does not "
            f"tell{' with an algorithm that works on the noise' if on_noise else ''}: expected one of "
            f"{[kind.__name__ for kind in SUPPORTED]}."
        )


def predicted_clean(
    scheduler: SchedulerMixin, result: BaseOutput | tuple[Any, ...], arguments: Mapping[str, Any]
) -> torch.Tensor:
    """Return the clean sample that the scheduler's latest step predicted.

    Args:
        scheduler (`SchedulerMixin`):
            One of [`SUPPORTED`], just after the step.
        result (`BaseOutput` or `tuple`):
            What the step returned.
        arguments (`Mapping[str, Any]`):
            What it was called with, by name: `model_output` and `sample`.

    Returns:
        `torch.Tensor`: of the sample's shape and the type of the step's sample, with the graph of the prediction.
    """
    sample = result[0]
    if isinstance(scheduler, _RETURN_IT):
        clean = result[1]
    elif isinstance(scheduler, _KEEP_IT):
        clean = scheduler.model_outputs[-1]
    else:
        # The rest of the way in one Euler step. Mochi's sigmas rise to 1 at the clean sample, others' fall to 0.
        way = scheduler.sigmas[-1] - scheduler.sigmas[scheduler.step_index - 1]
        clean = arguments["sample"].float() + way * arguments["model_output"]
    return clean.to(sample.dtype)


def start_at(scheduler: SchedulerMixin, step: int) -> None:
    """Let a scheduler whose steps before this one were passed over take it as its first.

    Args:
        scheduler (`SchedulerMixin`):
            One of [`SUPPORTED`], before its first step.
        step (`int`):
            The step's index.
    """
    if isinstance(scheduler, _COUNT_STEPS):
        scheduler.set_begin_index(step)


def noised_to_last_step(scheduler: SchedulerMixin, clean: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Noise a clean sample to the level of the last step.

    Args:
        scheduler (`SchedulerMixin`):
            One of [`SUPPORTED`] whose timesteps are set and which has taken no step.
        clean (`torch.Tensor`):
            The sample.
        noise (`torch.Tensor`):
            Standard normal, of the same shape.

    Returns:
        `torch.Tensor`: of the same shape and type.
    """
    last = len(scheduler.timesteps) - 1
    start_at(scheduler, last)
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        share = (scheduler.sigmas[-1] - scheduler.sigmas[last]).abs().to(clean.device)
        return ((1 - share) * clean + share * noise).to(clean.dtype)
    timesteps = scheduler.timesteps[last].expand(len(clean))
    return scheduler.add_noise(clean, noise, timesteps).to(clean.dtype)
