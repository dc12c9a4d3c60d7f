"""What a user hands the trainer, turned into what it works with: pipeline, rewards, prompts."""

import logging
import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from accelerate.utils import str_to_bool
from datasets import Dataset, Value
from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from draftv_trainer.draftv_config import DRaFTVConfig
from draftv_trainer.lora import find_denoisers
from draftv_trainer.reward_terms import RewardFunction
from draftv_trainer.sampling import check_prompts
from videorm_hf.models.sources import PIPELINE_FILES, find_source, loading
from videorm_hf.rewards import load_reward

logger = logging.getLogger(__name__)

Prompts: TypeAlias = Dataset | list[str]
RewardFunctions: TypeAlias = RewardFunction | str | list[RewardFunction | str]


def collate_prompts(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Gather examples into the arguments of the rollout.

    Args:
        examples (`list[dict[str, Any]]`):
            Rows with a `prompt` and any other columns.

    Returns:
        `dict[str, Any]`: `prompts`, a list of strings, and `columns`, a dict of lists.
    """
    prompts = [example["prompt"] for example in examples]
    names = [name for name in examples[0] if name != "prompt"]
    return {"prompts": prompts, "columns": {name: [example[name] for example in examples] for name in names}}


def load_pipeline(model: DiffusionPipeline | str | os.PathLike[str], args: DRaFTVConfig) -> DiffusionPipeline:
    """Return the pipeline on the training device, its own progress bar off; without what `shard_denoiser` divides.

    Args:
        model (`DiffusionPipeline` or `str` or `os.PathLike`):
            The pipeline, or where `DiffusionPipeline.from_pretrained` finds it.
        args (`DRaFTVConfig`):
            The run's settings.

    Returns:
        `DiffusionPipeline`: ready to be tuned.

    Raises:
        TypeError: If it is no pipeline.
        ValueError: If `model_init_kwargs` are given for a pipeline that is loaded already.
    """
    if isinstance(model, str | os.PathLike):
        source = find_source(model, "model", PIPELINE_FILES)
        with loading(source):
            pipe = DiffusionPipeline.from_pretrained(source, **args.loading_arguments())
    elif args.model_init_kwargs:
        raise ValueError("model_init_kwargs must be None when model is a pipeline: load it with these arguments.")
    else:
        pipe = model
    if not isinstance(pipe, DiffusionPipeline):
        raise TypeError(f"model must be a diffusers pipeline or a path to one: got {type(pipe).__name__}.")
    pipe.set_progress_bar_config(disable=True)
    if not args.shard_denoiser:
        return pipe.to(args.device)
    # Denoisers that are divided go there a block at a time: whole they may be too large.
    stay = find_denoisers(pipe)
    for name, component in pipe.components.items():
        if isinstance(component, torch.nn.Module) and name not in stay:
            component.to(args.device)
    return pipe


def load_rewards(reward_funcs: RewardFunctions, device: torch.device) -> list[RewardFunction]:
    """Load rewards by name, and freeze and place those that are modules.

    Args:
        reward_funcs (`Callable` or `str` or `list`):
            One or several callables, paths of VIDEORM folders, or names with weights (`hps_v2:PATH`).
        device (`torch.device`):
            Where modules go.

    Returns:
        `list[Callable]`: in the same order.
    """
    rewards = reward_funcs if isinstance(reward_funcs, list | tuple) else [reward_funcs]
    loaded = [load_reward(reward) if isinstance(reward, str) else reward for reward in rewards]
    for reward in loaded:
        if isinstance(reward, torch.nn.Module):
            reward.requires_grad_(False).eval().to(device)
    return loaded


def prompt_dataset(prompts: Prompts, argument: str) -> Dataset:
    """Return a dataset with a `prompt` column of strings.

    Args:
        prompts (`list[str]` or `datasets.Dataset`):
            What was given.
        argument (`str`):
            The argument's name, for messages.

    Returns:
        `datasets.Dataset`: with at least one row.

    Raises:
        TypeError: If it is of another type, or holds other things than strings.
        ValueError: If it is empty or has no such column.
    """
    if isinstance(prompts, list):
        return Dataset.from_dict({"prompt": check_prompts(prompts)})
    if not isinstance(prompts, Dataset):
        raise TypeError(f"{argument} must be a list of strings or a datasets.Dataset: got {type(prompts).__name__}.")
    if "prompt" not in prompts.column_names:
        raise ValueError(f"{argument} must have a column `prompt`: got {prompts.column_names}.")
    feature = prompts.features["prompt"]
    if not isinstance(feature, Value) or feature.dtype not in ("string", "large_string"):
        raise TypeError(f"The column `prompt` of {argument} must hold strings: got {feature}.")
    if len(prompts) == 0:
        raise ValueError(f"{argument} must hold at least one prompt: got an empty dataset.")
    missing = [row for row, prompt in enumerate(prompts["prompt"]) if prompt is None]
    if missing:
        raise TypeError(f"The column `prompt` of {argument} must hold strings: got none in row {missing[0]}.")
    return prompts


def check_parallelism(args: DRaFTVConfig) -> None:
    """Raise for sharding that is not supported, and keep Trainer from splitting batches over threads.

    Args:
        args (`DRaFTVConfig`):
            The run's settings; the number of GPUs of this process is set to one.

    Raises:
        ValueError: If FSDP or DeepSpeed is asked for.
    """
    asked_of_accelerate = any(
        str_to_bool(os.environ.get(name, "false")) for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    )
    if args.fsdp or args.deepspeed or asked_of_accelerate:
        raise ValueError(
            "FSDP and DeepSpeed settings of Trainer and accelerate are not supported: launch plain processes with "
            "torchrun, and set shard_denoiser=True for a denoiser too large for one device."
        )
    if args.n_gpu > 1:
        logger.warning("Using one of %d GPUs: launch with torchrun or accelerate to use them all.", args.n_gpu)
        args._n_gpu = 1
