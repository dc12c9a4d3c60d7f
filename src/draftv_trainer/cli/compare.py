"""`draftv compare`: two LoRAs or pipelines, the same prompts and noise: a table, JSON, and a page of paired videos."""

import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from trl import TrlParser

from draftv_trainer.cli.arguments import (
    SamplingArguments,
    as_list,
    find_rewards,
    read_prompts,
)
from draftv_trainer.comparison import RewardComparison, compare_rewards, judge
from draftv_trainer.comparison_page import Pair, Side, write_page
from draftv_trainer.reward_terms import RewardTerm, check_finite, make_reward_terms
from draftv_trainer.trainer_inputs import collate_prompts, load_rewards
from draftv_trainer.variants import (
    Variant,
    VideoBatch,
    VideoSettings,
    append_rows,
    find_variant,
    open_output,
    sample_variants,
    write_batch,
)
from videorm_hf.cli.yaml_options import options_parser, parse_options
from videorm_hf.reporting.tables import counted

RESULTS_NAME = "comparison.json"
PAGE_NAME = "comparison.html"


@dataclass
class CompareArguments:
    """What `draftv compare` takes beside how videos are sampled."""

    prompts: list[str] = field(metadata={"help": "Prompts, or files of them (.txt, .jsonl, .csv, .parquet)."})
    reward_funcs: list[str] = field(
        metadata={
            "help": "Rewards: VIDEORM folders, NAME:SOURCE (`hps_v2:PATH`), or your own as `module:function`.",
            "aliases": ["--reward"],
        }
    )
    output: str = field(default="draftv-comparison", metadata={"help": "Folder to write."})
    pipeline: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of the pipeline that `base` and LoRAs belong to."}
    )
    lora_scale: list[float] = field(
        default_factory=lambda: [1.0],
        metadata={"help": "Strength of LoRAs, 0 to 1: one number for both sides, or one for A and one for B."},
    )
    tie_margin: list[float] = field(
        default_factory=lambda: [0.0],
        metadata={"help": "Largest difference of two rewards that is a tie: one number, or one for each reward."},
    )
    page_pairs: int = field(default=20, metadata={"help": "Pairs whose videos the page holds, the first ones."})
    prompt_column: str = field(default="prompt", metadata={"help": "The column of prompts in tables."})

    def __post_init__(self) -> None:
        self.prompts, self.reward_funcs = as_list(self.prompts), as_list(self.reward_funcs)
        self.lora_scale = _spread(self.lora_scale, 2, "lora_scale", "side")
        self.tie_margin = _spread(self.tie_margin, len(self.reward_funcs), "tie_margin", "reward")
        if self.page_pairs < 0:
            raise ValueError(f"--page_pairs must be at least 0: got {self.page_pairs}.")

    def variants(self, a: str, b: str) -> tuple[Variant, Variant]:
        """Tell what A and B are; their names differ."""
        first, second = (find_variant(*row) for row in zip((a, b), (self.pipeline,) * 2, self.lora_scale, strict=True))
        if first.name != second.name:
            return first, second
        return first.renamed(f"{first.name}-a"), second.renamed(f"{second.name}-b")


def _spread(values: list[float] | float, number: int, name: str, unit: str) -> list[float]:
    """Return one value for each of several things: those given, or the one given for all."""
    values = list(values) if isinstance(values, list) else [values]
    if len(values) not in (1, number):
        raise ValueError(f"--{name} must be one number, or one for each {unit} ({number}): got {len(values)}.")
    return values * number if len(values) == 1 else values


def parser() -> TrlParser:
    """Build the parser of `draftv compare`."""
    description = "Compare B with A by rewards, over the same prompts and noise."
    made = options_parser("draftv compare", description, (CompareArguments, SamplingArguments))
    meaning = "`base`, a folder that `draftv train` wrote, or a pipeline's folder or Hub id."
    made.add_argument("a", metavar="A", help=meaning)
    made.add_argument("b", metavar="B", help="The same; wins are B's.")
    return made


def run(words: Sequence[str]) -> None:
    """Run `draftv compare`.

    Args:
        words (`list[str]`):
            Its own words.
    """
    options, sampling, positional = parse_options(parser(), words)
    variants = options.variants(positional.a, positional.b)
    dataset = read_prompts(options.prompts, options.prompt_column)
    settings = sampling.settings([variant.lora for variant in variants if variant.lora is not None])
    terms = make_reward_terms(load_rewards(find_rewards(options.reward_funcs), settings.device))
    output = open_output(options.output, sampling.overwrite)
    rows = _sample_and_score(variants, dataset, settings, terms, output)
    sides = [[row for row in rows if row["variant"] == variant.name] for variant in variants]
    comparisons = _compare(terms, sides, options.tie_margin)
    pairs = [_pair(output, a, b, terms, options.tie_margin) for a, b in zip(*sides, strict=True)]
    facts = _facts(variants, settings)
    _write_results(output, variants, comparisons, rows, facts)
    names = (variants[0].name, variants[1].name)
    write_page(output / PAGE_NAME, names, comparisons, pairs[: options.page_pairs], _spell(facts))
    _show(output, names, comparisons)


