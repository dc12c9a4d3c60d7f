"""The DRaFT-V trainer: transformers' Trainer with the reward of sampled videos as its objective.

Source: Wu et al. 2024 (NeurIPS), Sec. 3.3; Clark et al. 2024 (DRaFT, arXiv 2309.17400).
"""

import logging
import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from datasets import Dataset, Value
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from peft import LoraConfig
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, set_seed
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import EvalLoopOutput

from draftv_trainer.draftv_config import DRaFTVConfig
from draftv_trainer.lora import add_lora, restore_lora, save_lora
from draftv_trainer.rollout import RewardFunction, RewardRollout, make_reward_terms, noise_seed
from draftv_trainer.sampling import check_prompts
from videorm_hf.rewards import VideoRMReward

logger = logging.getLogger(__name__)

Prompts: TypeAlias = Dataset | list[str]


class DRaFTVTrainer(Trainer):
    """Tune a text-to-video pipeline by the gradient of differentiable video rewards.

    Each step samples one video per prompt, scores it and follows the gradient of the mean weighted reward through the
    last K sampling steps into a LoRA on the denoiser. Everything else stays frozen. The pipeline is changed in place:
    after training it samples with the LoRA.

    Args:
        model (`DiffusionPipeline` or `str` or `os.PathLike`):
            The pipeline, or where `DiffusionPipeline.from_pretrained` finds it.
        reward_funcs (`Callable` or `str` or `list`):
            One or several of: a callable `(frames, prompts, **columns) -> rewards` with frames
            `(batch_size, num_frames, 3, height, width)` in `[0, 1]` and rewards `(batch_size,)`, higher is better; or
            the path of a VIDEORM folder. A reward that is a module is frozen and moved to the training device.
        args (`DRaFTVConfig`, *optional*):
            Settings.
        train_dataset (`list[str]` or `datasets.Dataset`):
            Prompts, or a dataset with a `prompt` column; its other columns reach the rewards that take them.
        eval_dataset (`list[str]` or `datasets.Dataset`, *optional*):
            The same for evaluation, which samples with the same noise every time.
        peft_config (`peft.LoraConfig`, *optional*):
            The LoRA; by default [`default_lora_config`].
        callbacks (`list[TrainerCallback]`, *optional*):
            As for Trainer.
        optimizers (`tuple`, *optional*):
            Optimiser and learning-rate scheduler, as for Trainer.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If arguments do not fit each other or the pipeline.

    Reference:
        Wu et al. 2024 (NeurIPS), Sec. 3.3. Differs: the form of the loss is open there; here it is minus the mean
        reward.
    """

    def __init__(
        self,
        model: DiffusionPipeline | str | os.PathLike[str],
        reward_funcs: RewardFunction | str | list[RewardFunction | str],
        args: DRaFTVConfig | None = None,
        train_dataset: Prompts | None = None,
        eval_dataset: Prompts | None = None,
        peft_config: LoraConfig | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
    ) -> None:
        args = args if args is not None else DRaFTVConfig(output_dir="draftv-output")
        _check_parallelism(args)
        self.pipe = _load_pipeline(model, args)
        # The LoRA's first weights are random: seeded here, for Trainer seeds only after its model exists.
        set_seed(args.seed)
        denoiser = add_lora(self.pipe, peft_config)
        terms = make_reward_terms(_load_rewards(reward_funcs, args.device), args.reward_weights)
        self.reward_names = [term.name for term in terms]
        self._reward_sums: dict[str, torch.Tensor] = {}
        self._micro_step, self._micro_step_of = 0, -1
        self._eval_batch = 0
        super().__init__(
            model=RewardRollout(self.pipe, denoiser, terms, args.sampling_settings()),
            args=args,
            data_collator=collate_prompts,
            train_dataset=None if train_dataset is None else _prompt_dataset(train_dataset, "train_dataset"),
            eval_dataset=None if eval_dataset is None else _prompt_dataset(eval_dataset, "eval_dataset"),
            callbacks=callbacks,
            optimizers=optimizers,
        )

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Run one micro-step with gradients on, even where another library has turned them off globally.

        Args:
            model (`torch.nn.Module`):
                The [`RewardRollout`], possibly wrapped.
            inputs (`dict[str, Any]`):
                What [`collate_prompts`] returns.
            num_items_in_batch (`int`, *optional*):
                As for Trainer.

        Returns:
            `torch.Tensor`: the loss, a scalar without a graph.
        """
        with torch.enable_grad():
            return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sample and score one micro-batch of prompts.

        Args:
            model (`torch.nn.Module`):
                The [`RewardRollout`], possibly wrapped.
            inputs (`dict[str, Any]`):
                What [`collate_prompts`] returns.
            return_outputs (`bool`, defaults to `False`):
                Whether to return the rollout's outputs too.
            num_items_in_batch (`int`, *optional*):
                Not used: the loss is a mean over videos, and every micro-batch counts the same.

        Returns:
            `torch.Tensor`: the loss, a scalar; or a pair of it and the outputs.
        """
        if self._micro_step_of != self.state.global_step:
            self._micro_step, self._micro_step_of = 0, self.state.global_step
        batch_size = self.args.per_device_train_batch_size
        seeds = self._seeds(self.state.global_step, self._micro_step, batch_size, len(inputs["prompts"]))
        self._micro_step += 1
        outputs = model(**inputs, seeds=seeds)
        self._add_rewards("train", outputs)
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor, None, None]:
        """Sample and score one batch of evaluation prompts, with noise that is the same at every evaluation.

        Args:
            model (`torch.nn.Module`):
                The [`RewardRollout`], possibly wrapped, in evaluation mode.
            inputs (`dict[str, Any]`):
                What [`collate_prompts`] returns.
            prediction_loss_only (`bool`):
                Not used: there are no predictions but the rewards.
            ignore_keys (`list[str]`, *optional*):
                Not used.

        Returns:
            `tuple`: the loss, a scalar tensor, and twice None.
        """
        inputs = self._prepare_inputs(inputs)
        seeds = self._seeds(0, self._eval_batch, self.args.per_device_eval_batch_size, len(inputs["prompts"]))
        self._eval_batch += 1
        outputs = model(**inputs, seeds=seeds)
        self._add_rewards("eval", outputs)
        return outputs["loss"], None, None

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluate as Trainer does and add the mean rewards to the metrics.

        Args:
            dataloader (`DataLoader`):
                Batches of [`collate_prompts`].
            description (`str`):
                For the log.
            prediction_loss_only (`bool`, *optional*):
                As for Trainer.
            ignore_keys (`list[str]`, *optional*):
                As for Trainer.
            metric_key_prefix (`str`, defaults to `"eval"`):
                Put before each metric's name.

        Returns:
            `EvalLoopOutput`: with `eval_reward` and `eval_rewards/<name>` among its metrics.
        """
        self._eval_batch = 0
        self._reward_sums.pop("eval", None)
        output = super().evaluation_loop(
            dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix=metric_key_prefix
        )
        rewards = {f"{metric_key_prefix}_{key}": value for key, value in self._mean_rewards("eval").items()}
        return output._replace(metrics={**(output.metrics or {}), **rewards})

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as Trainer does, with the mean rewards since the last time beside the loss.

        Args:
            logs (`dict[str, float]`):
                Values to log.
            start_time (`float`, *optional*):
                As for Trainer.
        """
        if "loss" in logs:
            logs = {**logs, **self._mean_rewards("train")}
        super().log(logs, start_time)

    def _seeds(self, step: int, batch_index: int, batch_size: int, num_samples: int) -> list[int]:
        """Return the noise seed of each sample of this process's batch, from its place in the global batch."""
        first = (batch_index * self.args.world_size + self.args.process_index) * batch_size
        return [noise_seed(self.args.seed, step, first + index) for index in range(num_samples)]

    def _add_rewards(self, mode: str, outputs: dict[str, torch.Tensor]) -> None:
        """Add a batch's rewards to the running sums: count, total, then each reward."""
        total, rewards = outputs["total"], outputs["rewards"]
        sums = torch.cat([total.new_tensor([float(len(total))]), total.sum()[None], rewards.sum(dim=1)])
        self._reward_sums[mode] = self._reward_sums[mode] + sums if mode in self._reward_sums else sums

    def _mean_rewards(self, mode: str) -> dict[str, float]:
        """Return the mean rewards over all processes since the last call, and start afresh."""
        if mode not in self._reward_sums:
            return {}
        count, *sums = self.accelerator.reduce(self._reward_sums.pop(mode), reduction="sum").tolist()
        names = ["reward", *(f"rewards/{name}" for name in self.reward_names)]
        return {name: value / count for name, value in zip(names, sums, strict=True)}

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Write the LoRA, nothing else of the pipeline."""
        if self.args.should_save:
            save_lora(self.pipe, output_dir or self.args.output_dir or ".")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Read the LoRA of a checkpoint that was written to its end."""
        # Trainer writes this file last. It would silently start a new optimiser where the others are missing.
        if not os.path.isfile(os.path.join(resume_from_checkpoint, TRAINER_STATE_NAME)):
            raise ValueError(
                f"{resume_from_checkpoint} is not a complete checkpoint: {TRAINER_STATE_NAME} is missing. Resume from "
                "an earlier one."
            )
        restore_lora(self.pipe, resume_from_checkpoint)

    def _load_best_model(self) -> None:
        """Read the LoRA of the best checkpoint back at the end of training."""
        if self.state.best_model_checkpoint is not None:
            restore_lora(self.pipe, self.state.best_model_checkpoint)


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


