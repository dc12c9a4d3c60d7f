"""Settings of the DRaFT-V trainer: TrainingArguments plus how videos are sampled and rewarded.

Source: Wu et al. 2024 (NeurIPS), Sec. 3.3 and 4: learning rate 1e-5, K = 10, batch 8, 400 steps.
"""

from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from draftv_trainer.rollout import SamplingSettings
from draftv_trainer.sampling import check_num_backprop_steps, check_pipeline_kwargs

# Arguments of the pipeline's call that have a field of their own.
_SAMPLING_FIELDS = ("guidance_scale", "height", "width", "num_frames")


@dataclass
class DRaFTVConfig(TrainingArguments):
    r"""Configure a [`DRaFTVTrainer`].

    Only what is particular to DRaFT-V is listed; everything of [`~transformers.TrainingArguments`] works too. Defaults
    that differ from it: `learning_rate`, `per_device_train_batch_size`, `logging_steps`, `save_steps` and
    `remove_unused_columns`. Sampling arguments left at `None` are the pipeline's own defaults.

    Parameters:
        num_backprop_steps (`int`, *optional*, defaults to `10`):
            K: the number of last sampling steps that the gradient passes through. At most the number of sampling
            steps.
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
        pipeline_kwargs (`dict[str, Any]`, *optional*):
            Further arguments of the pipeline's call, such as `{"negative_prompt": "blurry"}`.
        reward_weights (`list[float]`, *optional*):
            One weight per reward, by default 1 each. A reward of weight 0 is only logged.
        reward_num_frames (`int`, *optional*):
            Number of frames, spread over the clip, that the rewards see. By default all.
        model_init_kwargs (`dict[str, Any]`, *optional*):
            Arguments of `DiffusionPipeline.from_pretrained`, such as `{"torch_dtype": "bfloat16"}`, when the trainer's
            `model` is a path.
    """

    # Unannotated as in the base class, where it is no field: command-line values that are parsed as JSON.
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "pipeline_kwargs", "model_init_kwargs"]

    learning_rate: float = field(default=1e-5, metadata={"help": "Initial learning rate; the paper's."})
    per_device_train_batch_size: int = field(default=1, metadata={"help": "Videos per device and micro-step."})
    logging_steps: float = field(default=1, metadata={"help": "Log every so many optimisation steps."})
    save_steps: float = field(default=100, metadata={"help": "Save a checkpoint every so many optimisation steps."})
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay False: the dataset's other columns reach the rewards."}
    )

    num_backprop_steps: int = field(
        default=10, metadata={"help": "K: number of last sampling steps that the gradient passes through."}
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
    pipeline_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": 'Further call arguments, for example {"negative_prompt": "blurry"}.'}
    )
    reward_weights: list[float] | None = field(
        default=None, metadata={"help": "One weight per reward. Default: 1 each. Weight 0 only logs."}
    )
    reward_num_frames: int | None = field(
        default=None, metadata={"help": "Frames, spread over the clip, that the rewards see. Default: all."}
    )
    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Arguments of DiffusionPipeline.from_pretrained when the model is a path."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_num_backprop_steps(self.num_backprop_steps)
        for name in ("num_inference_steps", "height", "width", "num_frames", "reward_num_frames"):
            value = self.__dict__[name]
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, or None for the default: got {value}.")
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns must be False: got True, but all columns reach the rewards.")
        further = _as_dict(self.pipeline_kwargs, "pipeline_kwargs")
        _as_dict(self.model_init_kwargs, "model_init_kwargs")
        check_pipeline_kwargs(further)
        twice = sorted(set(further) & set(_SAMPLING_FIELDS))
        if twice:
            raise ValueError(f"pipeline_kwargs must not hold {twice}: set the config's fields of these names.")

    def sampling_settings(self) -> SamplingSettings:
        """Gather how videos are sampled.

        Returns:
            `SamplingSettings`: with only those pipeline arguments that were given.
        """
        given = {name: self.__dict__[name] for name in _SAMPLING_FIELDS if self.__dict__[name] is not None}
        return SamplingSettings(
            num_backprop_steps=self.num_backprop_steps,
            num_inference_steps=self.num_inference_steps,
            reward_num_frames=self.reward_num_frames,
            pipeline_kwargs={**_as_dict(self.pipeline_kwargs, "pipeline_kwargs"), **given},
        )

    def loading_arguments(self) -> dict[str, Any]:
        """Return the arguments for loading a pipeline from a path.

        Returns:
            `dict[str, Any]`: empty when none were given.
        """
        return _as_dict(self.model_init_kwargs, "model_init_kwargs")


def _as_dict(value: dict[str, Any] | str | None, name: str) -> dict[str, Any]:
    """Return a field that is a dict, empty for None; the command line's JSON was parsed by the base class."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a dict or a JSON object: got {value!r}.")
    return value
