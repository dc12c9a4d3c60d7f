"""The DRaFT-V trainer: transformers' Trainer with the reward of sampled videos as its objective.

Source: Wu et al. 2024 (NeurIPS), Sec. 3.3; Clark et al. 2024 (DRaFT, arXiv 2309.17400).
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from peft import LoraConfig
from torch.utils.data import DataLoader
from transformers import TrainerCallback, set_seed
from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from draftv_trainer.callbacks import (
    FixedPrompts,
    RewardProgressCallback,
    SampleVideosCallback,
    SkipNonFiniteCallback,
)
from draftv_trainer.draftv_config import DRaFTVConfig
from draftv_trainer.ema import LoraAverage
from draftv_trainer.lora import LORA_WEIGHTS_NAME, add_lora, find_denoisers, restore_lora, save_lora
from draftv_trainer.model_card import FACTS_NAME, reads_own_lora, run_facts, write_card
from draftv_trainer.prompt_embeds import precompute_prompts
from draftv_trainer.reward_terms import RewardTerm, make_reward_terms
from draftv_trainer.rollout import RewardRollout, check_accepted, noise_seed, step_seed
from draftv_trainer.sampling import check_prompts
from draftv_trainer.sharding import shard_denoisers
from draftv_trainer.trainer_inputs import (
    Prompts,
    RewardFunctions,
    check_parallelism,
    collate_prompts,
    load_pipeline,
    load_rewards,
    prompt_dataset,
)
from videorm_hf.trainer.resumable_trainer import ResumableTrainer
from videorm_hf.trainer.resuming import CheckpointFiles

NUM_FIXED_PROMPTS = 4


# What resuming needs beyond Trainer's own files: the average of the LoRA, counts, what the guard holds.
RUN_STATE_NAME = "draftv_state.pt"
CHECKPOINT = CheckpointFiles(
    facts=FACTS_NAME,
    settings=("rewards", "sampling", "lora", "training"),
    weights=(LORA_WEIGHTS_NAME,),
    archives=(RUN_STATE_NAME,),
)


class DRaFTVTrainer(ResumableTrainer):
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
        optimizer_cls_and_kwargs (`tuple[type[torch.optim.Optimizer], dict[str, Any]]`, *optional*):
            As for Trainer, for an optimiser that `optim` does not know. A ready one cannot be given: the weights that
            it would hold are made here.
        monitor_rewards (`Callable` or `str` or `list`, *optional*):
            Rewards in the same forms that are never trained on: the guard evaluates them every `guard_steps`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If arguments do not fit each other or the pipeline.

    Reference:
        Wu et al. 2024 (NeurIPS), Sec. 3.3. Differs: the form of the loss is open there; here it is minus the mean
        reward.
    """

    checkpoint_files = CHECKPOINT

    def __init__(
        self,
        model: DiffusionPipeline | str | os.PathLike[str],
        reward_funcs: RewardFunctions,
        args: DRaFTVConfig | None = None,
        train_dataset: Prompts | None = None,
        eval_dataset: Prompts | None = None,
        peft_config: LoraConfig | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        monitor_rewards: RewardFunctions | None = None,
    ) -> None:
        args = args if args is not None else DRaFTVConfig(output_dir="draftv-output")
        check_parallelism(args)
        # What may be refused comes before the LoRA, which changes the user's pipeline.
        if train_dataset is not None:
            train_dataset = prompt_dataset(train_dataset, "train_dataset")
        if eval_dataset is not None:
            eval_dataset = prompt_dataset(eval_dataset, "eval_dataset")
        if monitor_rewards is not None and args.guard_steps is None:
            raise ValueError("monitor_rewards are evaluated every guard_steps steps: got guard_steps=None. Set it.")
        terms = make_reward_terms(load_rewards(reward_funcs, args.device), args.reward_weights)
        self.pipe = load_pipeline(model, args)
        check_accepted(self.pipe, args.sampling_settings())
        # The LoRA's first weights are random: seeded here, for Trainer seeds only after its model exists.
        set_seed(args.seed)
        denoiser = add_lora(self.pipe, peft_config, args.denoiser)
        self._metric_sums: dict[str, torch.Tensor] = {}
        self._metric_names: dict[str, list[str]] = {}
        self._micro_step, self._micro_step_of = 0, -1
        self._eval_batch, self._eval_size = 0, 0
        rollout = self.make_rollout(denoiser, terms, args)
        if args.shard_denoiser:
            shard_denoisers(rollout, find_denoisers(self.pipe).values(), args.device)
        super().__init__(
            model=rollout,
            args=args,
            data_collator=collate_prompts,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            callbacks=callbacks,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
        )
        self._add_own_callbacks(monitor_rewards)
        if args.precompute_prompt_embeds:
            datasets = [dataset for dataset in (self.train_dataset, self.eval_dataset) if dataset is not None]
            prompts = [prompt for dataset in datasets for prompt in dataset["prompt"]] + (args.sample_prompts or [])
            precompute_prompts(self.pipe, prompts, args.sampling_settings().pipeline_kwargs)

    def make_rollout(self, denoiser: ModelMixin, terms: Sequence[RewardTerm], args: DRaFTVConfig) -> RewardRollout:
        """Build the module that is trained: how a subclass samples otherwise.

        Args:
            denoiser (`ModelMixin`):
                The denoiser of `self.pipe`, with its LoRA.
            terms (`list[RewardTerm]`):
                The rewards.
            args (`DRaFTVConfig`):
                The run's settings.

        Returns:
            `RewardRollout`: prompts in, loss out.
        """
        return RewardRollout(self.pipe, denoiser, terms, args.sampling_settings())

    def _add_own_callbacks(self, monitor_rewards: RewardFunctions | None) -> None:
        """Add what watches the run, after Trainer's reporters, which must be ready before."""
        self._weights = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._skip_nonfinite = SkipNonFiniteCallback(self._weights, self.args.max_nonfinite_steps)
        self.add_callback(self._skip_nonfinite)
        self._average = LoraAverage(self._weights, self.args.ema_decay) if self.args.ema_decay is not None else None
        if self._average is not None:
            self.add_callback(self._average)
        if self.pop_callback(ProgressCallback) is not None:
            self.add_callback(RewardProgressCallback())
        self._sample_videos: SampleVideosCallback | None = None
        if self.args.sample_steps is not None or self.args.guard_steps is not None:
            monitors = [] if monitor_rewards is None else load_rewards(monitor_rewards, self.args.device)
            self._sample_videos = SampleVideosCallback(
                self, self._fixed_prompts(), make_reward_terms(monitors) if monitors else []
            )
            self.add_callback(self._sample_videos)

    def _fixed_prompts(self) -> FixedPrompts:
        """Return the prompts of sample videos and guard: those of the settings, else the first rows of a dataset."""
        if self.args.sample_prompts is not None:
            return FixedPrompts(check_prompts(self.args.sample_prompts), {})
        dataset = self.eval_dataset if self.eval_dataset is not None else self.train_dataset
        if dataset is None:
            raise ValueError("sample_steps and guard_steps need prompts: got no dataset. Set sample_prompts.")
        return FixedPrompts(**collate_prompts([dataset[i] for i in range(min(NUM_FIXED_PROMPTS, len(dataset)))]))

    @property
    def guard_kept_step(self) -> int | None:
        """Step of the LoRA that the guard put back when it stopped the run; `None` where it did not."""
        return next((row["guard_kept_step"] for row in self.state.log_history if "guard_kept_step" in row), None)

    def published_weights(self) -> AbstractContextManager[None]:
        """Put the weights that are evaluated, sampled from and saved into the LoRA's place within a context.

        Returns:
            `AbstractContextManager`: of the moving average with `ema_decay`, else one that does nothing.
        """
        return nullcontext() if self._average is None else self._average.applied()

    def copy_weights(self) -> list[torch.Tensor]:
        """Copy what [`published_weights`] puts into the LoRA's place.

        Returns:
            `list[torch.Tensor]`: of each of its parameters.
        """
        with self.published_weights():
            return [parameter.detach().clone() for parameter in self._weights]

    def put_back(self, weights: Sequence[torch.Tensor]) -> None:
        """Put copied weights into the LoRA, and into its moving average.

        Args:
            weights (`list[torch.Tensor]`):
                What [`copy_weights`] returned.
        """
        with torch.no_grad():
            for parameter, weight in zip(self._weights, weights, strict=True):
                parameter.copy_(weight)
        if self._average is not None:
            self._average.restart()

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Train, or go on from a checkpoint; see [`~videorm_hf.trainer.resumable_trainer.ResumableTrainer.train`]."""
        self._micro_step_of = -1  # an interrupted call may have ended in the midst of a step
        return super().train(resume_from_checkpoint, **kwargs)

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
        outputs = model(
            **inputs,
            seeds=seeds,
            step_seed=step_seed(self.args.seed, self.state.global_step),
            require_finite=self.state.global_step == 0,
        )
        self._add_metrics("train", outputs)
        # Through the gradients' reduction a NaN reaches every process, so that all skip the update together.
        loss = outputs["loss"] * torch.where(outputs["loss"].detach().isfinite(), 1.0, torch.nan)
        return (loss, outputs) if return_outputs else loss

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
        batch_size = self.args.per_device_eval_batch_size
        seeds = self._seeds(0, self._eval_batch, batch_size, len(inputs["prompts"]))
        outputs = model(**inputs, seeds=seeds, require_finite=True)
        # accelerate fills the last batches up from the beginning of the data: each prompt counts once.
        num_real = min(max(self._eval_size - self._first_place(self._eval_batch, batch_size), 0), len(seeds))
        self._eval_batch += 1
        self._add_metrics("eval", outputs, num_real)
        loss, clip = outputs["loss"], self.args.reward_clip
        if 0 < num_real < len(seeds):
            total = outputs["total"][:num_real]
            loss = -(total if clip is None else total.clamp(max=clip)).mean()
        return loss, None, None

    def get_eval_dataloader(self, eval_dataset: Prompts | str | None = None) -> DataLoader:
        """Read prompts for `evaluate`.

        Args:
            eval_dataset (`list[str]` or `datasets.Dataset` or `str`, *optional*):
                Prompts in any form that the constructor takes; else as for Trainer.

        Returns:
            `DataLoader`: batches of [`collate_prompts`].
        """
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = prompt_dataset(eval_dataset, "eval_dataset")
        return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Prompts) -> DataLoader:
        """Read prompts for `predict`; see [`~DRaFTVTrainer.get_eval_dataloader`]."""
        return super().get_test_dataloader(prompt_dataset(test_dataset, "test_dataset"))

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
        self._eval_batch, self._eval_size = 0, self.num_examples(dataloader)
        self._metric_sums.pop("eval", None)
        with self.published_weights():
            output = super().evaluation_loop(
                dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix=metric_key_prefix
            )
        rewards = {f"{metric_key_prefix}_{key}": value for key, value in self._mean_metrics("eval").items()}
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
            logs = {**logs, **self._mean_metrics("train"), "nonfinite_steps": self._skip_nonfinite.num_skipped}
        super().log(logs, start_time)

    def _seeds(self, step: int, batch_index: int, batch_size: int, num_samples: int) -> list[int]:
        """Return the noise seed of each sample of this process's batch, from its place in the global batch."""
        first = self._first_place(batch_index, batch_size)
        return [noise_seed(self.args.seed, step, first + index) for index in range(num_samples)]

    def _first_place(self, batch_index: int, batch_size: int) -> int:
        """Return the place in the global batches of the first sample of this process's batch."""
        return (batch_index * self.args.world_size + self.args.process_index) * batch_size

    def _add_metrics(self, mode: str, outputs: dict[str, Any], num_real: int | None = None) -> None:
        """Add a batch's metrics to the running sums: the number of videos, then each metric times it.

        Of an evaluation only the first `num_real` videos count; its metrics are the rewards alone.
        """
        if num_real is not None:
            values = torch.stack([outputs["total"], *outputs["rewards"]])[:, :num_real]
            sums = torch.cat([values.new_tensor([float(num_real)]), values.sum(dim=1)])
        else:
            count = outputs["total"].new_tensor(float(len(outputs["total"])))
            sums = torch.stack([count, *(count * value for value in outputs["metrics"].values())])
        if mode == "train":
            # A skipped update's numbers would turn the whole mean into NaN.
            sums = torch.where(outputs["loss"].detach().isfinite(), sums, 0.0)
        self._metric_names[mode] = list(outputs["metrics"])
        self._metric_sums[mode] = self._metric_sums[mode] + sums if mode in self._metric_sums else sums

    def _mean_metrics(self, mode: str) -> dict[str, float]:
        """Return the metrics' means over all processes since the last call, and start afresh."""
        if mode not in self._metric_sums:
            return {}
        count, *sums = self.accelerator.reduce(self._metric_sums.pop(mode), reduction="sum").tolist()
        if count == 0.0:
            return {}
        return {name: value / count for name, value in zip(self._metric_names[mode], sums, strict=True)}

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Write the LoRA with its card and facts, nothing else of the pipeline."""
        if self.args.should_save:
            with self.published_weights():
                save_lora(self.pipe, output_dir or self.args.output_dir or ".")
            self._write_card(Path(output_dir or self.args.output_dir or "."))

    def facts(self) -> dict[str, Any]:
        """Gather the facts of the run; see [`~draftv_trainer.model_card.run_facts`]."""
        return run_facts(self.model, self.args, self.state)

    def _write_card(self, folder: Path, **fields: Any) -> None:
        """Write the card and the facts beside the weights."""
        own_loader = reads_own_lora(self.pipe, self.model.denoiser)
        write_card(folder, self.facts(), own_loader=own_loader, repo_id=self.hub_model_id, **fields)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write a checkpoint, unless the guard has stopped the run: one that is resumed comes there again."""
        if self._sample_videos is None or not self._sample_videos.has_stopped:
            super()._save_checkpoint(model, trial)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push the LoRA of a checkpoint, which Trainer, knowing only models' files, would not copy."""
        self.save_model(_internal_call=True)
        super()._push_from_checkpoint(checkpoint_folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write with the optimiser what else an exact resumption needs."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            state = {
                "average": None if self._average is None else self._average.state_dict(),
                "num_skipped": self._skip_nonfinite.num_skipped,
                "guard": None if self._sample_videos is None else self._sample_videos.state_dict(),
            }
            torch.save(state, os.path.join(output_dir, RUN_STATE_NAME))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Read with the optimiser what else an exact resumption needs."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        state = torch.load(os.path.join(checkpoint, RUN_STATE_NAME), map_location="cpu", weights_only=True)
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self._skip_nonfinite.num_skipped = state["num_skipped"]
        if self._sample_videos is not None and state["guard"] is not None:
            self._sample_videos.load_state_dict(state["guard"])

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Read the LoRA of a checkpoint."""
        restore_lora(self.pipe, resume_from_checkpoint)

    def _read_weights(self, folder: str) -> None:
        """Read the LoRA of a checkpoint, from which its moving average begins anew."""
        restore_lora(self.pipe, folder)
        if self._average is not None:
            self._average.restart()
