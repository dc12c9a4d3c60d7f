"""`videorm train`: a [`VideoRewardTrainer`] run described by a YAML file and options."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from videorm_hf.cli.yaml_options import options_parser, parse_options
from videorm_hf.models.sources import find_source

logger = logging.getLogger(__name__)

# For the command's registration: all words, `--help` too, go to TRL's parser, which knows Trainer's options.
PASS_ON: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
ITEMS_FILE = "items.jsonl"


@dataclass
class TrainingOptions:
    """What `videorm train` takes beside the settings of [`VideoRewardConfig`]."""

    model: str = field(metadata={"help": "Folder or Hub id of a VIDEORM (`videorm convert` makes one)."})
    train_data: list[str] = field(
        metadata={
            "help": "Tables of pairs (.jsonl, .csv, .parquet), VIDEOPREFER working folders, or folders or Hub ids of "
            "data sets with either view."
        }
    )
    eval_data: list[str] | None = field(default=None, metadata={"help": "The same for evaluation. Default: none."})
    dataset_config: str | None = field(
        default=None, metadata={"help": "Which view of data sets that have both: ratings or preference."}
    )
    train_split: str = field(default="train", metadata={"help": "The data sets' split to train on."})
    eval_split: str = field(default="test", metadata={"help": "The data sets' split to evaluate on."})
    ratings: list[str] | None = field(
        default=None, metadata={"help": "Rating files in working folders. Default: ratings.jsonl."}
    )
    lora_r: int | None = field(default=None, metadata={"help": "Rank of a LoRA for the towers. Default: no LoRA."})
    lora_alpha: int | None = field(default=None, metadata={"help": "Its alpha. Default: the rank."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Layers that get a LoRA. Default: q_proj v_proj"}
    )
    resume: bool = field(
        default=False, metadata={"help": "Go on from the newest complete checkpoint in output_dir, if there is one."}
    )

    def __post_init__(self) -> None:
        for name in ("train_data", "eval_data", "ratings", "lora_target_modules"):
            if isinstance(self.__dict__[name], str):
                self.__dict__[name] = [self.__dict__[name]]
        if self.lora_r is None and (self.lora_alpha is not None or self.lora_target_modules is not None):
            raise ValueError("--lora_alpha and --lora_target_modules belong to --lora_r: got none.")
        judged = {Path(word).resolve() for word in self.eval_data or []}
        whole = [word for word in self.train_data if _has_no_splits(Path(word)) and Path(word).resolve() in judged]
        if whole:
            raise ValueError(
                f"Tables and working folders have no splits, so that {whole} would be evaluated on what it was "
                "trained on: evaluate on others, or publish a working folder with `videoprefer export`."
            )


def train(
    context: typer.Context,
    config: str | None = typer.Option(None, help="YAML file of options.", show_default=False),
    resume: bool = typer.Option(False, "--resume", help="Go on from the newest complete checkpoint."),
) -> None:
    """Train a reward on preferences between videos; `videorm train --help` lists all options.

    Exit code: 0 if the run came to its end, 2 if it could not be run as given or its data could not be used.
    """
    words = [*(["--config", config] if config is not None else []), *context.args, *(["--resume"] if resume else [])]
    handler = logging.StreamHandler()
    own = logging.getLogger("videorm_hf")
    own.addHandler(handler)
    try:
        run(words)
    finally:
        own.removeHandler(handler)


def parser() -> Any:
    """Build the parser of `videorm train`."""
    from videorm_hf.trainer import VideoRewardConfig

    description = "Train a reward on preferences between videos. Options of transformers' Trainer work too."
    return options_parser("videorm train", description, (TrainingOptions, VideoRewardConfig))


def run(words: Sequence[str]) -> None:
    """Run `videorm train`.

    Args:
        words (`list[str]`):
            Its own words.
    """
    from videorm_hf.trainer import VideoRewardTrainer
    from videorm_hf.trainer.checkpoints import CHECKPOINT

    options, args = parse_options(parser(), words)
    logging.getLogger("videorm_hf").setLevel(logging.INFO if args.process_index == 0 else logging.ERROR)
    checkpoint = CHECKPOINT.choose(options.resume, args.resume_from_checkpoint, args.output_dir)
    sets = _load(options.train_data, options.train_split, options)
    trainer = VideoRewardTrainer(
        options.model,
        args,
        train_dataset=sets,
        eval_dataset=_evaluation(options),
        peft_config=_lora(options),
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    if options.eval_data:
        trainer.save_metrics("eval", trainer.evaluate())
    trainer.save_model()
    logger.info("Written to %s; %d clips were left out.", args.output_dir, len(trainer.bad_clips))
    if args.push_to_hub:
        trainer.push_to_hub()


def _evaluation(options: TrainingOptions) -> Any:
    """Return the evaluation data: one set, so that its metrics are called `eval_accuracy`; or several by name."""
    if not options.eval_data:
        return None
    sets = _load(options.eval_data, options.eval_split, options)
    return sets if len(sets) > 1 else next(iter(sets.values()))


def _load(words: Sequence[str], split: str, options: TrainingOptions) -> dict[str, Any]:
    """Read data sets under their last names."""
    from videorm_hf.scoring.tables import TABLE_FORMATS
    from videorm_hf.videoprefer.working_folder import RATINGS_FILE

    names = [_name(word) for word in words]
    if len(set(names)) < len(names):
        raise ValueError(f"Data sets are told apart by their last names, which must differ: got {names}.")
    sets: dict[str, Any] = {}
    for name, word in zip(names, words, strict=True):
        if Path(word).is_file() or Path(word).suffix in TABLE_FORMATS:
            sets[name] = _table(Path(word))
        elif Path(word, ITEMS_FILE).is_file():
            sets[name] = _working_folder(Path(word), options.ratings)
            if sets[name] and not any(of.ratings for item in sets[name] for of in item.candidates):
                read = ", ".join(options.ratings or [RATINGS_FILE])
                raise ValueError(f"{word} has no rating in {read}: name its rating file with --ratings.")
        else:
            sets[name] = _prepared(word, split, options)
    return sets


def _prepared(word: str, split: str, options: TrainingOptions) -> Any:
    """Read one split of what `datasets` reads, or of one view of what `videoprefer build` wrote."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    from videorm_hf.videoprefer.features import VIEWS

    source, config = find_source(word, "A data set"), options.dataset_config
    if all(Path(source, view, "dataset_info.json").is_file() for view in VIEWS):
        if config not in VIEWS:
            choices = " or ".join(f"--dataset_config {view}" for view in VIEWS)
            raise ValueError(f"{word} holds both views: choose one with {choices}, got {config}.")
        source, config = str(Path(source, config)), None
    try:
        return load_dataset(source, config, split=split)
    except DatasetGenerationError as error:
        raise ValueError(f"{word} could not be read as a data set: {error.__cause__ or error}") from error
    except ValueError as error:
        raise ValueError(
            f"{word} could not be read as a data set, with --train_split {options.train_split}, --eval_split "
            f"{options.eval_split} and --dataset_config {options.dataset_config}: {error}"
        ) from error


