"""`videoprefer push`: an exported data set to the Hub."""

import logging
from pathlib import Path
from typing import Annotated

import typer


def push(
    folder: Annotated[Path, typer.Argument(help="What `videoprefer export` wrote.")],
    repo_id: Annotated[str, typer.Argument(help="Data set repository, such as user/videoprefer.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be uploaded.")] = False,
) -> None:
    """Upload an exported data set; an interrupted upload is continued by the same command.

    Exit code: 0 if all is there, 2 if the command cannot be run as given.
    """
    from huggingface_hub.utils import validate_repo_id

    from videorm_hf.videoprefer.export import files_to_push

    validate_repo_id(repo_id)
    logging.basicConfig(level=logging.WARNING)
    files = files_to_push(folder)
    if not dry_run:
        upload(folder, repo_id, private)
        return
    for name, size in files:
        typer.echo(f"{size:>14,} {name}")
    typer.echo(f"{sum(size for _, size in files):>14,} bytes in {len(files)} files would go to {repo_id}")


def upload(folder: Path, repo_id: str, private: bool) -> None:
    """Upload a folder and say where it is."""
    from videorm_hf.videoprefer.export import push_to_hub

    push_to_hub(folder, repo_id, private=private)
    typer.echo(f"uploaded to https://huggingface.co/datasets/{repo_id}")
