"""One step's forward pass as a single module: prompts in, videos sampled and scored, loss out.

Trainer (and DistributedDataParallel through it) wraps this module, while the pipeline inside keeps calling its own
raw denoiser. Source: the DRaFT-V objective (Wu et al. 2024, Sec. 3.3): maximise the reward of the sampled clip.
"""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from draftv_trainer.augmentation import RewardAugmentation, augment
from draftv_trainer.checkpointing import apply_checkpointing, check_checkpointing
from draftv_trainer.clean_prediction import check_clean_prediction
from draftv_trainer.decoding import (
    REWARD_NUM_FRAMES,
    clip_length,
    reward_decoding,
    spread_frames,
    spread_indices,
)
from draftv_trainer.graph_steps import GraphSteps, check_backprop, last_steps, make_graph_steps
from draftv_trainer.lora import find_denoisers
from draftv_trainer.pipelines import check_sizes, find_spec
from draftv_trainer.reference import ReferenceDistance
from draftv_trainer.reward_terms import (
    RewardTerm,
    Scores,
    check_finite,
    frames_to_read,
    mean_scores,
    score_frames,
)
from draftv_trainer.sampling import check_pipeline_kwargs, sample, sample_renoised, sample_with_grad


@dataclass(frozen=True)
class SamplingSettings:
    """How videos are sampled while tuning; what is not in `pipeline_kwargs` is the pipeline's own default.

    Args:
        num_backprop_steps (`int`, *optional*):
            K of the paper. By default 10 for `"last"` and `"drtune"`, 1 with `lv_samples`, any number for `"random"`.
        num_inference_steps (`int`, *optional*):
            Number of sampling steps.
        backprop (`str`, defaults to `"last"`):
            Which steps build a graph ([`~draftv_trainer.graph_steps.make_graph_steps`]).
        refl_range (`list[int]`, *optional*):
            First and last step of `"refl"`; by default the last quarter of the trajectory.
        lv_samples (`int`, *optional*):
            n of DRaFT-LV ([`~draftv_trainer.sampling.sample_renoised`]); by default not used.
        checkpointing (`str`, defaults to `"auto"`):
            What is computed again in the backward pass ([`~draftv_trainer.checkpointing.apply_checkpointing`]).
        reference_coef (`float`, defaults to `0.0`):
            Weight of the distance to the untuned denoiser's predictions in the loss.
        reward_clip (`float`, *optional*):
            The largest total reward that counts.
        reward_num_frames (`int`, *optional*):
            Number of frames, spread over the clip, that the rewards see; by default 8, more for a VIDEORM that reads
            more, or all of a shorter clip.
        vae_checkpointing (`bool`, defaults to `True`):
            Whether to compute decoding again in the backward pass ([`~draftv_trainer.decoding.reward_decoding`]).
        vae_tiling (`bool`, defaults to `False`):
            Whether to decode in tiles.
        augmentation (`RewardAugmentation`, *optional*):
            How the frames are changed before the rewards in training mode; by default not.
        pipeline_kwargs (`dict[str, Any]`):
            Further arguments of the pipeline's call.
    """

    num_backprop_steps: int | None = None
    num_inference_steps: int | None = None
    backprop: str = "last"
    refl_range: Sequence[int] | None = None
    lv_samples: int | None = None
    checkpointing: str = "auto"
    reference_coef: float = 0.0
    reward_clip: float | None = None
    reward_num_frames: int | None = None
    vae_checkpointing: bool = True
    vae_tiling: bool = False
    augmentation: RewardAugmentation | None = None
    pipeline_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_backprop(self.backprop, self.num_backprop_steps, self.refl_range)
        check_checkpointing(self.checkpointing)
        if self.reference_coef < 0.0:
            raise ValueError(f"reference_coef must be at least 0: got {self.reference_coef}.")
        if self.lv_samples is None:
            return
        if self.lv_samples < 1:
            raise ValueError(f"lv_samples must be at least 1, or None for no re-noising: got {self.lv_samples}.")
        if self.backprop != "last" or self.num_backprop_steps not in (None, 1):
            raise ValueError(
                'lv_samples needs backprop="last" with num_backprop_steps=1, for it re-noises to the last step: got '
                f"backprop={self.backprop!r}, num_backprop_steps={self.num_backprop_steps}."
            )

    def graph_steps(self, step_seed: int) -> GraphSteps:
        """Build the choice of steps for one optimisation step.

        Args:
            step_seed (`int`):
                Of the random choices.

        Returns:
            `GraphSteps`: the choice.
        """
        if self.lv_samples is not None:
            return last_steps(1)
        return make_graph_steps(self.backprop, self.num_backprop_steps, step_seed, self.refl_range)


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


