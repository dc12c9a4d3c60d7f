"""Which checkpoints can be resumed from: those that were written to their end, wherever the process was killed.

Trainer writes a checkpoint file by file and its state last. A folder is complete when every file is there and whole:
so one that was cut short while it was written, or while it was deleted, is told from a good one.
"""

import json
import logging
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointFiles:
    """What a trainer's checkpoint holds beside Trainer's optimiser, scheduler, random states and state.

    Args:
        weights (`tuple[str, ...]`): Files of which one holds the weights; each appears at once and whole.
        archives (`tuple[str, ...]`): Files that `torch.save` writes.
        json_files (`tuple[str, ...]`): JSON files.
    """

    weights: tuple[str, ...]
    archives: tuple[str, ...] = ()
    json_files: tuple[str, ...] = ()

    def last_complete(self, output_dir: str | os.PathLike[str]) -> str | None:
        """Find the newest checkpoint that was written to its end.

        Args:
            output_dir (`str` or `os.PathLike`):
                The folder that holds the `checkpoint-<step>` folders of a run.

        Returns:
            `str`: its path, or None where there is none. Incomplete ones that are newer are logged as skipped.
        """
        pattern = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
        matches = [(pattern.fullmatch(path.name), path) for path in Path(output_dir).glob("*/")]
        for _, path in sorted(((int(match[1]), path) for match, path in matches if match), reverse=True):
            missing = self.missing(path)
            if not missing:
                return str(path)
            logger.warning("Skipping %s, which is incomplete: missing or cut short are %s.", path, missing)
        return None

    def find(self, resume_from_checkpoint: str | bool | None, output_dir: str | os.PathLike[str] | None) -> str | None:
        """Say which checkpoint a run goes on from.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                As a trainer's `train` takes it: a checkpoint's folder, or True for the newest complete one.
            output_dir (`str` or `os.PathLike`, *optional*):
                The run's folder; by default the current one.

        Returns:
            `str`: the checkpoint's folder, or None to start from the beginning.

        Raises:
            ValueError: If it is True and there is no complete checkpoint.
        """
        if resume_from_checkpoint is not True:
            return resume_from_checkpoint or None
        checkpoint = self.last_complete(output_dir or ".")
        if checkpoint is None:
            raise ValueError(
                f"resume_from_checkpoint=True expects a complete checkpoint in {output_dir}: found none. Leave it out "
                "to start from the beginning."
            )
        return checkpoint

    def missing(self, checkpoint: str | os.PathLike[str]) -> list[str]:
        """List what a checkpoint lacks for an exact resumption.

        Args:
            checkpoint (`str` or `os.PathLike`):
                A checkpoint's folder.

        Returns:
            `list[str]`: names of files that are missing or cut short; empty for a complete checkpoint.
        """
        folder = Path(checkpoint)
        # Several processes each write a random state of their own.
        random_states = [path.name for path in folder.glob("rng_state*.pth")] or ["rng_state.pth"]
        archives = (OPTIMIZER_NAME, SCHEDULER_NAME, *self.archives, *random_states)
        missing = [name for name in archives if not zipfile.is_zipfile(folder / name)]
        missing += [] if any((folder / name).is_file() for name in self.weights) else [self.weights[0]]
        return missing + [name for name in (*self.json_files, TRAINER_STATE_NAME) if not _is_json(folder / name)]

    def check_complete(self, checkpoint: str | os.PathLike[str]) -> None:
        """Raise unless a checkpoint was written to its end, for Trainer would start anew what it does not find.

        Args:
            checkpoint (`str` or `os.PathLike`):
                A checkpoint's folder.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If a file is missing or cut short.
        """
        if not os.path.isdir(checkpoint):
            raise FileNotFoundError(f"Expected a checkpoint's folder at {checkpoint}: found none.")
        missing = self.missing(checkpoint)
        if missing:
            raise ValueError(
                f"{checkpoint} is not a complete checkpoint: missing or cut short are {missing}. Resume from an "
                "earlier one, or with resume_from_checkpoint=True from the last that is complete."
            )


def _is_json(path: Path) -> bool:
    """Tell whether a file is there and was written to its closing brace."""
    try:
        json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True
