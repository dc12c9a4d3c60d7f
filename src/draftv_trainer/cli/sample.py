"""`draftv sample`: videos of a pipeline with a LoRA and without, from the same noise, and a grid of both."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from trl import TrlParser

from draftv_trainer.cli.arguments import (
    SamplingArguments,
    as_list,
    read_prompts,
)
from draftv_trainer.lora import LORA_WEIGHTS_NAME
from draftv_trainer.variants import (
    BASE,
    Variant,
    append_rows,
    find_variant,
    open_output,
    sample_variants,
    tile,
    write_batch,
)
from videorm_hf.cli.yaml_options import options_parser, parse_options
from videorm_hf.reporting.tables import counted
from videorm_hf.videoprefer.video_io import write_video

GRID_NAME = "grid.mp4"


@dataclass
class SampleArguments:
    """What `draftv sample` takes beside how videos are sampled."""

    prompts: list[str] = field(metadata={"help": "Prompts, or files of them (.txt, .jsonl, .csv, .parquet)."})
    output: str = field(default="draftv-samples", metadata={"help": "Folder to write."})
    lora: str | None = field(default=None, metadata={"help": "Folder of a LoRA that `draftv train` wrote."})
    lora_scale: list[float] = field(
        default_factory=lambda: [1.0],
        metadata={"help": "Strength of the LoRA, 0 to 1; several give a column of the grid each."},
    )
    skip_base: bool = field(default=False, metadata={"help": "Do not sample the pipeline without the LoRA."})
    grid_rows: int = field(default=4, metadata={"help": "Prompts in the grid; 0 for no grid."})
    prompt_column: str = field(default="prompt", metadata={"help": "The column of prompts in tables."})

    def __post_init__(self) -> None:
        self.prompts = as_list(self.prompts)
        self.lora_scale = self.lora_scale if isinstance(self.lora_scale, list) else [self.lora_scale]
        if self.lora is None and self.skip_base:
            raise ValueError("--skip_base leaves nothing to sample without --lora: give one, or leave it out.")
        if self.grid_rows < 0:
            raise ValueError(f"--grid_rows must be at least 0: got {self.grid_rows}.")

    def variants(self, pipeline: str) -> list[Variant]:
        """List what to sample from: the columns of the grid, from left to right."""
        base = find_variant(BASE, pipeline)
        variants = [] if self.skip_base else [base]
        if self.lora is None:
            return variants
        if not Path(self.lora, LORA_WEIGHTS_NAME).is_file():
            raise FileNotFoundError(
                f"--lora must be a folder that `draftv train` wrote: got {self.lora!r}, without {LORA_WEIGHTS_NAME}."
            )
        several = len(self.lora_scale) > 1
        names = {scale: f"lora-{scale:g}" if several else "lora" for scale in self.lora_scale}
        return variants + [Variant(name, base.pipeline, Path(self.lora), scale) for scale, name in names.items()]


def parser() -> TrlParser:
    """Build the parser of `draftv sample`."""
    made = options_parser(
        "draftv sample", "Sample videos, before and after side by side.", (SampleArguments, SamplingArguments)
    )
    made.add_argument("pipeline", metavar="PIPELINE", help="Folder or Hub id of a diffusers pipeline.")
    return made


def run(words: Sequence[str]) -> None:
    """Run `draftv sample`.

    Args:
        words (`list[str]`):
            Its own words.
    """
    options, sampling, positional = parse_options(parser(), words)
    variants = options.variants(positional.pipeline)
    prompts = list(read_prompts(options.prompts, options.prompt_column)["prompt"])
    settings = sampling.settings([variant.lora for variant in variants if variant.lora is not None])
    output = open_output(options.output, sampling.overwrite)
    grid: list[list[torch.Tensor]] = [[] for _ in prompts[: options.grid_rows]]
    for batch in sample_variants(variants, prompts, settings):
        append_rows(output, write_batch(batch, output, settings))
        for video in batch.videos:
            if video.position < len(grid):
                grid[video.position].append(video.frames_TCHW)
    if grid and len(variants) > 1:
        write_video(tile(grid), output / GRID_NAME, settings.fps)
    _show(output, variants, len(prompts), grid=bool(grid) and len(variants) > 1)


def _show(output: Path, variants: Sequence[Variant], num_prompts: int, *, grid: bool) -> None:
    """Say what was written where."""
    console = Console()
    names = ", ".join(variant.name for variant in variants)
    videos, prompts = counted(num_prompts * len(variants), "video"), counted(num_prompts, "prompt")
    summary = f"{videos} ({prompts}: {names}) written to {output}"
    console.print(summary, highlight=False, markup=False, soft_wrap=True)
    if grid:
        console.print(f"side by side ({names}): {output / GRID_NAME}", highlight=False, markup=False, soft_wrap=True)
