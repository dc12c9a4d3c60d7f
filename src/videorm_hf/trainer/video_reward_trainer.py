"""The reward trainer: transformers' Trainer with a preference loss over all pairs of a prompt's videos.

Source: Wu et al. 2024 (NeurIPS), Sec. 3.2 and 4; the shape of TRL's reward trainer.
"""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch.utils.data import DataLoader
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    ProcessorMixin,
    TrainerCallback,
    set_seed,
)
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from videorm_hf.models.sources import VIDEORM_FILES, find_source
from videorm_hf.models.videorm.modeling_videorm import VideoRMModel
from videorm_hf.trainer.cached_groups import FeatureSource, cache_groups
from videorm_hf.trainer.checkpoints import (
    BAD_CLIPS_NAME,
    CHECKPOINT,
    read_weights,
    write_weights,
)
from videorm_hf.trainer.data_collator import BadClip, PreferenceCollator, collate_cached
from videorm_hf.trainer.feature_cache import FeatureCache
from videorm_hf.trainer.losses import pair_metrics, pair_sums, preference_loss
from videorm_hf.trainer.mixture_sampler import MixtureSampler
from videorm_hf.trainer.model_card import run_facts, write_card
from videorm_hf.trainer.pair_rewards import PairRewards
from videorm_hf.trainer.preference_groups import ConcatGroups, DrawnDataset, PreferenceData, PreferenceGroups
from videorm_hf.trainer.resumable_trainer import ResumableTrainer
from videorm_hf.trainer.reward_models import ModelOrPath, choose_trainable, load_processor, load_reward_model
from videorm_hf.trainer.trainer_inputs import TellEpoch, evaluation_sets, set_facts, training_sets, use_num_frames
from videorm_hf.trainer.video_reward_config import VideoRewardConfig

logger = logging.getLogger(__name__)


