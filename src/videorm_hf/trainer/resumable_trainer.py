"""ResumableTrainer: what our trainers share of transformers' Trainer's saving, that of rewards and that of LoRAs."""

import logging
import os
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from videorm_hf.trainer.resuming import CheckpointFiles

logger = logging.getLogger(__name__)


class ResumableTrainer(Trainer):
    """A Trainer with a card of its own, whose checkpoints are told complete by their last file."""

    checkpoint_files: ClassVar[CheckpointFiles]

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any) -> TrainOutput:
        """Train, or go on from a checkpoint to the same end, to the bit on a CPU in float32.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint's folder; or True for the newest in `output_dir` that was written to its end.
            kwargs:
                As for Trainer.

        Returns:
            `TrainOutput`: as Trainer's.

        No complete checkpoint where it is True, one that is incomplete, or one that was written with other settings
        is a `ValueError`.
        """
        checkpoint = self.checkpoint_files.find(resume_from_checkpoint, self.args.output_dir)
        if checkpoint is not None:
            self.checkpoint_files.check_complete(checkpoint)
            self.checkpoint_files.check_same_run(checkpoint, self.facts())
            if self._is_finished(checkpoint):
                return TrainOutput(self.state.global_step, 0.0, {})
        if self.model_wrapped is self.model:
            # An evaluation prepares the model without DistributedDataParallel, and accelerate would leave it at that:
            # each process would train alone.
            self.model._is_accelerate_prepared = False
        try:
            return super().train(resume_from_checkpoint=checkpoint, **kwargs)
        except KeyboardInterrupt:
            if self.is_world_process_zero():
                logger.warning(self.checkpoint_files.say_what_is_kept(self.args.output_dir))
            raise

    def facts(self) -> dict[str, Any]:
        """Gather the facts of the run.

        Returns:
            `dict[str, Any]`: values that JSON can hold.
        """
        raise NotImplementedError

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

    def _read_weights(self, folder: str) -> None:
        """Read the weights of a checkpoint that nothing goes on from."""
        raise NotImplementedError

    def _is_finished(self, checkpoint: str) -> bool:
        """Tell whether a checkpoint is the end of the run, and read it then: Trainer would take one more step."""
        state = TrainerState.load_from_json(os.path.join(checkpoint, TRAINER_STATE_NAME))
        if not 0 < self.args.max_steps <= state.global_step:
            return False
        logger.info("%s is the end of a run of %d steps: nothing to do.", checkpoint, self.args.max_steps)
        self.state = state
        self._read_weights(checkpoint)
        if self.args.load_best_model_at_end:
            self._load_best_model()
        return True

    def _load_best_model(self) -> None:
        """Read the weights of the best checkpoint back at the end of training."""
        if self.state.best_model_checkpoint is not None:
            self._read_weights(self.state.best_model_checkpoint)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write a checkpoint whose last file is Trainer's state, also over the remains of an earlier one."""
        folder = os.path.join(self.args.output_dir or ".", f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")
        if self.args.should_save and os.path.isdir(folder):
            Path(folder, TRAINER_STATE_NAME).unlink(missing_ok=True)
        super()._save_checkpoint(model, trial)