def _has_no_splits(path: Path) -> bool:
    return path.is_file() or (path / ITEMS_FILE).is_file()


def _table(path: Path) -> list[dict[str, Any]]:
    """Read a table of pairs, whose videos' paths start from its folder."""
    from videorm_hf.scoring.tables import read_table

    if not path.is_file():
        raise FileNotFoundError(
            f"there is no {path}: a data set may be a table of pairs (.jsonl, .csv, .parquet) with prompt, chosen and "
            "rejected, a working folder, or a folder or Hub id of a published one"
        )
    sides = ("chosen", "rejected")
    return [
        row | {side: str(path.parent / row[side]) for side in sides if isinstance(row.get(side), str)}
        for row in read_table(path)
    ]


def _name(word: str) -> str:
    return Path(word).resolve().name if Path(word).exists() else word.rsplit("/", 1)[-1]


def _working_folder(folder: Path, ratings: list[str] | None) -> list[Any]:
    """Read the usable items of a working folder, with the paths of their videos."""
    from videorm_hf.videoprefer.bad_data import Report
    from videorm_hf.videoprefer.working_folder import read_items

    report = Report()
    items = list(read_items(folder, ratings, num_candidates=None, report=report))
    if report.problems:
        first = "; ".join(str(problem) for problem in report.problems[:3])
        logger.warning("%s: %d problems, whose items are set aside: %s.", folder, len(report.problems), first)
    return [
        dataclasses.replace(
            item,
            candidates=tuple(dataclasses.replace(of, video=str(folder / of.video)) for of in item.candidates),
        )
        for item in items
    ]


def _lora(options: TrainingOptions) -> Any:
    """Build the LoRA's settings, if there is to be one."""
    if options.lora_r is None:
        return None
    from trl import ModelConfig, get_peft_config

    return get_peft_config(
        ModelConfig(
            use_peft=True,
            lora_r=options.lora_r,
            lora_alpha=options.lora_alpha or options.lora_r,
            lora_target_modules=options.lora_target_modules or ["q_proj", "v_proj"],
            lora_task_type=None,
        )
    )
