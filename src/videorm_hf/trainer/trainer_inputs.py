"""What a user hands the reward trainer, turned into what it works with: named sets of groups, numbers of frames."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from datasets import DatasetDict, IterableDatasetDict
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback

from videorm_hf.trainer.preference_groups import PairSettings, PreferenceData, PreferenceGroups
from videorm_hf.trainer.video_reward_config import VideoRewardConfig
from videorm_hf.videoprefer.pairs import MEAN

PreferenceSets: TypeAlias = PreferenceData | Mapping[str, PreferenceData]


def training_sets(data: PreferenceSets | None, args: VideoRewardConfig) -> dict[str, PreferenceGroups]:
    """Turn the training data into groups.

    Args:
        data (`PreferenceData` or `dict`, *optional*):
            One set, or several by name.
        args ([`VideoRewardConfig`]):
            The run's settings.

    Returns:
        `dict[str, PreferenceGroups]`: by name; a single set is called `"train_dataset"`.

    Raises:
        ValueError: If the proportions name other sets.
    """
    seed = args.seed if args.data_seed is None else args.data_seed
    sets = {
        name: PreferenceGroups(part, name, _pair_settings(args), args.train_fraction, seed)
        for name, part in _by_name(data, "train_dataset").items()
    }
    proportions = args.proportions()
    if proportions and sets.keys() != proportions.keys():
        raise ValueError(
            f"dataset_proportions must name the training sets {sorted(sets)}: got {sorted(proportions)}. Give "
            "train_dataset as a dict of these names."
        )
    return sets


def evaluation_sets(data: PreferenceSets | None, args: VideoRewardConfig) -> dict[str, PreferenceGroups]:
    """Turn the evaluation data into groups, all of them.

    Args:
        data (`PreferenceData` or `dict`, *optional*):
            One set, or several by name.
        args ([`VideoRewardConfig`]):
            The run's settings.

    Returns:
        `dict[str, PreferenceGroups]`: by name; a single set is called `"eval_dataset"`.
    """
    named = _by_name(data, "eval_dataset")
    return {name: PreferenceGroups(part, name, _pair_settings(args)) for name, part in named.items()}


def set_facts(sets: Mapping[str, PreferenceGroups], proportions: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Say of each training set what the card tells.

    Args:
        sets (`dict[str, PreferenceGroups]`):
            By name.
        proportions (`dict[str, float]`):
            Their shares of the draws; empty where every row is drawn once.

    Returns:
        `dict[str, dict[str, Any]]`: view, rows, pairs, ties and share of the draws.
    """
    weights = proportions or {name: len(groups) for name, groups in sets.items()}
    return {
        name: {
            **{"view": groups.view, "rows": len(groups), "pairs": groups.num_pairs, "ties": groups.num_ties},
            "share": weights[name] / sum(weights.values()),
        }
        for name, groups in sets.items()
    }


def use_num_frames(model: PreTrainedModel, processor: ProcessorMixin, num_frames: int | None) -> None:
    """Have model and processor, and so the folders they are saved to, use the run's number of frames.

    Args:
        model (`PreTrainedModel`):
            Its configuration is changed in place.
        processor (`ProcessorMixin`):
            Changed in place.
        num_frames (`int`, *optional*):
            By default the model's own.

    Raises:
        ValueError: If the model has no positions for so many.
    """
    num_frames = model.config.num_frames if num_frames is None else num_frames
    if num_frames > model.config.max_frames:
        raise ValueError(
            f"num_frames must be at most the model's max_frames={model.config.max_frames}: got {num_frames}. Sample "
            'fewer frames, or make a new temporal head with model_init_kwargs={"max_frames": ...}.'
        )
    model.config.num_frames = num_frames
    processor.video_processor.num_frames = num_frames


class TellEpoch(TrainerCallback):
    """Says which epoch begins, also after a resumption in its middle.

    Args:
        listener (`Callable[[int], None]`): Called with the epoch, counted from 0.
    """

    def __init__(self, listener: Callable[[int], None]) -> None:
        self.listener = listener

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Tell the listener."""
        self.listener(int(state.epoch or 0))


def _pair_settings(args: VideoRewardConfig) -> PairSettings:
    return PairSettings(tuple(args.dimensions or (MEAN,)), args.ties != "drop", args.use_margin)


def _by_name(data: PreferenceSets | None, name: str) -> dict[str, PreferenceData]:
    """Return data sets under their names; a single one is called as the argument is."""
    if data is None:
        return {}
    if isinstance(data, DatasetDict | IterableDatasetDict) and name == "train_dataset":
        raise ValueError(f"train_dataset must be one split of a {type(data).__name__}: got all of {list(data)}.")
    if isinstance(data, Mapping):
        if not data:
            raise ValueError(f"{name} must hold at least one data set: got an empty dict.")
        return dict(data)
    return {name: data}
