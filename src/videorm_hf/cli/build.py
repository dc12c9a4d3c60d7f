"""`videoprefer build`: a working folder, checked and prepared as Arrow files that `load_dataset` maps into memory."""

import logging
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from videorm_hf.cli import dataset_options as options


def build(
    folder: options.Folder,
    output: Annotated[Path | None, typer.Option(help="Where to write.", show_default="FOLDER/built")] = None,
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
    """Check a working folder and prepare both views.

    Writes OUTPUT/ratings and OUTPUT/preference, each for `load_dataset`, with report.json and splits.json beside them.
    The rows name the videos where they are; use `videoprefer export` for a folder that holds them.
    Exit code: 0 if every item was used, 1 if something was set aside (with --strict: and nothing written), 2 if the
    command cannot be run as given.
    """
    from videorm_hf.reporting.tables import counted
    from videorm_hf.videoprefer.builder import VideoPrefer
    from videorm_hf.videoprefer.features import VIEWS
    from videorm_hf.videoprefer.splits import SPLITS_FILE, assign_splits, write_splits
    from videorm_hf.videoprefer.working_folder import WorkingFolder

    logging.basicConfig(level=logging.ERROR)
    output = folder / "built" if output is None else output
    settings = options.dataset_settings(
        folder, ratings, candidates, dimension, pairs_on, keep_ties, min_margin, split, seed, num_workers, strict
    )
    for view in VIEWS:  # what datasets prepares takes the place of all that is there
        there = output / view
        if there.exists() and not ((there / "dataset_info.json").is_file() or not any(there.iterdir())):
            raise FileExistsError(f"{there} holds no prepared data set, and is not replaced: name another --output.")
    for view in VIEWS:
        with tempfile.TemporaryDirectory() as cache:
            builder = VideoPrefer(config_name=view, cache_dir=cache, **settings)
            opened = builder.config.open()
            builder.config.checked(opened)  # nothing is written where this or the next one raises
            builder.config.check_pairs(opened)
            builder.download_and_prepare(str(output / view), download_mode="force_redownload")
        for lock in (f"{view}_builder.lock", f"{view}.incomplete_info.lock"):  # which datasets leaves behind
            (output / lock).unlink(missing_ok=True)
        for name, rows in builder.info.splits.items():
            typer.echo(f"{view}, {name}: {counted(rows.num_examples, 'row')}")
    split_of = assign_splits(WorkingFolder(folder, ()).prompts(), builder.config.fractions, seed)
    write_splits(output / SPLITS_FILE, split_of, builder.config.fractions, seed)
    builder.report.write(output / "report.json")
    typer.echo(f"written to {output}")
    options.finish(builder.report)