class VideoRewardTrainer(ResumableTrainer):
    """Train a reward model on preferences between videos.

    Each step takes a batch of rows, encodes every video and every prompt in it once, and follows the gradient of the
    mean loss over all pairs of the batch: a row of the `preference` view has one pair, an item of the `ratings` view
    all pairs of its candidates. Every pair of the global batch weighs the same, however many processes there are and
    whatever rows the pairs come from.

    Args:
        model ([`VideoRMModel`] or `str` or `os.PathLike`):
            The model, changed in place, or where `AutoModel.from_pretrained` finds it. Also any model with a
            `temporal_head`, a `freeze_for_temporal_training()`, and a forward that takes a row of
            `pixel_values_videos`, `input_ids` and `attention_mask` for each video and returns `rewards`.
        args ([`VideoRewardConfig`], *optional*):
            Settings.
        train_dataset (`datasets.Dataset`, or a list of rows or [`Item`], or a `dict` of these, *optional*):
            The `preference` view (`prompt, chosen, rejected`, and perhaps `margin`) or the `ratings` view (`prompt,
            candidates`). A dict names several sets, which are mixed (`dataset_proportions`).
        eval_dataset (the same, *optional*):
            A dict names several sets, which are evaluated one by one, as Trainer does.
        processing_class ([`VideoRMProcessor`], *optional*):
            The processor; by default the one in the model's folder.
        callbacks (`list[TrainerCallback]`, *optional*):
            As for Trainer.
        optimizers (`tuple`, *optional*):
            Optimiser and learning-rate scheduler, as for Trainer.
        peft_config (`peft.PeftConfig`, *optional*):
            An adapter for the towers, such as a `LoraConfig`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If arguments do not fit each other, or data cannot be trained on.

    Reference:
        Wu et al. 2024 (NeurIPS), Sec. 3.2. Differs: the loss multiplies rewards by CLIP's scale, as HPS v2 does.

    Example:

    ```python
    >>> from datasets import load_dataset
    >>> from videorm_hf.trainer import VideoRewardConfig, VideoRewardTrainer

    >>> trainer = VideoRewardTrainer(
    ...     "path/to/videorm",
    ...     VideoRewardConfig("videorm-v", num_train_epochs=1),
    ...     train_dataset=load_dataset("path/to/videoprefer", "ratings", split="train"),
    ... )
    >>> trainer.train()
    ```
    """

    checkpoint_files = CHECKPOINT

    def __init__(
        self,
        model: ModelOrPath,
        args: VideoRewardConfig | None = None,
        train_dataset: PreferenceData | dict[str, PreferenceData] | None = None,
        eval_dataset: PreferenceData | dict[str, PreferenceData] | None = None,
        processing_class: ProcessorMixin | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        peft_config: Any | None = None,
    ) -> None:
        args = args if args is not None else VideoRewardConfig(output_dir="video-reward-output")
        if args.n_gpu > 1:
            logger.warning("Using one of %d GPUs: launch with torchrun or accelerate to use them all.", args.n_gpu)
            args._n_gpu = 1
        if args.cache_features and peft_config is not None:
            raise ValueError("cache_features=True needs frozen towers: got a peft_config, which changes them.")
        # A new head's or adapter's weights are random: seeded here, for Trainer seeds only after its model exists.
        set_seed(args.seed)
        if isinstance(model, str | os.PathLike):
            model = find_source(model, "model", VIDEORM_FILES)
        reward_model = load_reward_model(model, args.loading_arguments())
        processor = load_processor(processing_class, model, args.loading_arguments())
        choose_trainable(reward_model, args.trainable, args.num_trainable_blocks, args.train_logit_scale, peft_config)
        self.reward_model: PreTrainedModel = reward_model
        use_num_frames(reward_model, processor, args.num_frames)
        train_sets, eval_sets = training_sets(train_dataset, args), evaluation_sets(eval_dataset, args)
        self._train_sets = train_sets
        self._sampler: MixtureSampler | None = None
        self.bad_clips: dict[str, str] = {}
        self._eval_bad: list[BadClip] = []
        num_frames = reward_model.config.num_frames
        self.eval_collator: Callable[..., dict[str, Any]] = PreferenceCollator(processor, num_frames)
        super().__init__(
            model=PairRewards(reward_model, args.loss_scale),
            args=args,
            data_collator=PreferenceCollator(processor, num_frames, args.frame_sampling, args.seed),
            train_dataset=ConcatGroups(train_sets.values()) if train_sets else None,
            eval_dataset=eval_sets if isinstance(eval_dataset, dict) else next(iter(eval_sets.values()), None),
            processing_class=processor,
            compute_metrics=self._compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self._forget_sums()
        # The loss is divided by the number of pairs of all micro-batches, not by the number of micro-batches.
        self.model_accepts_loss_kwargs = True
        self.add_callback(TellEpoch(self._start_epoch))
        if args.cache_features:
            self._cache_features(eval_sets, isinstance(eval_dataset, dict))

    def _cache_features(self, eval_sets: dict[str, PreferenceGroups], several_evaluations: bool) -> None:
        """Compute the frozen towers' features and train and evaluate on them."""
        model = self.reward_model
        if not isinstance(model, VideoRMModel):
            raise ValueError(
                f"cache_features=True is for a VideoRMModel, whose towers do not see each other: got "
                f"{type(model).__name__}."
            )
        model.to(self.args.device)
        self.model.train(False)
        source = FeatureSource(
            *(model, PreferenceCollator(self.processing_class, model.config.num_frames)),
            *(self.accelerator, self.accelerator.autocast),
            *(self.args.per_device_eval_batch_size, self.args.dataloader_num_workers),
        )
        folder = self.args.feature_cache_dir or os.path.join(self.args.output_dir, "_features")
        shape = (model.config.num_frames, model.config.projection_dim)
        cached = cache_groups(
            [*self._train_sets.values(), *eval_sets.values()], FeatureCache(folder, source.settings(), shape), source
        )
        train, evaluation = cached[: len(self._train_sets)], cached[len(self._train_sets) :]
        self.data_collator = self.eval_collator = collate_cached
        self.train_dataset = ConcatGroups(train) if train else None
        named = dict(zip(eval_sets, evaluation, strict=True))
        if evaluation:
            self.eval_dataset = named if several_evaluations else evaluation[0]

    # --- Data -------------------------------------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any | None = None) -> MixtureSampler:
        """Draw rows by seed and epoch alone, so that a resumed run draws what the first would have."""
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        proportions = self.args.proportions()
        shares = [proportions[name] for name in self._train_sets] if proportions else None
        self._sampler = MixtureSampler([len(groups) for groups in self._train_sets.values()], shares, seed)
        return self._sampler

    def _forget_sums(self) -> None:
        """Start adding up metrics afresh: those since the last log, and those of the run."""
        none = torch.zeros(0, device=self.args.device)
        self._sums = self._run_sums = pair_sums(none, none, none, none.bool())

    def _start_epoch(self, epoch: int) -> None:
        if self._sampler is not None:
            self._sampler.epoch = epoch

    def get_eval_dataloader(self, eval_dataset: Any | None = None) -> DataLoader:
        """Read clips for evaluation as for scoring, whatever training samples.

        Args:
            eval_dataset (`PreferenceData` or `str`, *optional*): As for Trainer; data in any form that the
                constructor takes.

        Returns:
            `DataLoader`: batches of the evaluation collator. Other data than the constructor's are a `ValueError` with
            `cache_features=True`.
        """
        with self._evaluating():
            return super().get_eval_dataloader(self._groups(eval_dataset))

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """Read clips for `predict` as for evaluation; see [`~VideoRewardTrainer.get_eval_dataloader`]."""
        with self._evaluating():
            return super().get_test_dataloader(self._groups(test_dataset))

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Have loaders made with the evaluation collator."""
        for_training: Callable[..., dict[str, Any]] = self.data_collator
        self.data_collator = self.eval_collator
        try:
            yield
        finally:
            self.data_collator = for_training

    def _groups(self, data: Any) -> Any:
        """Turn data that came after the constructor's into groups; what is none, or is groups already, stays."""
        if data is None or isinstance(data, str | DrawnDataset):
            return data
        if self.args.cache_features:
            raise ValueError("With cache_features=True all data must be given to the constructor, which encodes them.")
        (groups,) = evaluation_sets(data, self.args).values()
        return groups

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor]:
        """Take one step's micro-batches and count its pairs over all processes.

        Args:
            epoch_iterator (`Iterator`):
                Of batches.
            num_batches (`int`):
                Micro-batches of a step.
            device (`torch.device`):
                Where to count.

        Returns:
            `tuple`: the batches, and the number of pairs of the global batch.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        bad = [clip for batch in batches for clip in batch["bad_clips"]]
        counts = torch.tensor([sum(len(batch["pairs"]) for batch in batches), len(bad)], device=device)
        num_pairs, num_bad = self.accelerator.reduce(counts, reduction="sum")
        if num_bad:
            self._note_bad_clips(bad)
        if num_pairs == 0:
            logger.warning("Step %d has no pair that can be used.", self.state.global_step)
        return batches, num_pairs

    def _note_bad_clips(self, bad: list[BadClip]) -> None:
        """Name clips that cannot be used, in every process alike, and end the run when there are too many."""
        for clip in gather_object(bad):
            if clip.name not in self.bad_clips:
                self.bad_clips[clip.name] = clip.reason
                if self.is_world_process_zero():
                    logger.warning("Left out the pairs of %s: %s (%s).", clip.name, clip.reason, clip.message)
        if len(self.bad_clips) > self.args.max_bad_clips:
            named = [f"{name} ({reason})" for name, reason in list(self.bad_clips.items())[-5:]]
            raise ValueError(
                f"{len(self.bad_clips)} clips cannot be used, and max_bad_clips is {self.args.max_bad_clips}. "
                f"The last: {', '.join(named)}. Mend the data, or allow more."
            )

    # --- Loss -------------------------------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Score one micro-batch and compare its pairs.

        Args:
            model (`torch.nn.Module`):
                The [`PairRewards`], possibly wrapped.
            inputs (`dict[str, Any]`):
                A batch of the collator.
            return_outputs (`bool`, defaults to `False`):
                Whether to return the rewards too.
            num_items_in_batch (`torch.Tensor`, *optional*):
                Pairs of the global batch, over all micro-batches and processes; by default those of `inputs`.

        Returns:
            `torch.Tensor`: the loss, a scalar; or a pair of it and a dict with the `rewards` of chosen and rejected
            videos `(num_pairs, 2)`.
        """
        rewards, scale = self._pair_rewards(model, inputs)
        losses = self._losses(rewards, inputs["margins"], scale)
        if model.training:
            self._sums = self._sums + pair_sums(rewards[:, 0], rewards[:, 1], losses, inputs["margins"] == 0)
        # Processes' gradients are averaged: this times their number over all pairs is the mean over all pairs.
        count, weight = (len(losses), 1) if num_items_in_batch is None else (num_items_in_batch, self.args.world_size)
        loss = losses.sum() * weight / torch.as_tensor(count).clamp(min=1)
        return (loss, {"rewards": rewards}) if return_outputs else loss

    def _pair_rewards(self, model: torch.nn.Module, inputs: dict[str, Any]) -> tuple[torch.Tensor, Any]:
        """Return rewards of chosen and rejected videos `(num_pairs, 2)`, and the loss's scale."""
        names = ("prompt_index", "pixel_values_videos", "input_ids", "attention_mask", "frame_embeds", "text_embeds")
        outputs = model(**{name: inputs[name] for name in names if name in inputs})
        rewards = outputs["rewards"]
        if not rewards.isfinite().all():
            raise ValueError(
                f"{int((~rewards.isfinite()).sum())} of {len(rewards)} rewards are not finite at step "
                f"{self.state.global_step}. Lower the learning rate, or compute in bfloat16 or float32."
            )
        return rewards[inputs["pairs"]], outputs["scale"]

    def _losses(self, rewards: torch.Tensor, margins: torch.Tensor, scale: Any) -> torch.Tensor:
        """Return each pair's loss by the run's settings; a margin of 0 is a tie."""
        return preference_loss(
            *(rewards[:, 0], rewards[:, 1], scale),
            margin=margins if self.args.use_margin else None,
            is_tie=margins == 0,
            ties=self.args.ties,
            tie_theta=self.args.tie_theta,
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as Trainer does, with accuracy, margin and rewards since the last time beside the loss.

        Args:
            logs (`dict[str, float]`):
                Values to log.
            start_time (`float`, *optional*):
                As for Trainer.
        """
        if "loss" in logs or "train_loss" in logs:
            # A mean over pairs: Trainer's mean over steps would count a step without a usable pair as a loss of 0.
            sums, self._sums = self.accelerator.reduce(self._sums, reduction="sum"), torch.zeros_like(self._sums)
            self._run_sums = self._run_sums + sums
        if "loss" in logs:
            logs = {**pair_metrics(sums), **{name: logs[name] for name in logs if name != "loss"}}
            logs["bad_clips"] = len(self.bad_clips)
        elif "train_loss" in logs:
            logs = {**logs, "train_loss": pair_metrics(self._run_sums).get("loss", math.nan)}
        super().log(logs, start_time)

    # --- Evaluation -------------------------------------------------------------------------------------------------

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, torch.Tensor, torch.Tensor]:
        """Score one batch of evaluation rows.

        Args:
            model (`torch.nn.Module`):
                The [`PairRewards`], possibly wrapped, in evaluation mode.
            inputs (`dict[str, Any]`):
                A batch of the collator.
            prediction_loss_only (`bool`):
                Not used.
            ignore_keys (`list[str]`, *optional*):
                Not used.

        Returns:
            `tuple`: None, rewards of chosen and rejected videos `(num_rows, most_pairs, 2)`, and margins
            `(num_rows, most_pairs)`, which are -1 where a row has fewer pairs.
        """
        self._eval_bad += inputs["bad_clips"]
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            rewards, _ = self._pair_rewards(model, inputs)
        counts = inputs["num_pairs"].tolist()
        shape = (len(counts), max(1, *counts) if counts else 1)
        padded = rewards.new_zeros(*shape, 2)
        margins = rewards.new_full(shape, -1.0)
        for row, (pairs, of_row) in enumerate(
            zip(rewards.split(counts), inputs["margins"].split(counts), strict=True)
        ):
            padded[row, : len(pairs)] = pairs
            margins[row, : len(pairs)] = of_row
        return None, padded, margins

    def evaluation_loop(self, dataloader: DataLoader, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Evaluate as Trainer does; what cannot be used is left out, named and counted.

        Args:
            dataloader (`DataLoader`):
                Of rows.
            args (`Any`):
                As for Trainer.
            kwargs (`Any`):
                As for Trainer.

        Returns:
            `EvalLoopOutput`: with `eval_accuracy` among its metrics.
        """
        self._eval_bad = []
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        self._note_bad_clips(self._eval_bad)
        return output

    def _compute_metrics(self, predictions: EvalPrediction) -> dict[str, float]:
        """Turn the rewards of all evaluation pairs into metrics."""
        margins = torch.as_tensor(predictions.label_ids)
        rewards = torch.as_tensor(predictions.predictions)[margins >= 0]
        margins = margins[margins >= 0]
        losses = self._losses(rewards, margins, torch.as_tensor(self.model.scale()).detach().cpu())
        return pair_metrics(pair_sums(rewards[:, 0], rewards[:, 1], losses, margins == 0))

    # --- Saving and resuming ----------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Train, or go on from a checkpoint to the same end, to the bit on a CPU in float32.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint's folder; or True for the newest in `output_dir` that was written to its end.
            kwargs (`Any`):
                As for Trainer.

        Returns:
            `TrainOutput`: as Trainer's.

        Raises:
            ValueError: If there is no training set, not one pair of it could be used, it is True and there is no
                complete checkpoint, or a checkpoint is not complete or was written with other settings.
        """
        if self.train_dataset is None:
            raise ValueError("train() needs a train_dataset: got None.")
        self._forget_sums()
        output = super().train(resume_from_checkpoint, **kwargs)
        loss = pair_metrics(self._run_sums).get("loss", math.nan)
        if math.isnan(loss) and resume_from_checkpoint:  # no step was left, or only clips that cannot be used
            return output
        if math.isnan(loss) and self.bad_clips:
            named = ", ".join(f"{name} ({reason})" for name, reason in list(self.bad_clips.items())[:5])
            raise ValueError(
                f"No pair could be used, so that nothing was trained. What is wrong with the clips: {named}."
            )
        return output._replace(training_loss=loss, metrics={**output.metrics, "train_loss": loss})

    def _is_finished(self, checkpoint: str) -> bool:
        """Tell whether a checkpoint is the end of the run, and read it then."""
        is_finished = super()._is_finished(checkpoint)
        if is_finished:
            self.bad_clips = self._read_bad_clips(checkpoint)
        return is_finished

    def _read_bad_clips(self, checkpoint: str) -> dict[str, str]:
        """Read which clips had been left out when a checkpoint was written."""
        return json.loads(Path(checkpoint, BAD_CLIPS_NAME).read_text(encoding="utf-8"))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        """Write the reward model, or its adapter, with processor, card and facts."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(self.reward_model, folder)
        self.processing_class.save_pretrained(folder)
        torch.save(self.args, folder / TRAINING_ARGS_NAME)
        self._write_card(folder)

    def facts(self) -> dict[str, Any]:
        """Gather the facts of the run; see [`~videorm_hf.trainer.model_card.run_facts`]."""
        sets = set_facts(self._train_sets, self.args.proportions())
        return run_facts(self.reward_model, self.args, sets, self.state, self.bad_clips)

    def _write_card(self, folder: Path, **fields: Any) -> None:
        """Write the card and the facts beside the weights."""
        write_card(folder, self.facts(), repo_id=self.hub_model_id, **fields)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Write with the optimiser which clips were left out."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            Path(output_dir, BAD_CLIPS_NAME).write_text(json.dumps(self.bad_clips) + "\n", encoding="utf-8")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Read with the optimiser which clips were left out."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            self.bad_clips = self._read_bad_clips(checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        """Read the weights of a checkpoint."""
        self._read_weights(resume_from_checkpoint)

    def _read_weights(self, folder: str) -> None:
        """Read the weights of a checkpoint."""
        read_weights(self.reward_model, folder)
