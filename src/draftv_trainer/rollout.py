"""One step's forward pass as a single module: prompts in, videos sampled and scored, loss out.

Trainer (and DistributedDataParallel through it) wraps this module, while the pipeline inside keeps calling its own
raw denoiser. Source: the DRaFT-V objective (Wu et al. 2024, Sec. 3.3): maximise the reward of the sampled clip.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from draftv_trainer.sampling import check_pipeline_kwargs, sample, sample_with_grad
from videorm_hf.rewards import Reward

RewardFunction = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class SamplingSettings:
    """How videos are sampled while tuning; what is not in `pipeline_kwargs` is the pipeline's own default.

    Args:
        num_backprop_steps (`int`):
            K of the paper.
        num_inference_steps (`int`, *optional*):
            Number of sampling steps.
        reward_num_frames (`int`, *optional*):
            Number of frames, spread over the clip, that the rewards see; by default all.
        pipeline_kwargs (`dict[str, Any]`):
            Further arguments of the pipeline's call.
    """

    num_backprop_steps: int
    num_inference_steps: int | None = None
    reward_num_frames: int | None = None
    pipeline_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RewardTerm:
    """One reward of the mixture.

    Args:
        name (`str`):
            Under which it is logged.
        function (`Callable`):
            `(frames (B, T, 3, H, W) in [0, 1], prompts, **columns) -> (B,)`.
        weight (`float`):
            Its share in the total. At 0 it is computed without a graph, only to be logged.
        columns (`frozenset[str]`, *optional*):
            The dataset columns it takes; None means all of them.
    """

    name: str
    function: RewardFunction
    weight: float
    columns: frozenset[str] | None

    def score(self, frames_BTCHW: torch.Tensor, prompts: list[str], columns: dict[str, list[Any]]) -> torch.Tensor:
        """Call the reward with the columns it takes and check what it returns.

        Args:
            frames_BTCHW (`torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`):
                Values in `[0, 1]`.
            prompts (`list[str]`):
                One text per clip.
            columns (`dict[str, list[Any]]`):
                The dataset's other columns.

        Returns:
            `torch.Tensor` of shape `(batch_size,)`, float32: higher is better. Values of the wrong type or shape, not
            finite or not differentiable are a `TypeError` or `ValueError`.
        """
        chosen = {key: value for key, value in columns.items() if self.columns is None or key in self.columns}
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.weight != 0.0):
            values = self.function(frames_BTCHW, prompts, **chosen)
            self._check(values, frames_BTCHW, prompts)
            return values.float()

    def _check(self, values: torch.Tensor, frames_BTCHW: torch.Tensor, prompts: list[str]) -> None:
        """Raise what is wrong with the values, saying what was got and what was expected."""
        if not isinstance(values, torch.Tensor) or not values.is_floating_point():
            kind = values.dtype if isinstance(values, torch.Tensor) else type(values).__name__
            raise TypeError(f"Reward {self.name!r} must return a floating-point tensor: got {kind}.")
        if values.shape != (len(prompts),):
            raise ValueError(
                f"Reward {self.name!r} must return one value per video, shape ({len(prompts)},): got shape "
                f"{tuple(values.shape)} for frames of shape {tuple(frames_BTCHW.shape)}."
            )
        finite = torch.isfinite(values.detach()).tolist()
        if not all(finite):
            index = finite.index(False)
            raise ValueError(
                f"Reward {self.name!r} must return finite values: got {values[index].item()} for the prompt "
                f"{prompts[index]!r}."
            )
        if torch.is_grad_enabled() and not values.requires_grad:
            raise ValueError(
                f"Reward {self.name!r} cannot be differentiated: its values carry no graph to the frames. Remove "
                "detach(), torch.no_grad() and NumPy from it, or give it the weight 0 to log it only."
            )


def make_reward_terms(functions: Sequence[RewardFunction], weights: Sequence[float] | None = None) -> list[RewardTerm]:
    """Name the rewards, pair them with their weights and find out which columns each takes.

    Args:
        functions (`list[Callable]`):
            The rewards.
        weights (`list[float]`, *optional*):
            One per reward; by default 1 each.

    Returns:
        `list[RewardTerm]`: in the same order; a name that occurs twice is numbered (`mean`, `mean_2`).

    Raises:
        TypeError: If a reward cannot be called.
        ValueError: If there is no reward, weights and rewards differ in number, or all weights are 0.
    """
    if not functions:
        raise ValueError("reward_funcs must hold at least one reward: got none.")
    weights = [1.0] * len(functions) if weights is None else list(weights)
    if len(weights) != len(functions):
        raise ValueError(f"reward_weights must hold one weight per reward: got {len(weights)} for {len(functions)}.")
    if not any(weights):
        raise ValueError(f"At least one of reward_weights must differ from 0: got {weights}.")
    terms: list[RewardTerm] = []
    for function, weight in zip(functions, weights, strict=True):
        if not callable(function):
            raise TypeError(
                "reward_funcs must hold callables (frames, prompts, **columns) -> (batch,) or paths of VIDEORM "
                f"folders: got {type(function).__name__}."
            )
        name = _reward_name(function)
        earlier = sum(term.name == name or term.name.rpartition("_")[0] == name for term in terms)
        name = f"{name}_{earlier + 1}" if earlier else name
        terms.append(RewardTerm(name, function, float(weight), _accepted_columns(function)))
    return terms


def _reward_name(function: RewardFunction) -> str:
    """Return a reward's own name, a function's name, or the class name of any other callable."""
    if isinstance(function, Reward):
        return function.name
    if isinstance(function, functools.partial):
        return _reward_name(function.func)
    if inspect.isroutine(function):
        return function.__name__
    return type(function).__name__


def _accepted_columns(function: RewardFunction) -> frozenset[str] | None:
    """Return the names of the columns a reward takes, or None when it takes any."""
    signature = inspect.signature(function.forward if isinstance(function, torch.nn.Module) else function)
    parameters = list(signature.parameters.values())
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters[2:])


def noise_seed(seed: int, step: int, position: int) -> int:
    """Derive the noise seed of one sample from facts alone, never from hidden random state.

    Args:
        seed (`int`):
            The run's seed.
        step (`int`):
            Optimisation step.
        position (`int`):
            Place of the sample in the global batch of that step, counted over micro-steps, processes and batch, so
            that the noise does not depend on how a global batch is divided.

    Returns:
        `int`: in `[0, 2**63)`.
    """
    entropy = np.random.SeedSequence([seed, step, position]).generate_state(1, np.uint64)
    return int(entropy[0] >> np.uint64(1))


def spread_frames(frames_BTCHW: torch.Tensor, num_frames: int | None) -> torch.Tensor:
    """Take the middle frames of `num_frames` equal parts of the clip.

    Args:
        frames_BTCHW (`torch.Tensor` of shape `(batch_size, time, 3, height, width)`):
            The whole clips. Gradients flow through.
        num_frames (`int`, *optional*):
            How many to take; None takes all.

    Returns:
        `torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`.

    Raises:
        ValueError: If the clip has fewer frames.
    """
    time = frames_BTCHW.shape[1]
    if num_frames is None or num_frames == time:
        return frames_BTCHW
    if num_frames > time:
        raise ValueError(f"reward_num_frames must be at most the number of frames: got {num_frames} of {time}.")
    index = [(2 * part + 1) * time // (2 * num_frames) for part in range(num_frames)]
    return frames_BTCHW[:, index]


class RewardRollout(torch.nn.Module):
    """Sample videos for prompts and score them; in training mode with a graph through the last K steps.

    Args:
        pipe (`DiffusionPipeline`):
            The pipeline that is tuned. It stays usable by its owner.
        denoiser (`ModelMixin`):
            The pipeline's denoiser: the only network whose weights this module shows to the optimiser.
        terms (`list[RewardTerm]`):
            The rewards.
        settings (`SamplingSettings`):
            How to sample.

    Raises:
        ValueError: If the settings hold an argument the pipeline does not take.
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        denoiser: ModelMixin,
        terms: Sequence[RewardTerm],
        settings: SamplingSettings,
    ) -> None:
        super().__init__()
        self.pipe = pipe
        self.denoiser = denoiser
        self.terms = tuple(terms)
        self.settings = settings
        _check_accepted(pipe, settings)

    def train(self, mode: bool = True) -> "RewardRollout":
        """Choose between sampling with a graph and without; every network stays in evaluation mode.

        Args:
            mode (`bool`, defaults to `True`):
                Whether to build a graph.

        Returns:
            `RewardRollout`: itself.
        """
        self.training = mode
        return self

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Recompute the denoiser's blocks in the backward pass instead of keeping their activations.

        Args:
            options:
                What Trainer passes along; only its defaults are possible with diffusers models.

        Raises:
            ValueError: If an option is not the default.
        """
        defaults = {"every_n_layers": 1, "offload": False}
        changed = {key: value for key, value in options.items() if value and value != defaults.get(key)}
        if changed:
            raise ValueError(f"Checkpointing of a diffusers model takes no options: got {changed}. Remove them.")
        self.denoiser.enable_gradient_checkpointing()

    # The same hook under the name that older versions of transformers call.
    gradient_checkpointing_enable = activation_checkpointing_enable

    def forward(self, prompts: list[str], columns: dict[str, list[Any]], seeds: list[int]) -> dict[str, torch.Tensor]:
        """Sample one video per prompt and score it.

        Args:
            prompts (`list[str]`):
                Texts.
            columns (`dict[str, list[Any]]`):
                The dataset's other columns, for the rewards.
            seeds (`list[int]`):
                Noise seed of each video.

        Returns:
            `dict[str, torch.Tensor]`: `loss`, the negated mean of the total reward, a scalar; `rewards` of shape
            `(num_rewards, batch_size)` and `total` of shape `(batch_size,)`, both without a graph.
        """
        # Explicit on both sides: another library may have turned gradients off, and evaluation needs none.
        with torch.set_grad_enabled(self.training):
            frames_BTCHW = spread_frames(self._sample(prompts, seeds), self.settings.reward_num_frames).float()
            rewards = torch.stack([term.score(frames_BTCHW, prompts, columns) for term in self.terms])
            weights = torch.tensor([term.weight for term in self.terms], device=rewards.device)
            total = (weights[:, None] * rewards).sum(dim=0)
            return {"loss": -total.mean(), "rewards": rewards.detach(), "total": total.detach()}

    def _sample(self, prompts: list[str], seeds: list[int]) -> torch.Tensor:
        """Sample frames (B, T, 3, H, W), with a graph in training mode only."""
        settings = self.settings
        arguments: dict[str, Any] = dict(settings.pipeline_kwargs)
        arguments["num_inference_steps"] = settings.num_inference_steps
        # On the CPU, one per sample: the noise is the same on every device and in every batch.
        arguments["generator"] = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        if self.training:
            return sample_with_grad(self.pipe, prompts, settings.num_backprop_steps, **arguments)
        return sample(self.pipe, prompts, **arguments)


def _check_accepted(pipe: DiffusionPipeline, settings: SamplingSettings) -> None:
    """Raise when the pipeline's call lacks one of the arguments, before anything is sampled."""
    check_pipeline_kwargs(dict(settings.pipeline_kwargs))
    parameters = inspect.signature(pipe.__call__).parameters
    unknown = sorted(set(settings.pipeline_kwargs) - set(parameters))
    if unknown:
        raise ValueError(
            f"{type(pipe).__name__} does not take {unknown}: leave them out. It takes {sorted(parameters)}."
        )
    if settings.pipeline_kwargs.get("num_videos_per_prompt", 1) != 1:
        raise ValueError("num_videos_per_prompt must be 1: repeat the prompt in the dataset instead.")