def _load_pipeline(model: DiffusionPipeline | str | os.PathLike[str], args: DRaFTVConfig) -> DiffusionPipeline:
    """Return the pipeline on the training device, its own progress bar off."""
    if isinstance(model, str | os.PathLike):
        pipe = DiffusionPipeline.from_pretrained(model, **args.loading_arguments())
    elif args.model_init_kwargs:
        raise ValueError("model_init_kwargs must be None when model is a pipeline: load it with these arguments.")
    else:
        pipe = model
    if not isinstance(pipe, DiffusionPipeline):
        raise TypeError(f"model must be a diffusers pipeline or a path to one: got {type(pipe).__name__}.")
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(args.device)


def _load_rewards(
    reward_funcs: RewardFunction | str | list[RewardFunction | str], device: torch.device
) -> list[RewardFunction]:
    """Load VIDEORM folders, and freeze and place the rewards that are modules."""
    rewards = reward_funcs if isinstance(reward_funcs, list | tuple) else [reward_funcs]
    loaded = [VideoRMReward.from_pretrained(reward) if isinstance(reward, str) else reward for reward in rewards]
    for reward in loaded:
        if isinstance(reward, torch.nn.Module):
            reward.requires_grad_(False).eval().to(device)
    return loaded


def _prompt_dataset(prompts: Prompts, argument: str) -> Dataset:
    """Return a dataset with a `prompt` column of strings."""
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
    return prompts


def _check_parallelism(args: DRaFTVConfig) -> None:
    """Raise for sharding that is not supported, and keep Trainer from splitting batches over threads."""
    if args.fsdp or args.deepspeed:
        raise ValueError("FSDP and DeepSpeed are not supported yet: launch plain processes with torchrun.")
    if args.n_gpu > 1:
        logger.warning("Using one of %d GPUs: launch with torchrun or accelerate to use them all.", args.n_gpu)
        args._n_gpu = 1
