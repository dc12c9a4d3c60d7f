"""Options that the commands which judge or use rewards share."""

from typing import Annotated

import typer

Rewards = Annotated[
    list[str],
    typer.Option(
        "--reward",
        help="NAME:SOURCE, such as videorm:FOLDER or hps_v2:HPS_v2_compressed.pt; the folder or hub id of a VIDEORM; "
        "or module:function of your own. Can be given several times.",
    ),
]
NumFrames = Annotated[
    int | None,
    typer.Option(min=1, help="Frames sampled from each video.", show_default="what a VIDEORM looks at, else 8"),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Videos in one call of a reward.")]
NumWorkers = Annotated[int | None, typer.Option(min=0, help="Decoding processes.", show_default="all cores but one")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds that decoding one video may take.")]
Device = Annotated[str | None, typer.Option(help="Such as cpu or cuda:1.", show_default="the GPU if any")]
Resamples = Annotated[int, typer.Option(min=1, help="Bootstrap resamples of the prompts.")]
Seed = Annotated[int, typer.Option(help="Of bootstrap and splits.")]
