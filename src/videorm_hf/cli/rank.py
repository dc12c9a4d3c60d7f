"""`videorm rank`: the order that rewards give a folder of videos for one prompt."""

import json
import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from videorm_hf.cli.reward_options import BatchSize, Device, NumFrames, NumWorkers, Rewards, Timeout


def rank(
    folder: Annotated[Path, typer.Argument(help="Folder of candidate videos.", exists=True, file_okay=False)],
    prompt: Annotated[str, typer.Option(help="What the videos were to show.")],
    reward: Rewards,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    num_frames: NumFrames = None,
    batch_size: BatchSize = 8,
    num_workers: NumWorkers = None,
    timeout: Timeout = 120.0,
    device: Device = None,
) -> None:
    """Order a folder of videos by how well they fit a prompt, best first; several rewards stand side by side.

    Exit code: 0 if every file was scored, 1 if some were not, 2 if the command cannot be run as given.
    """
    from rich.console import Console

    from videorm_hf.benchmarks.evaluation import reward_names
    from videorm_hf.evaluation.score_store import ScoreStore
    from videorm_hf.evaluation.video_scores import ScoringSettings, VideoRequest, score_requests
    from videorm_hf.reporting.tables import print_table
    from videorm_hf.rewards import load_reward

    logging.basicConfig(level=logging.WARNING)
    settings = ScoringSettings(num_frames, batch_size, num_workers, timeout, device)
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files or not prompt.strip():
        raise ValueError(f"{folder} holds no file" if not files else "--prompt must not be empty")
    requests = {file.name: VideoRequest(str(file), prompt) for file in files}
    scores: dict[str, dict[str, float]] = {}
    failures: dict[str, str] = {}
    for name, spec in zip(reward_names(reward), reward, strict=True):
        found = score_requests(load_reward(spec), list(requests.values()), ScoreStore(None, {}), settings)
        scores[name] = {file: found.rewards[r] for file, r in requests.items() if r in found.rewards}
        failures |= {file: found.failures[r].reason for file, r in requests.items() if r in found.failures}
    rows = _ranked(scores)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        content = {"prompt": prompt, "ranking": rows, "not_scored": failures}
        output.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if rows:
        print_table(rows, title=prompt)
    for file, reason in failures.items():
        Console().print(f"not scored: {file} ({reason})", highlight=False, markup=False, soft_wrap=True)
    if failures:
        raise typer.Exit(1)


def _ranked(scores: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """Return a row a video: its rank and score by each reward, in the first one's order; equal scores share a rank."""
    first = next(iter(scores.values()))
    rows = []
    for file in sorted(first, key=lambda file: (-first[file], file)):
        row: dict[str, Any] = {"video": file}
        for name, values in scores.items():
            value = values.get(file)
            better = None if value is None else sum(other > value for other in values.values())
            row |= {f"rank by {name}": None if better is None else better + 1, name: value}
        rows.append(row)
    return rows
