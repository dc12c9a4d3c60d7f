"""`draftv train`: a [`DRaFTVTrainer`] run described by a YAML file and options."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from datasets import Dataset, load_dataset
from peft import LoraConfig
from trl import TrlParser

from draftv_trainer.cli.arguments import as_list, find_rewards, name_prompt_column, read_prompts
from draftv_trainer.draftv_config import DRaFTVConfig
from draftv_trainer.draftv_trainer import CHECKPOINT, DRaFTVTrainer
from draftv_trainer.lora import default_lora_config
from videorm_hf.cli.yaml_options import options_parser, parse_options
from videorm_hf.models.dtypes import DTYPES
from videorm_hf.models.sources import PIPELINE_FILES, find_source

logger = logging.getLogger(__name__)


@dataclass
class TrainArguments:
    """What `draftv train` takes beside the settings of [`DRaFTVConfig`]."""

    model_name_or_path: str = field(metadata={"help": "Folder or Hub id of a diffusers pipeline."})
    reward_funcs: list[str] = field(
        metadata={"help": "Rewards: VIDEORM folders, NAME:SOURCE (`hps_v2:PATH`), or your own as `module:function`."}
    )
    dtype: str | None = field(
        default=None, metadata={"help": "What to load the pipeline in. Default: float32.", "choices": list(DTYPES)}
    )
    monitor_rewards: list[str] | None = field(
        default=None, metadata={"help": "Rewards that are never trained on, watched every guard_steps steps."}
    )
    prompts: list[str] | None = field(
        default=None, metadata={"help": "Prompts, or files of them (.txt, .jsonl, .csv, .parquet)."}
    )
    eval_prompts: list[str] | None = field(default=None, metadata={"help": "The same for evaluation."})
    prompt_column: str = field(default="prompt", metadata={"help": "The column of prompts in tables and datasets."})
    dataset_name: str | None = field(
        default=None, metadata={"help": "Path or Hub id of a dataset of prompts, instead of `prompts`."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "The dataset's configuration."})
    dataset_train_split: str = field(default="train", metadata={"help": "The split to train on."})
    dataset_test_split: str | None = field(default=None, metadata={"help": "The split to evaluate on. Default: none."})
    lora_r: int = field(default=4, metadata={"help": "Rank of the LoRA."})
    lora_alpha: int | None = field(default=None, metadata={"help": "Its alpha. Default: the rank."})
    lora_target_modules: list[str] | None = field(
        default=None, metadata={"help": "Layers that get a LoRA. Default: to_q to_k to_v to_out.0"}
    )
    use_rslora: bool = field(default=False, metadata={"help": "Scale by alpha over the root of the rank."})
    resume: bool = field(
        default=False, metadata={"help": "Go on from the newest complete checkpoint in output_dir, if there is one."}
    )

    def __post_init__(self) -> None:
        for name in ("reward_funcs", "monitor_rewards", "prompts", "eval_prompts", "lora_target_modules"):
            self.__dict__[name] = as_list(self.__dict__[name])
        if bool(self.prompts) == (self.dataset_name is not None):
            raise ValueError("Give prompts with either --prompts or --dataset_name: got both or neither.")
        if self.eval_prompts and self.dataset_test_split is not None:
            raise ValueError("Give evaluation prompts with either --eval_prompts or --dataset_test_split: got both.")
        if self.dataset_test_split is not None and self.dataset_name is None:
            raise ValueError("--dataset_test_split needs --dataset_name: got none.")

    def train_dataset(self) -> Dataset:
        """Read the prompts to train on."""
        return self._split(self.dataset_train_split) if self.dataset_name else self._read(self.prompts)

    def eval_dataset(self) -> Dataset | None:
        """Read the prompts to evaluate on, if there are any."""
        if self.dataset_test_split is not None:
            return self._split(self.dataset_test_split)
        return self._read(self.eval_prompts) if self.eval_prompts else None

    def _read(self, words: list[str] | None) -> Dataset:
        return read_prompts(words or [], self.prompt_column)

    def _split(self, split: str) -> Dataset:
        dataset = load_dataset(self.dataset_name, self.dataset_config, split=split)
        return name_prompt_column(dataset, self.prompt_column, f"{self.dataset_name} ({split})")

    def lora_config(self) -> LoraConfig:
        """Build the LoRA's settings."""
        return LoraConfig(
            r=self.lora_r,
            lora_alpha=self.lora_r if self.lora_alpha is None else self.lora_alpha,
            target_modules=self.lora_target_modules or default_lora_config().target_modules,
            use_rslora=self.use_rslora,
        )


def parser() -> TrlParser:
    """Build the parser of `draftv train`."""
    description = "Tune a pipeline's LoRA by the gradient of rewards. Options of transformers' Trainer work too."
    return options_parser("draftv train", description, (TrainArguments, DRaFTVConfig))


def run(words: Sequence[str]) -> None:
    """Run `draftv train`.

    Args:
        words (`list[str]`):
            Its own words.
    """
    options, args = parse_options(parser(), words)
    checkpoint = CHECKPOINT.choose(options.resume, args.resume_from_checkpoint, args.output_dir)
    if options.dtype is not None:
        args.model_init_kwargs = {**args.loading_arguments(), "dtype": options.dtype}
    trainer = DRaFTVTrainer(
        model=find_source(options.model_name_or_path, "--model_name_or_path", PIPELINE_FILES),
        reward_funcs=find_rewards(options.reward_funcs),
        args=args,
        train_dataset=options.train_dataset(),
        eval_dataset=options.eval_dataset(),
        peft_config=options.lora_config(),
        monitor_rewards=find_rewards(options.monitor_rewards) or None,
    )
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model(_internal_call=True)  # which does not push
    if trainer.is_world_process_zero():
        logger.info("Written to %s.", args.output_dir)
    if args.push_to_hub:
        trainer.push_to_hub()