def _sample_and_score(
    variants: Sequence[Variant],
    dataset: Dataset,
    settings: VideoSettings,
    terms: Sequence[RewardTerm],
    output: Path,
) -> list[dict[str, Any]]:
    """Sample and score every video; return the rows of the table of videos, in the order of variants and prompts."""
    rows = []
    for batch in sample_variants(variants, list(dataset["prompt"]), settings):
        rewards = _score(batch, terms, dataset)
        files = write_batch(batch, output, settings)
        scored = [{**row, "rewards": values} for row, values in zip(files, rewards, strict=True)]
        append_rows(output, scored)
        rows += scored
    return rows


@torch.no_grad()
def _score(batch: VideoBatch, terms: Sequence[RewardTerm], dataset: Dataset) -> list[dict[str, float]]:
    """Score the videos as they were sampled, before any file format: each one's rewards by name."""
    inputs = collate_prompts([dataset[video.position] for video in batch.videos])
    frames_BTCHW = batch.frames_BTCHW.float()
    rewards = torch.stack([term.score(frames_BTCHW, **inputs) for term in terms])
    check_finite(terms, rewards, inputs["prompts"])
    names = [term.name for term in terms]
    return [dict(zip(names, values, strict=True)) for values in rewards.T.tolist()]


def _compare(
    terms: Sequence[RewardTerm], sides: list[list[dict[str, Any]]], tie_margins: list[float]
) -> list[RewardComparison]:
    """Compare the sides by each reward."""
    prompts = [row["prompt"] for row in sides[0]]
    comparisons = []
    for term, tie_margin in zip(terms, tie_margins, strict=True):
        a, b = ([row["rewards"][term.name] for row in side] for side in sides)
        comparisons.append(compare_rewards(term.name, a, b, prompts, tie_margin))
    return comparisons


def _pair(
    output: Path, a: dict[str, Any], b: dict[str, Any], terms: Sequence[RewardTerm], tie_margins: list[float]
) -> Pair:
    """Gather what the page shows of one prompt."""
    sides = [Side(output / row["file_name"], [row["rewards"][term.name] for term in terms]) for row in (a, b)]
    pairs = zip(sides[0].rewards, sides[1].rewards, tie_margins, strict=True)
    return Pair(a["prompt"], sides[0], sides[1], [judge(second - first, margin) for first, second, margin in pairs])


def _facts(variants: Sequence[Variant], settings: VideoSettings) -> dict[str, Any]:
    """Gather how the videos were made."""
    versions = {name: importlib.metadata.version(name) for name in ("videorm-hf", "torch", "diffusers")}
    sides = {letter: variant.facts() for letter, variant in zip("AB", variants, strict=True)}
    dtype = str(settings.dtype).removeprefix("torch.")
    return {**sides, **settings.call, "seed": settings.seed, "dtype": dtype, "versions": versions}


def _spell(facts: dict[str, Any]) -> dict[str, str]:
    """Return the facts as a reader wants them."""
    return {
        name: ", ".join(f"{key} {part}" for key, part in value.items()) if isinstance(value, dict) else str(value)
        for name, value in facts.items()
    }


def _write_results(
    output: Path,
    variants: Sequence[Variant],
    comparisons: Sequence[RewardComparison],
    rows: Sequence[dict[str, Any]],
    facts: dict[str, Any],
) -> None:
    """Write everything as JSON."""
    results = {
        "a": variants[0].name,
        "b": variants[1].name,
        "rewards": {comparison.name: comparison.to_dict() for comparison in comparisons},
        "facts": facts,
        "videos": rows,
    }
    (output / RESULTS_NAME).write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _show(output: Path, names: tuple[str, str], comparisons: Sequence[RewardComparison]) -> None:
    """Show the table, the rule for ties, and where everything is."""
    console = Console()
    table = Table("reward", "A", "B", "B - A", "win / tie / lose", "win rate", "sign test")
    for row in comparisons:
        table.add_row(
            row.name,
            f"{row.mean_a:+.4f}",
            f"{row.mean_b:+.4f}",
            f"{row.difference:+.4f}" + _interval(row.difference_interval, "{:+.4f}"),
            f"{row.wins} / {row.ties} / {row.losses}",
            f"{row.win_rate:.3f}" + _interval(row.win_rate_interval, "{:.3f}"),
            f"p = {row.sign_test:.3g}",
        )
    console.print(table)
    margins = ", ".join(f"{row.tie_margin:g} ({row.name})" for row in comparisons)
    for line in (
        f"A: {names[0]}; B: {names[1]}; wins are B's; {counted(comparisons[0].num_pairs, 'pair')} of "
        f"{counted(comparisons[0].num_prompts, 'prompt')}.",
        f"Tie: the rewards of a pair differ by at most {margins}; it counts one half in the win rate.",
        "In brackets: 95 % bootstrap intervals over prompts. Sign test: exact, two-sided, one vote per prompt.",
        f"Written: {output / PAGE_NAME}, {output / RESULTS_NAME}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _interval(interval: tuple[float, float] | None, form: str) -> str:
    """Spell an interval, or nothing where there is none."""
    return "" if interval is None else f" \\[{form.format(interval[0])}, {form.format(interval[1])}]"
