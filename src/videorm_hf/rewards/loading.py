"""load_reward: a reward by a name and where its weights lie, `hps_v2:PATH`, or one's own, `module:name`."""

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from videorm_hf.models.sources import VIDEORM_FILES, find_source, load_config, loading
from videorm_hf.rewards.aesthetic import AestheticReward
from videorm_hf.rewards.base import Reward
from videorm_hf.rewards.clip import CLIPScoreReward, HPSv2Reward, PickScoreReward
from videorm_hf.rewards.function import import_reward
from videorm_hf.rewards.image_reward import ImageRewardReward
from videorm_hf.rewards.videorm import VideoRMReward
from videorm_hf.rewards.videorm_blip import VideoRMBlipReward

_OBJECT_PATH = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)")


def load_reward(spec: str | os.PathLike[str], **kwargs: Any) -> Reward:
    """Load a reward by its name and the place of its weights.

    Args:
        spec (`str` or `os.PathLike`):
            `NAME:SOURCE`, with a name of [`REWARDS`] and a path or hub id: `hps_v2:HPS_v2_compressed.pt`,
            `pick_score:yuvalkirstain/PickScore_v1`, `clip_score:ViT-H-14:laion2b_s32b_b79k`. A source alone is a
            VIDEORM's. `module:name` imports one's own, a function of frames and prompts or a [`Reward`], also from
            the working directory.
        kwargs (`Any`):
            Arguments of that reward's `from_pretrained`; one's own takes none.

    Returns:
        [`Reward`]: frozen, on the CPU.

    An unknown name, one without a source, or arguments for one's own reward are a `ValueError`.

    Example:

    ```python
    >>> from videorm_hf.rewards import load_reward

    >>> reward = load_reward("hps_v2.1:xswu/HPSv2")
    ```
    """
    name, source = _split(os.fspath(spec))
    return REWARDS[name](source, **kwargs) if name in REWARDS else _import_own(os.fspath(spec), kwargs)


def check_reward(spec: str | os.PathLike[str]) -> None:
    """Check that a word can name a reward, before anything large is loaded.

    Args:
        spec (`str` or `os.PathLike`):
            As for [`load_reward`], whose errors it raises. One's own is imported; of all else, names and the folders
            of VIDEORMs are looked at.
    """
    name, source = _split(os.fspath(spec))
    if name == "videorm":
        find_source(source, "A VIDEORM", VIDEORM_FILES)
    elif name not in REWARDS:
        _import_own(os.fspath(spec), {})


def _split(spec: str) -> tuple[str, str]:
    """Return the name and the source in a word; a source alone is a VIDEORM's."""
    name, colon, source = spec.partition(":")
    if Path(spec).exists() or not colon and spec not in REWARDS:
        return "videorm", spec
    if name in REWARDS and not source:
        raise ValueError(f"{spec!r} names no weights: write {name}:SOURCE with a path or hub id.")
    return name, source


def _import_own(spec: str, arguments: Mapping[str, Any]) -> Reward:
    """Import a reward of one's own, which takes no arguments."""
    name = spec.partition(":")[0]
    own = _OBJECT_PATH.fullmatch(spec)
    if own is not None and not arguments:
        try:
            return import_reward(own["module"], own["name"])
        except ModuleNotFoundError as error:
            if error.name != own["module"].partition(".")[0] and error.name != own["module"]:
                raise  # the module is there, and lacks one that it imports itself
    raise ValueError(
        f"There is no reward {name!r} (in {spec!r}) and no such module in {os.getcwd()} or among the installed ones. "
        f"Write NAME:SOURCE with one of {', '.join(REWARDS)}, the folder or hub id of a VIDEORM alone, or "
        "module:function for one of your own, which takes no further arguments."
    )


def _load_videorm(source: str, **kwargs: Any) -> Reward:
    """Load a VIDEORM on CLIP or on ImageReward, whichever the folder holds."""
    source = find_source(source, "A VIDEORM", VIDEORM_FILES)
    with loading(source):
        is_blip = load_config(source, kwargs).model_type == "videorm_blip"
    return (VideoRMBlipReward if is_blip else VideoRMReward).from_pretrained(source, **kwargs)


# What can stand before the colon.
REWARDS: dict[str, Callable[..., Reward]] = {
    "videorm": _load_videorm,
    "hps_v2": partial(HPSv2Reward.from_pretrained, version="2.0"),
    "hps_v2.1": partial(HPSv2Reward.from_pretrained, version="2.1"),
    "pick_score": PickScoreReward.from_pretrained,
    "clip_score": CLIPScoreReward.from_pretrained,
    "image_reward": ImageRewardReward.from_pretrained,
    "aesthetic": AestheticReward.from_pretrained,
}
