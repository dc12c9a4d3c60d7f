"""Prompts encoded once and for all, so that a pipeline's text encoders can be released while it is tuned.

What the pipeline's own `encode_prompt` returns is remembered for each prompt, whatever it consists of (embeddings,
negative ones, masks, pooled ones), and returned again when the pipeline asks: no list of names is needed.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from draftv_trainer.sampling import sample

# Where and in which type a result is wanted is no property of the prompt.
_NOT_IN_KEY = ("device", "dtype")
# Some pipelines say beside the prompts how many there are, for where there are none.
_BATCH_SIZE = "batch_size"
_SETTING = "precompute_prompt_embeds"


def precompute_prompts(pipe: DiffusionPipeline, prompts: Iterable[str], pipeline_kwargs: Mapping[str, Any]) -> None:
    """Encode prompts with the pipeline's own arguments, remember the results, and release the text encoders.

    From then on the pipeline samples these prompts, with these arguments, as before, and no others; its components
    called `text_encoder...` are None. Keep a reference to them to put them back. The results lie in CPU memory.

    Args:
        pipe (`DiffusionPipeline`):
            Changed in place. Its class must have a method `encode_prompt`.
        prompts (`list[str]`):
            Every prompt that is to be sampled.
        pipeline_kwargs (`dict[str, Any]`):
            Arguments of the pipeline's call, such as `guidance_scale` and `negative_prompt`.

    Raises:
        ValueError: If the pipeline has no `encode_prompt` or needs its text encoders elsewhere too.
    """
    kind = type(pipe).__name__
    if "encode_prompt" not in dir(type(pipe)):
        raise ValueError(f"{kind} has no method encode_prompt, where {_SETTING} begins: leave it off.")
    if not prompts:
        raise ValueError(f"{_SETTING} encodes the prompts of the datasets and of sample_prompts: got none.")
    encoders = {name: part for name, part in pipe.components.items() if name.startswith("text_encoder")}
    memory = _PromptMemory(pipe.encode_prompt)
    pipe.encode_prompt = memory
    distinct = list(dict.fromkeys(prompts))
    try:
        for prompt in distinct:
            _encode_only(pipe, prompt, pipeline_kwargs)
        memory.release()
        for name in encoders:
            setattr(pipe, name, None)
        # Once more without them: what else needs a text encoder shows now, not at the first step.
        _encode_only(pipe, distinct[0], pipeline_kwargs)
    except (AttributeError, TypeError) as error:
        del pipe.encode_prompt
        for name, encoder in encoders.items():
            setattr(pipe, name, encoder)
        raise ValueError(f"{kind} cannot sample without its text encoders ({error}): leave {_SETTING} off.") from error


class _PromptMemory:
    """Stand in for a pipeline's `encode_prompt`: encode each prompt once, remember the result, return it joined."""

    def __init__(self, encode: Callable[..., Any]) -> None:
        self.encode: Callable[..., Any] | None = encode
        self.signature = inspect.signature(encode)
        self.results: dict[tuple[tuple[str, str], ...], list[Any]] = {}
        self.device = torch.device("cpu")

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        prompts = bound.arguments["prompt"]
        num_prompts = len(prompts) if isinstance(prompts, list) else bound.arguments.get(_BATCH_SIZE, 1)
        rows = [self._look_up(_row(bound.arguments, index, num_prompts)) for index in range(num_prompts)]
        return tuple(_joined(parts, self.device) for parts in zip(*rows, strict=True))

    def release(self) -> None:
        """Let go of the pipeline's own method."""
        self.encode = None

    def _look_up(self, arguments: dict[str, Any]) -> list[Any]:
        """Return what was remembered for one prompt; remember it first while the text encoders are there."""
        key = tuple((name, repr(value)) for name, value in sorted(arguments.items()) if name not in _NOT_IN_KEY)
        if key not in self.results:
            if self.encode is None:
                raise ValueError(
                    f"The prompt {arguments['prompt']!r} was not encoded with these arguments before the text "
                    f"encoders were released: add it to the datasets or sample_prompts, or leave {_SETTING} off."
                )
            self.results[key] = self._kept(self.encode(**arguments))
        return self.results[key]

    def _kept(self, result: Any) -> list[Any]:
        """Move the parts of a result to the CPU; what equals the first prompt's, as negatives do, is kept once."""
        if not isinstance(result, tuple) or not all(part is None or isinstance(part, torch.Tensor) for part in result):
            raise TypeError("encode_prompt must return a tuple of tensors and None")
        self.device = next((part.device for part in result if part is not None), self.device)
        parts = [None if part is None else part.cpu() for part in result]
        first = next(iter(self.results.values()), parts)
        return [_one_of(part, known) for part, known in zip(parts, first, strict=True)]


def _one_of(part: torch.Tensor | None, known: torch.Tensor | None) -> torch.Tensor | None:
    """Return the known tensor if the part is equal to it."""
    return known if part is not None and known is not None and torch.equal(part, known) else part


def _row(arguments: Mapping[str, Any], index: int, num_prompts: int) -> dict[str, Any]:
    """Return the arguments for one of several prompts: of lists of texts, as long as the prompts, that one text."""
    row = {
        name: [value[index]] if isinstance(value, list) and len(value) == num_prompts else value
        for name, value in arguments.items()
    }
    return {**row, _BATCH_SIZE: 1} if _BATCH_SIZE in row else row


def _joined(parts: Sequence[torch.Tensor | None], device: torch.device) -> torch.Tensor | None:
    """Join one part of several prompts' results along the batch."""
    tensors = [part for part in parts if part is not None]
    if not tensors:
        return None
    if len({tensor.shape[1:] for tensor in tensors}) > 1:
        raise ValueError(
            f"Remembered prompt embeddings of shapes {[tuple(tensor.shape) for tensor in tensors]} cannot be joined: "
            f"set per_device_train_batch_size=1 and per_device_eval_batch_size=1, or leave {_SETTING} off."
        )
    return torch.cat(tensors).to(device)


class _Encoded(Exception):
    """Ends a call of the pipeline where sampling would begin."""


def _encode_only(pipe: DiffusionPipeline, prompt: str, pipeline_kwargs: Mapping[str, Any]) -> None:
    """Call the pipeline up to where it sets its scheduler's timesteps: by then it has encoded the prompt."""
    scheduler = pipe.scheduler
    stopping = copy.deepcopy(scheduler)

    @functools.wraps(scheduler.set_timesteps)
    def set_timesteps(*args: Any, **kwargs: Any) -> NoReturn:
        raise _Encoded

    stopping.set_timesteps = set_timesteps
    pipe.scheduler = stopping
    try:
        sample(pipe, [prompt], **pipeline_kwargs)
    except _Encoded:
        pass
    finally:
        pipe.scheduler = scheduler
