"""What several sub-commands take: words and YAML files, prompts, rewards, and how videos are sampled.

Source: TRL's parser, whose YAML files give defaults that options override.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from draftv_trainer.model_card import FACTS_NAME
from draftv_trainer.reward_terms import RewardFunction
from draftv_trainer.sampling import check_pipeline_kwargs
from draftv_trainer.trainer_inputs import prompt_dataset
from draftv_trainer.variants import VideoSettings
from videorm_hf.models.dtypes import DTYPES, parse_dtype
from videorm_hf.rewards import check_reward

logger = logging.getLogger(__name__)

# Fields of SamplingArguments that the pipeline's call takes; the first is not part of `pipeline_kwargs`.
CALL_FIELDS = ("num_inference_steps", "guidance_scale", "height", "width", "num_frames", "eta")
# Those that no call takes, but that a LoRA's folder knows too.
_FILE_FIELDS = ("dtype", "fps")

_TABLE_READERS: dict[str, Callable[[str], Dataset]] = {
    ".json": Dataset.from_json,
    ".jsonl": Dataset.from_json,
    ".csv": Dataset.from_csv,
    ".parquet": Dataset.from_parquet,
}
_PROMPT_FILES = (".txt", *_TABLE_READERS)


@dataclass
class SamplingArguments:
    """How videos are sampled; what is left out is as the LoRA was trained with, else a default."""

    num_inference_steps: int | None = field(default=None, metadata={"help": "Number of sampling steps."})
    guidance_scale: float | None = field(default=None, metadata={"help": "Classifier-free guidance scale."})
    height: int | None = field(default=None, metadata={"help": "Height in pixels."})
    width: int | None = field(default=None, metadata={"help": "Width in pixels."})
    num_frames: int | None = field(default=None, metadata={"help": "Frames per video."})
    eta: float | None = field(default=None, metadata={"help": "Fresh noise in DDIM steps, 0 to 1."})
    pipeline_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": 'Further arguments of the pipeline, such as {"negative_prompt": "blurry"}.'}
    )
    seed: int = field(default=42, metadata={"help": "Seed of the noise; each prompt derives its own from it."})
    batch_size: int = field(default=1, metadata={"help": "Videos sampled at once. The noise does not depend on it."})
    dtype: str | None = field(
        default=None,
        metadata={
            "help": "What pipelines compute in. Default: the LoRA's base, else float32.",
            "choices": list(DTYPES),
        },
    )
    device: str | None = field(default=None, metadata={"help": "Such as cuda:1. Default: the GPU if there is one."})
    fps: int | None = field(
        default=None, metadata={"help": "Frames per second of the files. Default: the run's sample_fps, else 8."}
    )
    overwrite: bool = field(default=False, metadata={"help": "Write into an output folder that holds results."})

    def __post_init__(self) -> None:
        check_pipeline_kwargs(parse_object(self.pipeline_kwargs, "pipeline_kwargs"))
        for name in ("batch_size", "fps", "num_inference_steps", "height", "width", "num_frames"):
            value = self.__dict__[name]
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1: got {value}.")

    def settings(self, loras: Sequence[Path]) -> VideoSettings:
        """Gather how to sample.

        Args:
            loras (`list[Path]`):
                The folders of the LoRAs that take part.

        Returns:
            `VideoSettings`: what was given, completed by what the LoRAs were trained with. Two that were trained with
            different values of an argument that was not given are a `ValueError`.
        """
        given = {**parse_object(self.pipeline_kwargs, "pipeline_kwargs"), **self._given(CALL_FIELDS)}
        trained = _agreed(trained_settings, loras, given)
        given_files = self._given(_FILE_FIELDS)
        files = {**_agreed(_trained_files, loras, given_files), **given_files}
        if trained:
            said = ", ".join(f"{name}={value!r}" for name, value in {**trained, **given, **files}.items())
            logger.info("Sampling as the LoRA was trained, where nothing else was given: %s.", said)
        return VideoSettings(
            call={**trained, **given},
            seed=self.seed,
            batch_size=self.batch_size,
            dtype=parse_dtype(files.get("dtype", "float32")),
            device=torch.device(self.device or ("cuda" if torch.cuda.is_available() else "cpu")),
            fps=files.get("fps", 8),
        )

    def _given(self, names: Sequence[str]) -> dict[str, Any]:
        """Return those of some fields that have a value."""
        return {name: self.__dict__[name] for name in names if self.__dict__[name] is not None}


def _agreed(read: Callable[[Path], dict[str, Any]], loras: Sequence[Path], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what several LoRAs were trained with, which must be the same but for what is given."""
    agreed: dict[str, Any] = {}
    for folder in loras:
        for name, value in read(folder).items():
            if name not in given and agreed.setdefault(name, value) != value:
                raise ValueError(
                    f"The LoRAs were trained with different {name}, {agreed[name]!r} and {value!r}: give --{name}, or "
                    f"--pipeline_kwargs, to sample both alike."
                )
    return agreed


