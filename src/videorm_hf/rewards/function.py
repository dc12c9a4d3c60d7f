"""FunctionReward: a plain function of frames and prompts as a reward; how `load_reward` finds one of one's own."""

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import torch

from videorm_hf.rewards.base import Reward, check_videos

# (frames (B, T, 3, H, W) in [0, 1], one prompt a video, perhaps columns of the data set) -> (B,)
VideoFunction = Callable[..., torch.Tensor]


class FunctionReward(Reward):
    """Score videos by a function, so that it can be mixed, compared and judged like any other reward.

    Args:
        function (`Callable`):
            `(frames (B, T, 3, height, width) in [0, 1], prompts of length B) -> (B,)`, higher is better. Of the data
            set's columns it gets those that it has an argument for.
        name (`str`, *optional*):
            Under which it is logged. Defaults to the function's name.

    Example:

    ```python
    >>> from videorm_hf.rewards import FunctionReward

    >>> darkness = FunctionReward(lambda frames, prompts: -frames.mean(dim=(1, 2, 3, 4)), name="darkness")
    ```
    """

    def __init__(self, function: VideoFunction, name: str | None = None) -> None:
        super().__init__()
        self.function = function
        self._name = reward_name(function) if name is None else name

    @property
    def name(self) -> str:
        """The name given, or the function's."""
        return self._name

    def forward(self, frames: torch.Tensor, prompts: list[str], **columns: Any) -> torch.Tensor:
        """Score videos; see [`Reward`]."""
        check_videos(frames, prompts)
        taken = taken_columns(self.function)
        chosen = {key: value for key, value in columns.items() if taken is None or key in taken}
        rewards = self.function(frames, prompts, **chosen)
        if not isinstance(rewards, torch.Tensor) or rewards.shape != (len(frames),):
            got = tuple(rewards.shape) if isinstance(rewards, torch.Tensor) else type(rewards).__name__
            raise ValueError(
                f"{self.name} must return a tensor of shape ({len(frames)},), one reward a video: got {got}."
            )
        return rewards


def reward_name(function: VideoFunction) -> str:
    """Return a reward's own name, a function's name, or the class name of any other callable."""
    if isinstance(function, Reward):
        return function.name
    if isinstance(function, functools.partial):
        return reward_name(function.func)
    return function.__name__ if inspect.isroutine(function) else type(function).__name__


def taken_columns(function: VideoFunction) -> frozenset[str] | None:
    """Return the names of the data set's columns that a reward takes, or `None` when it takes any."""
    signature = inspect.signature(function.forward if isinstance(function, torch.nn.Module) else function)
    try:
        signature.bind_partial(None, None)
    except TypeError as error:
        raise TypeError(f"A reward takes (frames, prompts): got {reward_name(function)}{signature}.") from error
    parameters = list(signature.parameters.values())
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters[2:])


def import_reward(module_name: str, name: str) -> Reward:
    """Import a reward of one's own; modules of the working directory are found.

    Args:
        module_name (`str`):
            The module, such as `my_rewards`.
        name (`str`):
            A [`Reward`], a function or another callable in it; a class is called without arguments.

    Returns:
        [`Reward`]: functions as a [`FunctionReward`].

    Raises:
        ImportError: If the module has no such name. One that is absent is a `ModuleNotFoundError`.
        TypeError: If what is found cannot be called.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module = importlib.import_module(module_name)
    if name not in vars(module):
        raise ImportError(
            f"The reward {module_name}:{name} is not there: the module {module.__file__} has no {name!r}."
        )
    found = vars(module)[name]
    if isinstance(found, type):
        found = found()
    if not callable(found):
        raise TypeError(
            f"The reward {module_name}:{name} must be a function (frames, prompts) -> rewards or a Reward: got "
            f"{type(found).__name__}."
        )
    return found if isinstance(found, Reward) else FunctionReward(found)
