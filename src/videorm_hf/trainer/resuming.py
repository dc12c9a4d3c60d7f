"""Which checkpoints can be resumed from: those of the same run that were written to their end.

Trainer writes a checkpoint file by file and its state last. A folder is complete when every file is there and whole:
so one that was cut short while it was written, or while it was deleted, is told from a good one. The facts beside the
weights tell whether a run goes on under the settings that it began with.
"""

import json
import logging
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

logger = logging.getLogger(__name__)

# Among the settings in a run's facts, what may differ when it goes on.
_NO_SETTINGS = ("steps", "guard_kept_step", "fps")


@dataclass(frozen=True)
class CheckpointFiles:
    """What a trainer's checkpoint holds beside Trainer's optimiser, scheduler, random states and state.

    Args:
        facts (`str`): The JSON file with the facts of the run.
        settings (`tuple[str, ...]`): Those of its parts that stay the same from the first step to the last.
        weights (`tuple[str, ...]`): Files of which one holds the weights; each appears at once and whole.
        archives (`tuple[str, ...]`): Files that `torch.save` writes.
        json_files (`tuple[str, ...]`): JSON files.
    """

    facts: str
    settings: tuple[str, ...]
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

    def choose(
        self, resume: bool, resume_from_checkpoint: str | None, output_dir: str | os.PathLike[str] | None
    ) -> str | None:
        """Say which checkpoint a command goes on from; checkpoints that it would not go on from stop it.

        Args:
            resume (`bool`):
                Go on from the newest complete checkpoint, if there is one.
            resume_from_checkpoint (`str`, *optional*):
                A checkpoint's folder.
            output_dir (`str` or `os.PathLike`, *optional*):
                The run's folder; by default the current one.

        Returns:
            `str`: the checkpoint's folder, or None to start from the beginning.

        Raises:
            ValueError: If the run would begin anew beside another run's checkpoints, which it would later take for
                its own.
        """
        if resume_from_checkpoint is not None:
            return resume_from_checkpoint
        folder = Path(output_dir or ".")
        if not resume and any(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*/")):
            raise ValueError(
                f"{folder} holds checkpoints of an earlier run: --resume goes on from them. To begin anew, name "
                "another --output_dir, or delete them."
            )
        if not resume:
            return None
        checkpoint = self.last_complete(folder)
        logger.info("Going on from %s." if checkpoint else "No complete checkpoint in %s.", checkpoint or folder)
        return checkpoint

    def say_what_is_kept(self, output_dir: str | os.PathLike[str] | None) -> str:
        """Say what an interrupted run leaves.

        Args:
            output_dir (`str` or `os.PathLike`, *optional*):
                The run's folder; by default the current one.

        Returns:
            `str`: a sentence.
        """
        checkpoint = self.last_complete(output_dir or ".")
        if checkpoint is None:
            return f"Stopped before the first checkpoint: nothing is kept in {output_dir}."
        return f"Stopped. {checkpoint} is complete: --resume, or resume_from_checkpoint=True, goes on from it."

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
        return missing + [
            name for name in (self.facts, *self.json_files, TRAINER_STATE_NAME) if not _is_json(folder / name)
        ]

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

    def check_same_run(self, checkpoint: str | os.PathLike[str], facts: Mapping[str, Any]) -> None:
        """Raise unless a run goes on with the settings that its checkpoint was written with.

        Args:
            checkpoint (`str` or `os.PathLike`):
                A complete checkpoint's folder.
            facts (`dict[str, Any]`):
                The facts of the run that is to go on.

        Raises:
            ValueError: If settings differ; it names them.
        """
        before = self._settings(json.loads(Path(checkpoint, self.facts).read_text(encoding="utf-8")))
        now = self._settings(facts)
        different = [
            f"{name} was {before.get(name)!r}, got {now.get(name)!r}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        if different:
            raise ValueError(
                f"{checkpoint} was written with other settings: {'; '.join(different)}. Resume with the same, or "
                "begin anew in another folder."
            )

    def _settings(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings among a run's facts by their names."""
        parts = [facts[part] if isinstance(facts[part], dict) else {part: facts[part]} for part in self.settings]
        return {name: value for part in parts for name, value in part.items() if name not in _NO_SETTINGS}


def _is_json(path: Path) -> bool:
    """Tell whether a file is there and was written to its closing brace."""
    try:
        json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return True
