"""`videoprefer collect`: prompts for a new data set, with the real clips of captions."""

import logging
from pathlib import Path
from typing import Annotated

import typer

_WHERE = "A file, REPOSITORY:FILE of the Hub, or a data set id.  [default: on the Hub]"


def collect(
    folder: Annotated[Path, typer.Argument(help="Working folder to begin.")],
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    max_words: Annotated[int, typer.Option(min=1, help="Longer prompts are left out.")] = 60,
    vidprom: Annotated[str | None, typer.Option(help=f"VidProM. {_WHERE}")] = None,
    vidprom_count: Annotated[int, typer.Option(min=0, help="Prompts of VidProM.")] = 12_900,
    activitynet: Annotated[str | None, typer.Option(help=f"ActivityNet Captions. {_WHERE}")] = None,
    activitynet_videos: Annotated[Path | None, typer.Option(help="Folder of ActivityNet's videos.")] = None,
    activitynet_count: Annotated[int, typer.Option(min=0, help="Captions of ActivityNet.")] = 900,
    msrvtt: Annotated[str | None, typer.Option(help=f"MSR-VTT. {_WHERE}")] = None,
    msrvtt_videos: Annotated[Path | None, typer.Option(help="Folder of MSR-VTT's clips.")] = None,
    msrvtt_count: Annotated[int, typer.Option(min=0, help="Captions of MSR-VTT.")] = 200,
) -> None:
    """Draw prompts into FOLDER/prompts.jsonl; the numbers are the paper's by default.

    Empty, over-long and repeated prompts are left out and counted in collect.json. Exit code: 0 if all were drawn, 2
    if not.
    """
    from videorm_hf.reporting.tables import print_table
    from videorm_hf.videoprefer.collect import CollectSettings, collect_prompts

    logging.basicConfig(level=logging.WARNING)
    locations = {"vidprom": vidprom, "activitynet": activitynet, "msrvtt": msrvtt}
    videos = {"activitynet": activitynet_videos, "msrvtt": msrvtt_videos}
    settings = CollectSettings(
        counts={"vidprom": vidprom_count, "activitynet": activitynet_count, "msrvtt": msrvtt_count},
        locations={name: location for name, location in locations.items() if location is not None},
        video_folders={name: path for name, path in videos.items() if path is not None},
        seed=seed,
        max_words=max_words,
    )
    counts = collect_prompts(folder, settings)
    print_table([{"source": name, **tally} for name, tally in counts.items()], title="Prompts")
    typer.echo(f"written to {folder}")
