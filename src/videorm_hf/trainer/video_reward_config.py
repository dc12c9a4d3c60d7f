"""Settings of the reward trainer: TrainingArguments plus what trains, on which pairs, with which loss.

Source: Wu et al. 2024 (NeurIPS), Sec. 4: learning rate 1e-5, batch 64, 8 frames, the temporal transformer alone.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments

from videorm_hf.trainer.losses import TIE_LOSSES

TRAINABLE = ("temporal", "temporal+last_n_blocks", "all")
FRAME_SAMPLING = ("uniform", "random")


@dataclass
class VideoRewardConfig(TrainingArguments):
    r"""Configure a [`VideoRewardTrainer`].

    Only what is particular to video rewards is listed; everything of [`~transformers.TrainingArguments`] works too. A
    batch is counted in rows: pairs of the `preference` view, items with all their pairs of the `ratings` view. Other
    defaults than there have `learning_rate`, `logging_steps`, `remove_unused_columns`, `ddp_find_unused_parameters`,
    and `metric_for_best_model`, which is pairwise accuracy when `load_best_model_at_end` is set;
    `dataloader_pin_memory` counts only where there is an accelerator.

    Parameters:
        trainable (`str`, *optional*, defaults to `"temporal"`):
            What trains: the temporal head alone (`"temporal"`, the paper), also the last blocks of the image tower
            with the layer norm that closes it (`"temporal+last_n_blocks"`), or everything (`"all"`). With a
            `peft_config` the head trains and the towers get the adapter.
        num_trainable_blocks (`int`, *optional*):
            Blocks of the image tower that train with `"temporal+last_n_blocks"`.
        train_logit_scale (`bool`, *optional*, defaults to `False`):
            Whether the scale of the loss trains. Frozen, the loss can only fall by ordering rewards, not by stretching
            them.
        loss_scale (`float`, *optional*):
            A fixed scale instead of the model's `exp(logit_scale)`. A model without one is scaled by 1 by default.
        use_margin (`bool`, *optional*, defaults to `False`):
            Subtract each pair's margin, a difference of ratings, from its scaled difference of rewards, as in TRL.
        ties (`str`, *optional*, defaults to `"drop"`):
            Pairs of equal ratings: left out (`"drop"`, the paper), kept with the soft label one half (`"soft"`), or
            kept with a probability of their own (`"rao_kupper"`).
        tie_theta (`float`, *optional*, defaults to 2.0):
            Theta of `"rao_kupper"`: two videos of equal reward tie with probability `(theta - 1) / (theta + 1)`.
        dimensions (`list[str]`, *optional*):
            `ratings` view: what is compared. By default the mean of an item's dimensions (`["mean"]`); with several,
            each gives pairs of its own.
        num_frames (`int`, *optional*):
            Frames of a clip. By default the model's. The saved model and processor keep this number.
        frame_sampling (`str`, *optional*, defaults to `"uniform"`):
            Which frames train: the middles of equal parts of the clip's time, as in scoring (`"uniform"`), or one at
            random of four evenly spaced in each part (`"random"`). Evaluation is always uniform.
        train_fraction (`float`, *optional*, defaults to 1.0):
            Share of each training set's rows that is used, chosen by `data_seed` (by default `seed`). A smaller share
            is a part of a larger one.
        dataset_proportions (`dict[str, float]`, *optional*):
            Share of each named training set in the rows drawn. By default every row is drawn once an epoch.
        cache_features (`bool`, *optional*, defaults to `False`):
            Compute the frozen towers' features once, keep them on disk, and train the temporal head alone on them.
        feature_cache_dir (`str`, *optional*):
            Where. By default `output_dir/_features`.
        max_bad_clips (`int`, *optional*, defaults to 10):
            How many clips may turn out unreadable, or equal to what they are compared with, before the run ends with
            an error. Until then their pairs are left out and counted.
        model_init_kwargs (`dict[str, Any]`, *optional*):
            Arguments of `AutoModel.from_pretrained` when the trainer's `model` is a path, also fields of the model's
            configuration, such as `{"temporal_shift": "block"}`. One that changes the temporal head makes a new one.
    """

    # Unannotated as in the base class, where it is no field: command-line values that are parsed as JSON.
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "dataset_proportions", "model_init_kwargs"]

    learning_rate: float = field(default=1e-5, metadata={"help": "Initial learning rate; the paper's."})
    logging_steps: float = field(default=10, metadata={"help": "Log every so many optimisation steps."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Must stay False: rows are read whole."})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Every trained weight takes part in every step, so there is nothing to find."}
    )

    trainable: str = field(default="temporal", metadata={"help": "What trains.", "choices": list(TRAINABLE)})
    num_trainable_blocks: int | None = field(
        default=None, metadata={"help": 'Blocks of the image tower that train with "temporal+last_n_blocks".'}
    )
    train_logit_scale: bool = field(default=False, metadata={"help": "Whether the scale of the loss trains."})
    loss_scale: float | None = field(default=None, metadata={"help": "A fixed scale instead of the model's own."})
    use_margin: bool = field(default=False, metadata={"help": "Subtract the margin from the difference of rewards."})
    ties: str = field(default="drop", metadata={"help": "Pairs of equal ratings.", "choices": list(TIE_LOSSES)})
    tie_theta: float = field(default=2.0, metadata={"help": "Theta of Rao and Kupper's ties, above 1."})
    dimensions: list[str] | None = field(
        default=None, metadata={"help": "Rated dimensions that are compared. Default: their mean."}
    )
    num_frames: int | None = field(default=None, metadata={"help": "Frames of a clip. Default: the model's."})
    frame_sampling: str = field(
        default="uniform", metadata={"help": "Which frames train.", "choices": list(FRAME_SAMPLING)}
    )
    train_fraction: float = field(default=1.0, metadata={"help": "Share of each training set's rows that is used."})
    dataset_proportions: dict[str, float] | str | None = field(
        default=None, metadata={"help": 'Share of each training set in the draws: {"videoprefer": 0.7, "human": 0.3}.'}
    )
    cache_features: bool = field(default=False, metadata={"help": "Compute the frozen towers' features once."})
    feature_cache_dir: str | None = field(
        default=None, metadata={"help": "Where features are kept. Default: output_dir/_features."}
    )
    max_bad_clips: int = field(default=10, metadata={"help": "Clips that may turn out bad before the run ends."})
    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Arguments of from_pretrained and configuration fields, when model is a path."}
    )

    metric_for_best_model: str | None = field(
        default=None, metadata={"help": "Metric of the best checkpoint. Default: eval_accuracy."}
    )

    def __post_init__(self) -> None:
        if self.load_best_model_at_end and self.metric_for_best_model is None:
            self.metric_for_best_model = "eval_accuracy"
        super().__post_init__()
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # torch warns of it where there is nothing to copy to
        self._check_choices()
        self._check_numbers()
        self.proportions()
        self.loading_arguments()
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns must be False: got True, but rows are read whole.")
        for name in ("label_smoothing_factor", "batch_eval_metrics"):
            if self.__dict__[name]:
                raise ValueError(f"{name} is not for preferences: got {self.__dict__[name]}, leave it out.")
        if self.fsdp or self.deepspeed:
            raise ValueError(
                "FSDP and DeepSpeed settings are not supported: a VIDEORM fits one device. Launch plain processes "
                "with torchrun or accelerate."
            )
        if self.cache_features and (self.trainable != "temporal" or self.frame_sampling != "uniform"):
            raise ValueError(
                'cache_features=True needs features that stay the same: trainable="temporal" and '
                f'frame_sampling="uniform". Got trainable={self.trainable!r} and '
                f"frame_sampling={self.frame_sampling!r}."
            )

    def proportions(self) -> dict[str, float]:
        """Return the named sets' shares of the draws, empty where every row is drawn once."""
        return _as_dict(self.dataset_proportions, "dataset_proportions")

    def loading_arguments(self) -> dict[str, Any]:
        """Return the arguments for loading a model from a path, empty where none were given."""
        return _as_dict(self.model_init_kwargs, "model_init_kwargs")

    def _check_choices(self) -> None:
        """Check fields that have a list of values, and those that belong to one of them."""
        for name, choices in (("trainable", TRAINABLE), ("ties", TIE_LOSSES), ("frame_sampling", FRAME_SAMPLING)):
            if self.__dict__[name] not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}: got {self.__dict__[name]!r}.")
        if (self.trainable == "temporal+last_n_blocks") != (self.num_trainable_blocks is not None):
            raise ValueError(
                'num_trainable_blocks belongs to trainable="temporal+last_n_blocks": got '
                f"num_trainable_blocks={self.num_trainable_blocks} and trainable={self.trainable!r}."
            )
        if self.train_logit_scale and self.loss_scale is not None:
            raise ValueError("Set train_logit_scale or loss_scale, not both: a fixed scale cannot train.")
        if self.dimensions is not None and not self.dimensions:
            raise ValueError('dimensions must name at least one, or be None for ["mean"]: got an empty list.')

    def _check_numbers(self) -> None:
        """Check ranges."""
        for name in ("num_trainable_blocks", "num_frames"):
            if self.__dict__[name] is not None and self.__dict__[name] < 1:
                raise ValueError(f"{name} must be at least 1, or None: got {self.__dict__[name]}.")
        if self.loss_scale is not None and not self.loss_scale > 0:
            raise ValueError(f"loss_scale must be above 0, or None: got {self.loss_scale}.")
        if not self.tie_theta > 1:
            raise ValueError(f"tie_theta must be above 1: got {self.tie_theta}.")
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"train_fraction must be above 0 and at most 1: got {self.train_fraction}.")
        if self.max_bad_clips < 0:
            raise ValueError(f"max_bad_clips must be at least 0: got {self.max_bad_clips}.")


def _as_dict(value: dict[str, Any] | str | None, name: str) -> dict[str, Any]:
    """Return a field that is a dict, empty for None; the command line's JSON was parsed by the base class."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a dict or a JSON object: got {value!r}.")
    return value
