"""`videoprefer generate`: candidate videos for collected prompts, from a pool of diffusers pipelines."""

import logging
from pathlib import Path
from typing import Annotated

import typer


def generate(
    folder: Annotated[Path, typer.Argument(help="Working folder with prompts.jsonl.")],
    pool: Annotated[Path, typer.Option(help="YAML file with the pool of models.")],
    seed: Annotated[int, typer.Option(help="Seed of the draw and of the noise.")] = 0,
    device: Annotated[str | None, typer.Option(help="Such as cpu.", show_default="each process's GPU if any")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try again what failed before.")] = False,
) -> None:
    """Generate the candidates of every prompt; the same command continues an interrupted run.

    For several processes: accelerate launch -m videorm_hf.cli.videoprefer generate FOLDER --pool POOL.
    Exit code: 0 if every candidate is there, 1 if some failed, 2 if the command cannot be run as given.
    """
    from videorm_hf.reporting.tables import counted
    from videorm_hf.videoprefer.generate import generate_candidates
    from videorm_hf.videoprefer.model_pool import read_pool

    logging.basicConfig(level=logging.WARNING)
    counts = generate_candidates(folder, read_pool(pool), seed, device=device, retry_failed=retry_failed)
    if counts is None:  # another process reports
        return
    videos, items = counted(counts.num_generated, "video"), counted(counts.num_items, "item")
    typer.echo(f"{videos}, {counts.num_failed} failed; {items} in {folder}")
    if counts.num_failed:
        raise typer.Exit(1)
