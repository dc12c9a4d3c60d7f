"""ResumableTrainer: what our trainers share of transformers' Trainer's saving, that of rewards and that of LoRAs."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput


class ResumableTrainer(Trainer):
    """A Trainer with a card of its own, whose checkpoints are told complete by their last file."""

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Train as Trainer does, also after an evaluation.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                As for Trainer.
            kwargs:
                As for Trainer.

        Returns:
            `TrainOutput`: as Trainer's.
        """
        if self.model_wrapped is self.model:
            # An evaluation prepares the model without DistributedDataParallel, and accelerate would leave it at that:
            # each process would train alone.
            self.model._is_accelerate_prepared = False
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        dataset: str | list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the card and the facts of the run to `output_dir`.

        Args:
            language (`str`, *optional*):
                Language of the prompts, for the card's head.
            license (`str`, *optional*):
                Licence, for the card's head.
            tags (`str` or `list[str]`, *optional*):
                Further tags.
            model_name (`str`, *optional*):
                The card's title; by default the folder's name.
            dataset (`str` or `list[str]`, *optional*):
                Datasets on the Hub that were trained on, or that the prompts came from.
            kwargs (`Any`):
                Trainer's other arguments, which are not used.
        """
        datasets = [dataset] if isinstance(dataset, str) else dataset
        metadata = {"language": language, "license": license, "tags": tags, "datasets": datasets}
        if self.is_world_process_zero():
            self._write_card(Path(self.args.output_dir or "."), model_name=model_name, metadata=metadata)

    def _write_card(self, folder: Path, **fields: Any) -> None:
        """Write the card and the facts beside the weights; `fields` reach the trainer's own `write_card`."""
        raise NotImplementedError

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write a checkpoint whose last file is Trainer's state, also over the remains of an earlier one."""
        folder = os.path.join(self.args.output_dir or ".", f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        if self.args.should_save and os.path.isdir(folder):
            Path(folder, TRAINER_STATE_NAME).unlink(missing_ok=True)
        super()._save_checkpoint(model, trial)
