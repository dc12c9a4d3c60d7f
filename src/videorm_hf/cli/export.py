"""`videoprefer export`: a working folder as a folder for the Hub that plain `load_dataset` reads."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from videorm_hf.cli import dataset_options as options
from videorm_hf.cli.push import upload


def export(
    folder: options.Folder,
    output: Annotated[Path, typer.Option(help="The folder to write.")],
    layout: Annotated[str, typer.Option(help="parquet, webdataset (both with embedded videos) or files.")] = "parquet",
    title: Annotated[str, typer.Option(help="Title of the card.")] = "VIDEOPREFER",
    licence: Annotated[
        list[str] | None, typer.Option(help="Licence of a prompt source or model as NAME=TEXT; may be repeated.")
    ] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="About how many megabytes a shard has.")] = 128,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    push: Annotated[str | None, typer.Option(help="Afterwards upload to this data set repository.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    ratings: options.Ratings = None,
    candidates: options.Candidates = 4,
    dimension: options.Dimensions = None,
    pairs_on: options.PairDimensions = None,
    keep_ties: options.KeepTies = False,
    min_margin: options.MinMargin = 0.0,
    split: options.Split = None,
    seed: options.Seed = 0,
    num_workers: options.NumWorkers = None,
    strict: options.Strict = False,
) -> None:
    """Write a data set with its card.

    `load_dataset(OUTPUT, "preference")` and `load_dataset(OUTPUT, "ratings")` then work wherever `datasets` is
    installed. Exit code: 0 if every item was exported, 1 if something was set aside (with --strict: and nothing
    written), 2 if the command cannot be run as given.
    """
    from huggingface_hub.utils import validate_repo_id

    from videorm_hf.videoprefer.builder import VideoPreferConfig
    from videorm_hf.videoprefer.export import export_to_hub_layout

    logging.basicConfig(level=logging.WARNING)
    if push is not None:
        validate_repo_id(push)
    settings = options.dataset_settings(
        folder, ratings, candidates, dimension, pairs_on, keep_ties, min_margin, split, seed, num_workers, strict
    )
    report = export_to_hub_layout(
        VideoPreferConfig(name="preference", **settings),
        output,
        layout,
        title=title,
        licences=dict(options.named_values(licence)),
        shard_bytes=shard_size * 2**20,
        overwrite=overwrite,
    )
    typer.echo(f"written to {output}")
    if push is not None:
        upload(output, push, private)
    options.finish(report)
