"""`videorm convert`: an image reward or CLIP checkpoint to a VIDEORM folder."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

TemporalShift = Literal["residual", "block", "none"]
TemporalHead = Literal["transformer", "conv1d", "lstm", "mean"]
Dtype = Literal["float32", "bfloat16", "float16"]


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="HPS v2 or open_clip checkpoint file; open_clip name with its weights (ViT-H-14:laion2b_s32b_b79k, "
            "hf-hub:org/name); or transformers CLIPModel, a folder or hub id (PickScore)."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    architecture: Annotated[
        str | None,
        typer.Option(help="open_clip's architecture of a checkpoint file, such as ViT-B-32, where it cannot be told."),
    ] = None,
    num_frames: Annotated[int, typer.Option(min=1, help="Frames sampled from each clip.")] = 8,
    temporal_shift: Annotated[TemporalShift, typer.Option(help="Where frames exchange channels.")] = "residual",
    temporal_head: Annotated[TemporalHead, typer.Option(help="Module over frame features.")] = "transformer",
    dtype: Annotated[Dtype, typer.Option(help="What to store weights in.")] = "float32",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a transformers hub id.")] = None,
    license: Annotated[str | None, typer.Option(help="The source's licence, where its own card does not say.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it holds a VIDEORM.")] = False,
) -> None:
    """Make a VIDEORM folder from an image reward or CLIP checkpoint; only the temporal head is new.

    Exit code: 0, or 2 for what cannot be converted as given.
    """
    # Imported here: open_clip takes seconds, which `videorm --help` need not wait for.
    from videorm_hf.models.conversion import ConversionReport, convert_checkpoint

    report: ConversionReport = convert_checkpoint(
        source,
        out,
        architecture=architecture,
        num_frames=num_frames,
        temporal_shift=temporal_shift,
        temporal_head=temporal_head,
        dtype=dtype,
        revision=revision,
        license=license,
        overwrite=overwrite,
    )

    table = Table(show_header=False, box=None)
    for name, value in {
        "source": f"{report.source} ({report.source_kind}, {report.architecture}, licence {report.license})",
        "taken over": f"all {report.num_source_tensors} tensors, {report.num_converted_parameters:,} parameters",
        "new, untrained": f"the temporal head, {report.num_fresh_parameters:,} parameters",
        "stored in": f"{report.dtype}, {report.out}",
        **{f"note {index}": note for index, note in enumerate(report.notes, start=1)},
    }.items():
        table.add_row(f"[bold]{name}[/]", escape(value))
    Console().print(table)