def parse_object(value: dict[str, Any] | str | None, name: str) -> dict[str, Any]:
    """Read an option that is a mapping in YAML, or a JSON object on the command line.

    Args:
        value (`dict[str, Any]` or `str`, *optional*):
            What was given.
        name (`str`):
            The option's name, for messages.

    Returns:
        `dict[str, Any]`: the mapping, empty for None.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"--{name} must be a JSON object: got {value!r} ({error}).") from error
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"--{name} must be a JSON object: got {value!r}.")
    return value or {}


def as_list(value: str | list[str] | None) -> list[str]:
    """Return a YAML value that may be one string or several as a list, empty for None."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def read_prompts(words: Sequence[str], column: str = "prompt") -> Dataset:
    """Read prompts: each word is a prompt, or a file of prompts.

    Args:
        words (`list[str]`):
            Texts, and paths of `.txt` files (a prompt on each line) or of `.jsonl`, `.json`, `.csv` and `.parquet`
            tables. A table's further columns are kept where it is the only source.
        column (`str`, defaults to `"prompt"`):
            The tables' column of prompts.

    Returns:
        `datasets.Dataset`: with a `prompt` column and at least one row. A word that looks like a file that does not
        exist is a `FileNotFoundError`, never taken for a text.

    Raises:
        ValueError: If there is no prompt.
    """
    sources = [_read_source(word, column) for word in words]
    if not sources:
        raise ValueError("--prompts must hold at least one prompt or file: got none.")
    if len(sources) == 1:
        return sources[0]
    return Dataset.from_dict({"prompt": [prompt for source in sources for prompt in source["prompt"]]})


def _read_source(word: str, column: str) -> Dataset:
    """Read one word of `--prompts`."""
    path = Path(word)
    suffix = path.suffix.lower()
    if suffix not in _PROMPT_FILES or (" " in word and not path.is_file()):
        if not word.strip():
            raise ValueError(f"A prompt must hold text: got {word!r}.")
        return Dataset.from_dict({"prompt": [word]})
    if not path.is_file():
        raise FileNotFoundError(f"--prompts names the file {word}: there is none. Paths start from {os.getcwd()}.")
    if suffix == ".txt":
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        prompts = [line for line in lines if line]
        if not prompts:
            raise ValueError(f"{word} must hold a prompt on each line: got no text.")
        return Dataset.from_dict({"prompt": prompts})
    return name_prompt_column(_TABLE_READERS[suffix](str(path)), column, word)


def name_prompt_column(dataset: Dataset, column: str, source: str) -> Dataset:
    """Call the column of prompts `prompt`, and check it.

    Args:
        dataset (`datasets.Dataset`):
            A table.
        column (`str`):
            The present name of the column.
        source (`str`):
            Where the table came from, for messages.

    Returns:
        `datasets.Dataset`: with a `prompt` column.

    Raises:
        ValueError: If there is no such column.
    """
    if column not in dataset.column_names:
        raise ValueError(f"{source} must have a column {column!r}: got {dataset.column_names}. Set --prompt_column.")
    return prompt_dataset(dataset if column == "prompt" else dataset.rename_column(column, "prompt"), source)


def find_rewards(words: Sequence[str]) -> list[RewardFunction | str]:
    """Check words for rewards, before anything large is loaded.

    Args:
        words (`list[str]`):
            What [`~videorm_hf.rewards.load_reward`] takes: folders or Hub ids of VIDEORMs, names with weights
            (`hps_v2:PATH`), or `module:name` of one's own.

    Returns:
        `list[Callable | str]`: the words. A module that has no such name is an `ImportError`, an unknown name a
        `ValueError`, and a folder that is not there a `FileNotFoundError`.
    """
    for word in words:
        check_reward(word)
    return list(words)


def trained_settings(lora: Path) -> dict[str, Any]:
    """Read how videos were sampled while a LoRA was trained.

    Args:
        lora (`Path`):
            The LoRA's folder.

    Returns:
        `dict[str, Any]`: arguments of the pipeline's call; empty where the folder does not say.
    """
    sampling = _sampling_facts(lora)
    steps = {"num_inference_steps": sampling.get("num_inference_steps")}
    call = {**steps, **sampling.get("pipeline_kwargs", {})}
    return {name: value for name, value in call.items() if value is not None}


def _trained_files(lora: Path) -> dict[str, Any]:
    """Read what the base of a LoRA was loaded in, of the types that can be given, and the frame rate of its files."""
    sampling = _sampling_facts(lora)
    known = {"dtype": sampling.get("dtype") in DTYPES, "fps": "fps" in sampling}
    return {name: sampling[name] for name in _FILE_FIELDS if known[name]}


def _sampling_facts(lora: Path) -> dict[str, Any]:
    """Read how a LoRA's folder says that videos were sampled; empty where it does not."""
    path = lora / FACTS_NAME
    if not path.is_file():
        return {}
    sampling: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["sampling"]
    return sampling