def step_seed(seed: int, step: int) -> int:
    """Derive the seed of what the whole global batch of one optimisation step shares.

    Args:
        seed (`int`):
            The run's seed.
        step (`int`):
            Optimisation step.

    Returns:
        `int`: in `[0, 2**63)`, unrelated to the seeds of [`noise_seed`].
    """
    entropy = np.random.SeedSequence([seed, step], spawn_key=(1,)).generate_state(1, np.uint64)
    return int(entropy[0] >> np.uint64(1))


class RewardRollout(torch.nn.Module):
    """Sample videos for prompts and score them; in training mode with a graph through the chosen steps.

    Args:
        pipe (`DiffusionPipeline`):
            The pipeline that is tuned. It stays usable by its owner.
        denoiser (`ModelMixin`):
            The denoiser that is tuned: the only network whose weights this module shows to the optimiser.
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
        self.settings = settings = _with_enough_frames(settings, pipe, terms)
        check_accepted(pipe, settings)
        with self._decoding():  # raises what is wrong with its settings
            pass
        graph_steps = settings.graph_steps(step_seed=0)
        if graph_steps.predict_clean or settings.lv_samples is not None:
            check_clean_prediction(pipe.scheduler)
        num_graph_steps = graph_steps.at_most if settings.lv_samples is None else settings.lv_samples
        for network in find_denoisers(pipe).values():
            self.checkpoint_calls = apply_checkpointing(settings.checkpointing, network, num_graph_steps)

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

    def forward(
        self,
        prompts: list[str],
        columns: dict[str, list[Any]],
        seeds: list[int],
        step_seed: int = 0,
        require_finite: bool = False,
    ) -> dict[str, Any]:
        """Sample one video per prompt and score it.

        Args:
            prompts (`list[str]`):
                Texts.
            columns (`dict[str, list[Any]]`):
                The dataset's other columns, for the rewards.
            seeds (`list[int]`):
                Noise seed of each video.
            step_seed (`int`, defaults to `0`):
                Seed of what the whole global batch shares: the random choice of steps that build a graph.
            require_finite (`bool`, defaults to `False`):
                Whether rewards that are not finite are a `ValueError`; else the loss is not finite either.

        Returns:
            `dict[str, Any]`: `loss`, a scalar; `rewards` of shape `(num_rewards, batch_size)` and `total` of shape
            `(batch_size,)`, both without a graph; `metrics`, scalars by name, means over the batch.
        """
        # Explicit on both sides: another library may have turned gradients off, and evaluation needs none.
        with torch.set_grad_enabled(self.training):
            regularise = self.training and self.settings.reference_coef > 0.0
            reference = ReferenceDistance(self.denoiser) if regularise else None
            clips = self._sample(prompts, seeds, step_seed, reference)
            scores = mean_scores([self._score(clip_BTCHW, prompts, columns, seeds) for clip_BTCHW in clips])
            if require_finite:
                check_finite(self.terms, scores.rewards, prompts)
            loss, metrics = scores.loss, scores.metrics(self.terms)
            if reference is not None:
                distance = reference.mean()
                loss = loss + self.settings.reference_coef * distance
                metrics["reference_distance"] = distance.detach()
            return {"loss": loss, "rewards": scores.rewards, "total": scores.total, "metrics": metrics}

    def _score(
        self, clip_BTCHW: torch.Tensor, prompts: list[str], columns: dict[str, list[Any]], seeds: list[int]
    ) -> Scores:
        """Score the frames that the rewards see, augmented in training mode."""
        frames_BTCHW = spread_frames(clip_BTCHW, self.settings.reward_num_frames).float()
        if self.training and self.settings.augmentation is not None:
            frames_BTCHW = augment(frames_BTCHW, self.settings.augmentation, seeds)
        return score_frames(self.terms, frames_BTCHW, prompts, columns, self.settings.reward_clip)

    def _sample(
        self, prompts: list[str], seeds: list[int], step_seed: int, reference: ReferenceDistance | None
    ) -> list[torch.Tensor]:
        """Sample clips (B, T, 3, H, W), with a graph in training mode only: one batch, or one per DRaFT-LV sample."""
        settings = self.settings
        arguments: dict[str, Any] = dict(settings.pipeline_kwargs)
        arguments["num_inference_steps"] = settings.num_inference_steps
        # On the CPU, one per sample: the noise is the same on every device and in every batch.
        arguments["generator"] = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        with self._decoding():
            if not self.training:
                return [sample(self.pipe, prompts, **arguments)]
            arguments |= {"checkpoint_calls": self.checkpoint_calls, "observe": reference}
            if settings.lv_samples is not None:
                return sample_renoised(self.pipe, prompts, settings.lv_samples, **arguments)
            return [sample_with_grad(self.pipe, prompts, settings.graph_steps(step_seed), **arguments)]

    def _decoding(self) -> AbstractContextManager[None]:
        """Decode the frames that the rewards see, and no others where the VAE can leave them out."""
        settings = self.settings
        num_frames = clip_length(self.pipe, settings.pipeline_kwargs)
        wanted = None if num_frames is None else spread_indices(num_frames, settings.reward_num_frames)
        memory = {"checkpointing": settings.vae_checkpointing, "tiling": settings.vae_tiling}
        return reward_decoding(self.pipe, num_frames, wanted, **memory)


def _with_enough_frames(
    settings: SamplingSettings, pipe: DiffusionPipeline, terms: Sequence[RewardTerm]
) -> SamplingSettings:
    """Give a VIDEORM that reads more frames than the default as many, where the clip has them."""
    wanted = frames_to_read(terms)
    if settings.reward_num_frames is not None or wanted is None or wanted <= REWARD_NUM_FRAMES:
        return settings
    length = clip_length(pipe, settings.pipeline_kwargs)
    return replace(settings, reward_num_frames=wanted if length is None else min(wanted, length))


def check_accepted(pipe: DiffusionPipeline, settings: SamplingSettings) -> None:
    """Check that a pipeline can be sampled so, before anything is sampled.

    Args:
        pipe (`DiffusionPipeline`):
            The pipeline.
        settings (`SamplingSettings`):
            How it is to be sampled.

    Raises:
        ValueError: If its call lacks an argument, it cannot make the size, it takes fewer steps than are to get a
            gradient, makes fewer frames than are to be read, or has a safety checker.
    """
    if getattr(pipe, "safety_checker", None) is not None:
        raise ValueError(
            f"{type(pipe).__name__} has a safety checker, through which no gradient passes: load it with "
            "safety_checker=None."
        )
    length = clip_length(pipe, settings.pipeline_kwargs)
    if length is not None:
        spread_indices(length, settings.reward_num_frames)
    if settings.num_inference_steps is not None and getattr(pipe.scheduler, "order", None) == 1:
        settings.graph_steps(step_seed=0).choose(settings.num_inference_steps)
    check_pipeline_kwargs(dict(settings.pipeline_kwargs))
    parameters = set(inspect.signature(pipe.__call__).parameters)
    if find_spec(pipe).frames_argument in parameters:
        parameters.add("num_frames")  # which is handed on by the pipeline's own name for it
    unknown = sorted(set(settings.pipeline_kwargs) - parameters)
    if unknown:
        raise ValueError(
            f"{type(pipe).__name__} does not take {unknown}: leave them out. It takes {sorted(parameters)}."
        )
    if settings.pipeline_kwargs.get("num_videos_per_prompt", 1) != 1:
        raise ValueError("num_videos_per_prompt must be 1: repeat the prompt in the dataset instead.")
    check_sizes(find_spec(pipe), pipe, settings.pipeline_kwargs)
