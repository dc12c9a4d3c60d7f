"""Settings of the DRaFT-V trainer: TrainingArguments plus how videos are sampled and rewarded.

Source: Wu et al. 2024 (NeurIPS), Sec. 3.3 and 4: learning rate 1e-5, K = 10, batch 8, 400 steps.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from draftv_trainer.augmentation import parse_augmentation
from draftv_trainer.checkpointing import CHECKPOINTING_MODES
from draftv_trainer.graph_steps import BACKPROP_MODES
from draftv_trainer.rollout import SamplingSettings
from draftv_trainer.sampling import check_pipeline_kwargs
from videorm_hf.models.dtypes import parse_loading_dtypes

# Arguments of the pipeline's call that have a field of their own.
_SAMPLING_FIELDS = ("guidance_scale", "height", "width", "num_frames", "eta")
_AT_LEAST_ONE = (
    *("num_inference_steps", "height", "width", "num_frames", "reward_num_frames"),
    *("sample_steps", "sample_fps", "guard_steps"),
)


@dataclass
class DRaFTVConfig(TrainingArguments):
    r"""Configure a [`DRaFTVTrainer`].

    Only what is particular to DRaFT-V is listed; everything of [`~transformers.TrainingArguments`] works too. Defaults
    that differ from it: `learning_rate`, `per_device_train_batch_size`, `per_device_eval_batch_size`, `logging_steps`,
    `save_steps` and `remove_unused_columns`; `dataloader_pin_memory` counts only where there is an accelerator.
    Sampling arguments left at `None` are the pipeline's own defaults.

    Parameters:
        backprop (`str`, *optional*, defaults to `"last"`):
            Which sampling steps the gradient passes through: the last K (`"last"`, the paper), a random number of last
            steps, K at most, drawn once per step for the global batch (`"random"`, AlignProp), K steps spread over the
            whole trajectory from a random start with the denoiser's input detached (`"drtune"`), all (`"all"`), or one
            random late step whose predicted clean sample is scored (`"refl"`).
        num_backprop_steps (`int`, *optional*):
            K, at most the number of sampling steps. By default 10 for `"last"` and `"drtune"`, the number of sampling
            steps for `"random"`; not for `"all"` and `"refl"`.
        refl_range (`list[int]`, *optional*):
            First and last step, counted from 0, of `"refl"`. By default the last quarter of the trajectory.
        lv_samples (`int`, *optional*):
            DRaFT-LV: noise the final sample anew to the last step so many times and average these one-step gradients.
            K is 1 then.
        checkpointing (`str`, *optional*, defaults to `"auto"`):
            What of the denoiser is computed again in the backward pass instead of kept: nothing (`"none"`), its blocks
            (`"block"`), whole calls (`"step"`), both (`"nested"`, memory flat in K). `"auto"` is `"block"` where one
            step builds a graph, else `"nested"`. Gradients are equal. Takes the place of `gradient_checkpointing`.
        reference_coef (`float`, *optional*, defaults to `0.0`):
            Weight in the loss of the mean squared distance between the tuned and the untuned denoiser's predictions in
            the steps that build a graph, logged as `reference_distance`. Costs a call without a graph for each.
        precompute_prompt_embeds (`bool`, *optional*, defaults to `False`):
            Whether to encode all prompts (datasets and `sample_prompts`) once at the start and release the pipeline's
            text encoders: afterwards it samples these prompts only.
        reward_clip (`float`, *optional*):
            The largest total reward of a video that counts, min(total, clip): above it a video gives no gradient.
        denoiser (`str`, *optional*):
            The component that is tuned, where a pipeline switches between two (Wan 2.2): `"transformer"`, early steps,
            or `"transformer_2"`, late steps. By default the one for the late steps.
        num_inference_steps (`int`, *optional*):
            Number of sampling steps.
        guidance_scale (`float`, *optional*):
            Classifier-free guidance scale.
        height (`int`, *optional*):
            Height of the videos in pixels.
        width (`int`, *optional*):
            Width of the videos in pixels.
        num_frames (`int`, *optional*):
            Number of frames of the videos.
        eta (`float`, *optional*):
            Share of fresh noise in each DDIM step, in [0, 1], for pipelines whose call takes it: 0 is deterministic.
        pipeline_kwargs (`dict[str, Any]`, *optional*):
            Further arguments of the pipeline's call, such as `{"negative_prompt": "blurry"}`.
        reward_weights (`list[float]`, *optional*):
            One weight per reward, by default 1 each. A reward of weight 0 is only logged.
        reward_num_frames (`int`, *optional*):
            Number of frames, spread over the clip, that the rewards see. By default 8, or all of a shorter clip.
        vae_checkpointing (`bool`, *optional*, defaults to `True`):
            Decode one frame or one video at a time, and again in the backward pass, instead of keeping activations.
        vae_tiling (`bool`, *optional*, defaults to `False`):
            Decode in overlapping tiles, where the VAE can: less memory, slightly different frames.
        reward_augmentation (`str` or `list[str]` or `dict[str, float]`, *optional*):
            Random changes of the frames before the rewards while training, the same for all frames of a clip: some of
            `shift`, `blur`, `noise` and `color`, as names (`"shift,blur"`) or with strengths
            ([`~draftv_trainer.augmentation.RewardAugmentation`]).
        ema_decay (`float`, *optional*):
            Decay of an exponential moving average of the LoRA. If set, the average is what is evaluated, sampled
            from, saved, and carried by the pipeline after training. It warms up: after `n` steps the decay is at most
            `n / (9 + n)`.
        max_nonfinite_steps (`int`, *optional*, defaults to `10`):
            How many updates may be skipped because a gradient was not finite. One more ends the run with an error.
        sample_prompts (`list[str]`, *optional*):
            Fixed prompts for sample videos and the guard. By default the first four rows of the evaluation dataset, or
            of the training dataset, with their other columns.
        sample_steps (`int`, *optional*):
            Write videos of the fixed prompts at the start and every so many steps, to `output_dir/samples/step-N` and
            to TensorBoard, W&B and trackio where `report_to` has them. By default never.
        sample_fps (`int`, *optional*, defaults to `8`):
            Frames per second of these videos.
        guard_steps (`int`, *optional*):
            Score videos of the fixed prompts by the monitors at the start and every so many steps. By default never.
        guard_tolerance (`float`, *optional*, defaults to `0.5`):
            Stop the run when a monitor's mean has fallen by more than this many times its spread at the start, while
            the trained reward on the same prompts has risen. The spread is the standard deviation over the prompts,
            but at least a tenth of the mean. The LoRA is then put back to the last look at which no monitor was below
            its start, at worst the start.
        monitor_motion (`bool`, *optional*, defaults to `True`):
            Whether motion, the mean absolute difference of consecutive frames, is a monitor beside the trainer's
            `monitor_rewards`.
        shard_denoiser (`bool`, *optional*, defaults to `False`):
            Divide the denoiser's frozen weights over the processes, when it is too large for one device
            ([`~draftv_trainer.sharding.shard_denoisers`]).
        model_init_kwargs (`dict[str, Any]`, *optional*):
            Arguments of `DiffusionPipeline.from_pretrained`, such as `{"dtype": "bfloat16"}`, when the trainer's
            `model` is a path.
    """

    # Unannotated as in the base class, where it is no field: command-line values that are parsed as JSON.
    _VALID_DICT_FIELDS = [
        *TrainingArguments._VALID_DICT_FIELDS,
        "pipeline_kwargs",
        "model_init_kwargs",
        "reward_augmentation",
    ]

    learning_rate: float = field(default=1e-5, metadata={"help": "Initial learning rate; the paper's."})
    per_device_train_batch_size: int = field(default=1, metadata={"help": "Videos per device and micro-step."})
    per_device_eval_batch_size: int = field(default=1, metadata={"help": "Videos per device in evaluation."})
    logging_steps: float = field(default=1, metadata={"help": "Log every so many optimisation steps."})
    save_steps: float = field(default=100, metadata={"help": "Save a checkpoint every so many optimisation steps."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay False: the dataset's other columns reach the rewards."}
    )

    backprop: str = field(default="last", metadata={"help": "Steps with a gradient.", "choices": list(BACKPROP_MODES)})
    num_backprop_steps: int | None = field(
        default=None, metadata={"help": "K: number of sampling steps that the gradient passes through. Default: 10."}
    )
    refl_range: list[int] | None = field(
        default=None, metadata={"help": 'First and last step of backprop="refl". Default: the last quarter.'}
    )
    lv_samples: int | None = field(
        default=None, metadata={"help": "DRaFT-LV: one-step gradients per video, from samples noised anew."}
    )
    checkpointing: str = field(
        default="auto",
        metadata={"help": "What to compute again in the backward pass.", "choices": list(CHECKPOINTING_MODES)},
    )
    reference_coef: float = field(
        default=0.0, metadata={"help": "Weight of the distance to the untuned denoiser's predictions."}
    )
    precompute_prompt_embeds: bool = field(
        default=False, metadata={"help": "Encode all prompts once and release the text encoders."}
    )
    reward_clip: float | None = field(
        default=None, metadata={"help": "Largest total reward of a video that counts. Default: any."}
    )
    denoiser: str | None = field(
        default=None, metadata={"help": "Which of two denoisers to tune. Default: the one for the late steps."}
    )
    num_inference_steps: int | None = field(
        default=None, metadata={"help": "Number of sampling steps. Default: the pipeline's."}
    )
    guidance_scale: float | None = field(
        default=None, metadata={"help": "Classifier-free guidance scale. Default: the pipeline's."}
    )
    height: int | None = field(default=None, metadata={"help": "Height in pixels. Default: the pipeline's."})
    width: int | None = field(default=None, metadata={"help": "Width in pixels. Default: the pipeline's."})
    num_frames: int | None = field(default=None, metadata={"help": "Frames per video. Default: the pipeline's."})
    eta: float | None = field(default=None, metadata={"help": "Fresh noise in DDIM steps. Default: the pipeline's."})
    pipeline_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": 'Further call arguments, for example {"negative_prompt": "blurry"}.'}
    )
    reward_weights: list[float] | None = field(
        default=None, metadata={"help": "One weight per reward. Default: 1 each. Weight 0 only logs."}
    )
    reward_num_frames: int | None = field(
        default=None, metadata={"help": "Frames, spread over the clip, that the rewards see. Default: 8, at most."}
    )
    vae_checkpointing: bool = field(
        default=True, metadata={"help": "Decode once more in the backward pass instead of keeping activations."}
    )
    vae_tiling: bool = field(default=False, metadata={"help": "Decode in overlapping tiles where the VAE can."})
    reward_augmentation: dict[str, float] | str | None = field(
        default=None, metadata={"help": 'Changes of the frames before the rewards: "shift,blur" or {"noise": 0.1}.'}
    )
    ema_decay: float | None = field(
        default=None, metadata={"help": "Decay of a moving average of the LoRA, which is then what is saved."}
    )
    max_nonfinite_steps: int = field(
        default=10, metadata={"help": "Updates that may be skipped for gradients that are not finite."}
    )
    sample_prompts: list[str] | None = field(
        default=None, metadata={"help": "Fixed prompts for sample videos and guard. Default: four of the dataset."}
    )
    sample_steps: int | None = field(
        default=None, metadata={"help": "Write videos of the fixed prompts every so many steps. Default: never."}
    )
    sample_fps: int = field(default=8, metadata={"help": "Frames per second of the sample videos."})
    guard_steps: int | None = field(
        default=None, metadata={"help": "Evaluate the monitors every so many steps. Default: never."}
    )
    guard_tolerance: float = field(
        default=0.5, metadata={"help": "Spreads over the prompts that a monitor may fall while the reward rises."}
    )
    monitor_motion: bool = field(default=True, metadata={"help": "Whether motion is one of the monitors."})
    shard_denoiser: bool = field(
        default=False, metadata={"help": "Divide the denoiser's frozen weights over the processes."}
    )
    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Arguments of DiffusionPipeline.from_pretrained when the model is a path."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # torch warns of it where there is nothing to copy to
        if self.gradient_checkpointing:
            raise ValueError(
                "gradient_checkpointing (activation_checkpointing) must be False: got True. Set "
                'checkpointing="block" or "nested" instead.'
            )
        for name in _AT_LEAST_ONE:
            value = self.__dict__[name]
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, or None for the default: got {value}.")
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns must be False: got True, but all columns reach the rewards.")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay must be between 0 and 1, or None for no average: got {self.ema_decay}.")
        for name in ("max_nonfinite_steps", "guard_tolerance"):
            if not self.__dict__[name] >= 0:
                raise ValueError(f"{name} must be at least 0: got {self.__dict__[name]}.")
        if self.eta is not None and not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be between 0 and 1, or None for the pipeline's default: got {self.eta}.")
        parse_augmentation(self.reward_augmentation)
        further = _as_dict(self.pipeline_kwargs, "pipeline_kwargs")
        self.loading_arguments()
        check_pipeline_kwargs(further)
        twice = sorted(set(further) & set(_SAMPLING_FIELDS))
        if twice:
            raise ValueError(f"pipeline_kwargs must not hold {twice}: set the config's fields of these names.")
        self.sampling_settings()  # checks what belongs together

    def sampling_settings(self) -> SamplingSettings:
        """Gather how videos are sampled.

        Returns:
            `SamplingSettings`: with only those pipeline arguments that were given.
        """
        given = {name: self.__dict__[name] for name in _SAMPLING_FIELDS if self.__dict__[name] is not None}
        return SamplingSettings(
            backprop=self.backprop,
            num_backprop_steps=self.num_backprop_steps,
            refl_range=self.refl_range,
            lv_samples=self.lv_samples,
            checkpointing=self.checkpointing,
            reference_coef=self.reference_coef,
            reward_clip=self.reward_clip,
            num_inference_steps=self.num_inference_steps,
            reward_num_frames=self.reward_num_frames,
            vae_checkpointing=self.vae_checkpointing,
            vae_tiling=self.vae_tiling,
            augmentation=parse_augmentation(self.reward_augmentation),
            pipeline_kwargs={**_as_dict(self.pipeline_kwargs, "pipeline_kwargs"), **given},
        )

    def loading_arguments(self) -> dict[str, Any]:
        """Return the arguments for loading a pipeline from a path.

        Returns:
            `dict[str, Any]`: empty when none were given.
        """
        return parse_loading_dtypes(_as_dict(self.model_init_kwargs, "model_init_kwargs"))


def _as_dict(value: dict[str, Any] | str | None, name: str) -> dict[str, Any]:
    """Return a field that is a dict, empty for None; the command line's JSON was parsed by the base class."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a dict or a JSON object: got {value!r}.")
    return value
