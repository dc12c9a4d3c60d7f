"""One call of a pipeline, followed through its scheduler's steps and its denoiser's calls: what builds a graph.

The pipeline's own call runs as it is; only the gradient mode changes while it runs. Which mode holds where:

- before the first graph step, prompt encoding included: no graph;
- from there to the end, decoding included: the graph is on, so that the scheduler's arithmetic carries gradients;
- the denoiser's calls of steps in between that build no graph: no graph, their predictions count as constants.

Source: K-truncation of DRaFT (Clark et al. 2024, arXiv 2309.17400); DRTune (Wu et al. 2024, arXiv 2405.00760).
"""

import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from draftv_trainer.checkpointing import checkpointed
from draftv_trainer.clean_prediction import check_clean_prediction, predicted_clean, start_at
from draftv_trainer.graph_steps import GraphSteps
from draftv_trainer.lora import find_denoiser, find_denoisers

# Told of each denoiser call that builds a graph: its output, and a function that repeats the call.
PredictionObserver = Callable[[Any, Callable[[], Any]], None]
StepResult: TypeAlias = BaseOutput | tuple[Any, ...]


@dataclass(frozen=True)
class PassedOver:
    """What the steps that are passed over return, the denoiser and the scheduler both left alone.

    Args:
        sample (`torch.Tensor`):
            The sample, in the layout of the scheduler's step.
        prediction (`Any`):
            An output of the denoiser, for its form only.
        result (`BaseOutput` or `tuple`):
            A result of the scheduler's step, for its form only.
    """

    sample: torch.Tensor
    prediction: Any
    result: StepResult


