"""InstructVideo and InstructVideo-V: tuning by editing real clips, the baselines that DRaFT-V is compared with.

A real clip is noised part of the way and denoised again; the gradient passes through the last step. With
`FrameMean(image_reward, num_segments=4, attenuation=1.0)` as the reward this is InstructVideo (SegVR and TAR), with a
video reward InstructVideo-V. DRaFT-H needs nothing from here: it is DRaFT-V with `FrameMean(image_reward)`.
Sources: Yuan et al. 2023 (InstructVideo, arXiv 2312.12490); Wu et al. 2024 (NeurIPS), Sec. 4.

Layouts: frames_BTCHW has axes batch, time, channel, height, width; latents_BCTHW as the pipeline takes them.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL, CogVideoXDDIMScheduler, DDIMScheduler, SchedulerMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from draftv_trainer.draftv_config import DRaFTVConfig
from draftv_trainer.draftv_trainer import DRaFTVTrainer
from draftv_trainer.reward_terms import RewardTerm
from draftv_trainer.rollout import RewardRollout, SamplingSettings, noise_seed
from videorm_hf.models.videorm.video_decoding_videorm import read_frames

Clip: TypeAlias = str | os.PathLike[str] | Mapping[str, Any]

# These look up what a step needs by its timestep alone, so that steps can be left out.
SCHEDULERS = (DDIMScheduler, CogVideoXDDIMScheduler)


@dataclass
class InstructVideoConfig(DRaFTVConfig):
    r"""Configure an [`InstructVideoTrainer`]: a [`DRaFTVConfig`] with the paper's defaults.

    `num_inference_steps` is 20, `num_backprop_steps` 1, a clip has 16 frames of 256 x 256 pixels, and the rewards see
    all frames. Once tuned, the pipeline samples from pure noise as ever; so does evaluation.

    Parameters:
        num_edit_steps (`int`, *optional*, defaults to `12`):
            How many of the sampling steps, the last ones, denoise the noised clip: of 20 steps 12 start at t = 551.
    """

    num_inference_steps: int | None = field(default=20, metadata={"help": "Number of sampling steps."})
    num_backprop_steps: int | None = field(
        default=None, metadata={"help": "Steps with a gradient. Default: the last one, with backprop='last'."}
    )
    num_frames: int | None = field(default=16, metadata={"help": "Frames per video."})
    height: int | None = field(default=256, metadata={"help": "Height in pixels."})
    width: int | None = field(default=256, metadata={"help": "Width in pixels."})
    num_edit_steps: int = field(default=12, metadata={"help": "Last sampling steps that denoise the noised clip."})

    def __post_init__(self) -> None:
        if self.reward_num_frames is None:
            self.reward_num_frames = self.num_frames
        if self.num_backprop_steps is None and self.backprop == "last":
            self.num_backprop_steps = 1
        super().__post_init__()
        if self.num_inference_steps is not None and not 1 <= self.num_edit_steps <= self.num_inference_steps:
            raise ValueError(
                f"num_edit_steps must be between 1 and num_inference_steps={self.num_inference_steps}: got "
                f"{self.num_edit_steps}."
            )
        if self.num_backprop_steps is not None and self.num_backprop_steps > self.num_edit_steps:
            raise ValueError(
                f"num_backprop_steps must be at most num_edit_steps={self.num_edit_steps}, the steps that are taken: "
                f"got {self.num_backprop_steps}."
            )
        if self.lv_samples is not None or self.backprop == "refl":
            raise ValueError('InstructVideo denoises to the end: got lv_samples or backprop="refl", which do not.')


class InstructVideoTrainer(DRaFTVTrainer):
    """Tune a pipeline by the reward of edited real clips.

    Arguments are those of [`DRaFTVTrainer`]; `args` is an [`InstructVideoConfig`], and the datasets have a column
    `video` beside `prompt`: paths, or `datasets`' `Video(decode=False)`. The pipeline needs a `DDIMScheduler`, or
    CogVideoX's, and a VAE for images, as ModelScope and AnimateDiff have. Rewards that take `seeds` get one per video,
    from which [`~videorm_hf.rewards.frames.FrameMean`] draws the frames of its segments.

    Reference:
        Yuan et al. 2023 (InstructVideo). Differs: the loss is minus the mean reward instead of one minus it; a clip's
        latents are the mean of the VAE's posterior, not a sample.
    """

    def make_rollout(self, denoiser: ModelMixin, terms: Sequence[RewardTerm], args: DRaFTVConfig) -> RewardRollout:
        """Build the module that is trained; see [`DRaFTVTrainer.make_rollout`]."""
        if not isinstance(args, InstructVideoConfig):
            raise TypeError(f"args must be an InstructVideoConfig: got {type(args).__name__}.")
        return InstructVideoRollout(self.pipe, denoiser, terms, args.sampling_settings(), args.num_edit_steps)


class InstructVideoRollout(RewardRollout):
    """Edit real clips and score them in training mode; in evaluation mode sample as [`RewardRollout`] does.

    Args:
        pipe (`DiffusionPipeline`):
            The pipeline that is tuned.
        denoiser (`ModelMixin`):
            Its denoiser.
        terms (`list[RewardTerm]`):
            The rewards.
        settings (`SamplingSettings`):
            With the number of sampling steps, and height, width and number of frames.
        num_edit_steps (`int`):
            How many of these steps, the last ones, are taken.

    Raises:
        ValueError: If scheduler or VAE are of another kind than needed.
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        denoiser: ModelMixin,
        terms: Sequence[RewardTerm],
        settings: SamplingSettings,
        num_edit_steps: int,
    ) -> None:
        super().__init__(pipe, denoiser, terms, settings)
        for name, kinds in (("scheduler", SCHEDULERS), ("vae", (AutoencoderKL,))):
            if not isinstance(pipe.components.get(name), kinds):
                wanted = " or ".join(kind.__name__ for kind in kinds)
                raise ValueError(
                    f"InstructVideo needs a {wanted} as the pipeline's {name}: got "
                    f"{type(pipe.components.get(name)).__name__}. It was made for ModelScope."
                )
        sizes = [settings.pipeline_kwargs.get(name) for name in ("num_frames", "height", "width")]
        if settings.num_inference_steps is None or None in sizes:
            raise ValueError(
                "InstructVideo reads clips beforehand: it needs num_inference_steps, num_frames, height, width: got "
                f"{settings.num_inference_steps} and {sizes}."
            )
        self.num_steps = settings.num_inference_steps
        self.num_edit_steps = num_edit_steps

    def forward(
        self,
        prompts: list[str],
        columns: dict[str, list[Any]],
        seeds: list[int],
        step_seed: int = 0,
        require_finite: bool = False,
    ) -> dict[str, Any]:
        """Edit one clip per prompt and score it; see [`RewardRollout.forward`]. `columns` must hold `video`."""
        others = {name: values for name, values in columns.items() if name != "video"}
        if not self.training:
            return super().forward(prompts, others, seeds, step_seed, require_finite)
        if "video" not in columns:
            raise ValueError(f"InstructVideo needs a column `video` beside `prompt`: got {sorted(columns)}.")
        arguments = self.settings.pipeline_kwargs
        size = [arguments[name] for name in ("num_frames", "height", "width")]
        clips = [read_clip(clip, *size) for clip in columns["video"]]
        latents_BCTHW = encode_clips(self.pipe.vae, torch.stack(clips)).to(self.denoiser.dtype)
        # Not the seeds themselves: with eta > 0 the scheduler draws from these, and must not draw the same again.
        generators = [torch.Generator("cpu").manual_seed(noise_seed(seed, 0, 0)) for seed in seeds]
        noise = torch.stack([torch.randn(latents_BCTHW.shape[1:], generator=generator) for generator in generators])
        settings = self.settings
        with starting_late(self.pipe, self.num_edit_steps) as scheduler:
            scheduler.set_timesteps(self.num_steps)
            start = scheduler.timesteps[:1].expand(len(prompts))
            noised = scheduler.add_noise(latents_BCTHW, noise.to(latents_BCTHW), start.to(latents_BCTHW.device))
            self.settings = dataclasses.replace(settings, pipeline_kwargs={**arguments, "latents": noised})
            try:
                return super().forward(prompts, {**others, "seeds": seeds}, seeds, step_seed, require_finite)
            finally:
                self.settings = settings


