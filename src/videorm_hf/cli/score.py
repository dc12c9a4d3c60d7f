"""`videorm score`: rewards of video files, as a table on the terminal and as JSONL, CSV or Parquet on disk."""

import logging
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from videorm_hf.scoring.runner import ScoringOptions, score_table
from videorm_hf.scoring.tables import Row, check_format, read_pairs

_MAX_TABLE_ROWS = 50
_MAX_MESSAGES = 5


def score(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of a VIDEORM.")],
    videos: Annotated[
        list[Path] | None, typer.Argument(help="Video files; the same as --videos.", show_default=False)
    ] = None,
    more_videos: Annotated[
        list[Path] | None, typer.Option("--videos", help="A video file; further ones may follow it.")
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="The prompt that all videos are scored for.")] = None,
    pairs_file: Annotated[
        Path | None, typer.Option("--input", help="Table (.jsonl, .csv, .parquet) with the columns video and prompt.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Table to write (.jsonl, .csv, .parquet).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an output that was interrupted.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda:1.", show_default="the GPU if any")] = None,
    dtype: Annotated[str | None, typer.Option(help="Such as bfloat16.", show_default="the checkpoint's")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Videos in one forward pass.")] = 8,
    num_frames: Annotated[int | None, typer.Option(min=1, help="Frames sampled from each video.")] = None,
    num_workers: Annotated[int | None, typer.Option(min=0, help="Decoding processes.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that decoding one video may take.")] = 120.0,
) -> None:
    """Score videos for prompts.

    A video that cannot be read is a row with a named reason, and the run goes on.
    Exit code: 0 if every row was scored, 1 if some were not, 2 if the command cannot be run as given.
    """
    logging.basicConfig(level=logging.WARNING)
    options = ScoringOptions(batch_size, num_frames, num_workers, timeout, device, dtype)
    pairs, folder = _pairs([*(more_videos or []), *(videos or [])], prompt, pairs_file)
    if output is not None:
        check_format(output)
    if resume and (output is None or overwrite):
        raise ValueError("--resume needs --output and excludes --overwrite")
    rows = score_table(model, pairs, output, folder=folder, options=options, resume=resume, overwrite=overwrite)
    if rows:
        _show(rows, output)
        if prompt is not None and any(row["error"] == "missing" and _is_text(row["video"]) for row in rows):
            typer.echo("--prompt takes one text for all videos; where each has its own, give a table with --input.")
    if any(row["error"] for row in rows):
        raise typer.Exit(1)


def _pairs(videos: list[Path], prompt: str | None, pairs_file: Path | None) -> tuple[list[Row], Path]:
    """Return the rows to score and the folder that relative paths start from."""
    if pairs_file is not None:
        if videos or prompt is not None:
            raise ValueError("give either --input or --videos with --prompt, not both")
        return read_pairs(pairs_file), pairs_file.parent
    if not videos or prompt is None:
        raise ValueError("give --videos with --prompt, or --input")
    if not prompt.strip():
        raise ValueError("--prompt must not be empty")
    return [{"video": str(video), "prompt": prompt} for video in videos], Path()


def _is_text(video: str) -> bool:
    """Whether a word that names no file looks like a second prompt: it does not end as a file's name does."""
    return not Path(video).suffix.lstrip(".").isalnum()


def _show(rows: list[Row], output: Path | None) -> None:
    """Show the scores on a terminal, the summary everywhere."""
    console = Console()
    if output is None or console.is_terminal:
        table = Table("video", "prompt", "reward")
        for row in rows[: None if output is None else _MAX_TABLE_ROWS]:
            cell = Text(row["error"], style="red") if row["error"] else Text(f"{row['reward']:.4f}")
            table.add_row(Text(row["video"]), Text(row["prompt"]), cell)
        console.print(table)
    reasons = Counter(row["error"] for row in rows if row["error"])
    failed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    summary = [f"{len(rows) - reasons.total()} of {len(rows)} videos scored"]
    summary += [f"not scored: {failed}"] if failed else []
    summary += [f"written to {output}"] if output else []
    failures = [f"{row['error']}: {row['message']}" for row in rows if row["error"]]
    for line in ["; ".join(summary), *failures[:_MAX_MESSAGES]]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