class Trajectory:
    """Count the steps of one scheduler, and set the gradient mode for what follows each of them.

    Args:
        graph_steps (`GraphSteps`):
            Which steps build a graph.
        checkpoint_calls (`bool`, defaults to `False`):
            Whether to checkpoint whole denoiser calls.
        observe (`Callable`, *optional*):
            Told of every call that builds a graph of the denoiser that is tuned.
        passed_over (`PassedOver`, *optional*):
            Given, the steps before the graph step are passed over.
    """

    def __init__(
        self,
        graph_steps: GraphSteps,
        checkpoint_calls: bool = False,
        observe: PredictionObserver | None = None,
        passed_over: PassedOver | None = None,
    ) -> None:
        self.graph_steps = graph_steps
        self.checkpoint_calls = checkpoint_calls
        self.observe = observe
        self.passed_over = passed_over
        self.num_steps = 0
        self.num_done = 0
        self.chosen: frozenset[int] = frozenset()
        self.prediction: Any = None
        self.result: StepResult = ()
        self.fresh_scheduler: SchedulerMixin | None = None

    def start(self, scheduler: SchedulerMixin) -> None:
        """Begin a trajectory over the timesteps that the scheduler has just set."""
        num_steps = len(scheduler.timesteps)
        self.num_steps, self.num_done = num_steps, 0
        self.fresh_scheduler = copy.deepcopy(scheduler)
        self.chosen = self.graph_steps.choose(num_steps)
        outside = sorted(self.chosen - set(range(num_steps)))
        if outside:
            raise ValueError(
                f"The steps that build a graph must lie within the trajectory: got {outside}, but the scheduler takes "
                f"{num_steps} steps, 0 to {num_steps - 1}."
            )
        self._switch()

    def step(
        self, scheduler: SchedulerMixin, take: Callable[..., StepResult], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> StepResult:
        """Take or pass over one scheduler step."""
        passed_over = self._passed_over()
        if passed_over is not None:
            result = _with_sample(passed_over.result, passed_over.sample)
        else:
            result = self._take(scheduler, take, args, kwargs)
        self.num_done += 1
        self._switch()
        return result

    def denoise(
        self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], observed: bool
    ) -> Any:
        """Make or pass over one denoiser call."""
        passed_over = self._passed_over()
        if passed_over is not None:
            return passed_over.prediction
        if self.num_done not in self.chosen:
            with torch.no_grad():
                self.prediction = forward(*args, **kwargs)
            return self.prediction
        if self.graph_steps.detach_input:
            args, kwargs = _detached(args), _detached(kwargs)
        if self.checkpoint_calls:
            self.prediction = checkpointed(forward, args, kwargs)
        else:
            self.prediction = forward(*args, **kwargs)
        if self.observe is not None and observed:
            self.observe(self.prediction, functools.partial(forward, *args, **kwargs))
        return self.prediction

    def check_finished(self, pipeline_name: str) -> None:
        """Raise unless the loop took the steps it announced, for else the wrong ones built the graph."""
        if self.num_steps == 0 or self.num_done != self.num_steps:
            raise RuntimeError(
                f"{pipeline_name} called scheduler.step {self.num_done} times where its scheduler announced "
                f"{self.num_steps} steps: which of them are the last cannot be known beforehand. Pipelines that start "
                "in the middle of the schedule are not supported."
            )

    def _take(
        self, scheduler: SchedulerMixin, take: Callable[..., StepResult], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> StepResult:
        """Take one scheduler step; the last graph step may end the trajectory with the clean sample it predicts."""
        ends = self.graph_steps.predict_clean and self.num_done == max(self.chosen)
        if ends and self.passed_over is not None:
            start_at(scheduler, self.num_done)
        result = take(*args, **kwargs)
        _check_graph(scheduler, args[0] if args else kwargs["model_output"], result)
        if ends:
            named = inspect.signature(take).bind(*args, **kwargs).arguments
            clean = predicted_clean(scheduler, result, named)
            self.passed_over = PassedOver(clean, self.prediction, result)
            result = _with_sample(result, clean)
        self.result = result
        return result

    def _passed_over(self) -> PassedOver | None:
        """Return what stands in for the current step, or None when it is really taken."""
        return None if self.num_done in self.chosen else self.passed_over

    def _switch(self) -> None:
        """Set the gradient mode for the step that comes next, or for decoding once all are done."""
        torch.set_grad_enabled(self.num_done >= min(self.chosen, default=self.num_steps))


@contextmanager
def follow(pipe: DiffusionPipeline, trajectory: Trajectory) -> Iterator[None]:
    """Let one call of the pipeline build a graph as the trajectory says, nowhere else.

    Within the context the pipeline works with a copy of its scheduler whose `set_timesteps` and `step` also report to
    the trajectory, as does the denoiser's `forward`. Counting scheduler calls needs no callback of the pipeline, and a
    copy keeps the user's scheduler free of state and of references to the graph. A loop that takes another number of
    steps than its scheduler announced is a `RuntimeError`, for the wrong steps built the graph.

    Args:
        pipe (`DiffusionPipeline`):
            A pipeline with a component called `scheduler`.
        trajectory (`Trajectory`):
            A fresh one.

    Raises:
        ValueError: If the pipeline has no scheduler, or one that cannot do what is asked.
    """
    scheduler = pipe.components.get("scheduler")
    if not isinstance(scheduler, SchedulerMixin):
        raise ValueError(
            f"{type(pipe).__name__} has no component called `scheduler` (it has {sorted(pipe.components)}): "
            "its sampling steps cannot be told apart."
        )
    if trajectory.graph_steps.predict_clean:
        check_clean_prediction(scheduler)
    previous_mode = torch.is_grad_enabled()
    watched = copy.deepcopy(scheduler)
    _watch(watched, trajectory)
    _, tuned = find_denoiser(pipe)
    with ExitStack() as reporting:
        for denoiser in find_denoisers(pipe).values():
            reporting.enter_context(_calls_reported(denoiser, trajectory, observed=denoiser is tuned))
        pipe.scheduler = watched
        try:
            torch.set_grad_enabled(False)
            yield
            trajectory.check_finished(type(pipe).__name__)
        finally:
            pipe.scheduler = scheduler
            torch.set_grad_enabled(previous_mode)


def _watch(scheduler: Any, trajectory: Trajectory) -> None:
    """Wrap `set_timesteps` and `step` of this scheduler, signatures kept, for pipelines inspect them."""
    scheduler_class = type(scheduler)

    @functools.wraps(scheduler_class.set_timesteps)
    def set_timesteps(this: Any, *args: Any, **kwargs: Any) -> Any:
        result = scheduler_class.set_timesteps(this, *args, **kwargs)
        if this is scheduler:
            trajectory.start(this)
        return result

    @functools.wraps(scheduler_class.step)
    def step(this: Any, *args: Any, **kwargs: Any) -> Any:
        take = types.MethodType(scheduler_class.step, this)
        return trajectory.step(this, take, args, kwargs) if this is scheduler else take(*args, **kwargs)

    # Bound methods, not closures: a pipeline that copies its scheduler gets methods of the copy, uncounted.
    scheduler.set_timesteps = types.MethodType(set_timesteps, scheduler)
    scheduler.step = types.MethodType(step, scheduler)


@contextmanager
def _calls_reported(denoiser: torch.nn.Module, trajectory: Trajectory, observed: bool) -> Iterator[None]:
    """Report the calls of the denoiser's forward; one that another library has put on the instance stays inside."""
    already_own = "forward" in vars(denoiser)
    forward = denoiser.forward

    @functools.wraps(forward)
    def reported(*args: Any, **kwargs: Any) -> Any:
        return trajectory.denoise(forward, args, kwargs, observed)

    denoiser.forward = reported
    try:
        yield
    finally:
        if already_own:
            denoiser.forward = forward
        else:
            del denoiser.forward


def _check_graph(scheduler: SchedulerMixin, prediction: torch.Tensor, result: StepResult) -> None:
    """Raise for a scheduler whose sample has no graph though the prediction it was made of has one."""
    if torch.is_grad_enabled() and prediction.requires_grad and not result[0].requires_grad:
        raise RuntimeError(
            f"The scheduler {type(scheduler).__name__} cuts the graph: the denoiser's prediction carries one, the "
            "sample that step() makes of it does not. Use another one, such as DDIMScheduler or "
            "FlowMatchEulerDiscreteScheduler, made with from_config(pipe.scheduler.config)."
        )


def _with_sample(result: StepResult, sample: torch.Tensor) -> StepResult:
    """Return the result of a scheduler step with another sample in it."""
    if isinstance(result, tuple):
        return (sample, *result[1:])
    return type(result)(**{**result, "prev_sample": sample})


def _detached(value: Any) -> Any:
    """Detach every tensor in a value made of tuples, lists and dicts."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, list | tuple):
        return type(value)(_detached(item) for item in value)
    if isinstance(value, dict):
        return {key: _detached(item) for key, item in value.items()}
    return value