@contextmanager
def starting_late(pipe: DiffusionPipeline, num_last_steps: int) -> Iterator[SchedulerMixin]:
    """Let calls of the pipeline begin `num_last_steps` before the end of their trajectory.

    Args:
        pipe (`DiffusionPipeline`):
            A pipeline with one of `SCHEDULERS`, which it has again afterwards.
        num_last_steps (`int`):
            At least 1.

    Yields:
        `SchedulerMixin`: the scheduler that the pipeline has meanwhile, of a class that extends its own.
    """
    scheduler = pipe.scheduler
    # A class, for whoever copies or wraps the scheduler asks its class for the method.
    kind: Any = type(scheduler)

    class Late(kind):
        timesteps: torch.Tensor

        @functools.wraps(kind.set_timesteps)
        def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
            super().set_timesteps(*args, **kwargs)
            self.timesteps = self.timesteps[-num_last_steps:]

    pipe.scheduler = late = Late.from_config(scheduler.config)
    try:
        yield late
    finally:
        pipe.scheduler = scheduler


def read_clip(clip: Clip, num_frames: int, height: int, width: int) -> torch.Tensor:
    """Read frames spread over a video file, scaled to cover the size and cropped to its middle.

    Args:
        clip (`str` or `os.PathLike` or `dict`):
            A path, or `path` and `bytes` as in `datasets`' `Video(decode=False)`.
        num_frames (`int`):
            Number of frames.
        height (`int`):
            Height in pixels.
        width (`int`):
            Width in pixels.

    Returns:
        `torch.Tensor` of shape `(num_frames, 3, height, width)`: values in `[0, 1]`.
    """
    source = clip if isinstance(clip, str | os.PathLike) else (clip["bytes"] or clip["path"])
    frames_TCHW = torch.from_numpy(read_frames(source, num_frames).frames).permute(0, 3, 1, 2).float() / 255.0
    scale = max(height / frames_TCHW.shape[2], width / frames_TCHW.shape[3])
    size = [
        max(target, round(scale * side)) for target, side in zip((height, width), frames_TCHW.shape[2:], strict=True)
    ]
    covering = torch.nn.functional.interpolate(frames_TCHW, size, mode="bilinear", antialias=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return covering[:, :, top : top + height, left : left + width].clamp(0.0, 1.0)


@torch.no_grad()
def encode_clips(vae: AutoencoderKL, frames_BTCHW: torch.Tensor) -> torch.Tensor:
    """Encode clips frame by frame: the mean of the VAE's posterior, scaled as the denoiser expects it.

    Args:
        vae (`AutoencoderKL`):
            A VAE for images.
        frames_BTCHW (`torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`):
            Values in `[0, 1]`.

    Returns:
        `torch.Tensor` of shape `(batch_size, channels, num_frames, height / f, width / f)`.
    """
    images = (2.0 * frames_BTCHW.flatten(0, 1) - 1.0).to(vae.device, vae.dtype)
    rows = [vae.encode(image).latent_dist.mode() for image in images.split(1)]
    latents_BTCHW = torch.cat(rows).unflatten(0, frames_BTCHW.shape[:2])
    return vae.config.scaling_factor * latents_BTCHW.transpose(1, 2)
