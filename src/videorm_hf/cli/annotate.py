"""`videoprefer annotate`: a multimodal judge rates every video of a working folder."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videorm_hf.cli import judge_options as judge
from videorm_hf.cli.rated_videos import read_named_opinions, read_videos

if TYPE_CHECKING:
    from videorm_hf.annotation import AnnotationOptions, AnnotationSummary, Forecast

_MAX_SHOWN = 300  # characters of a reply


def annotate(
    context: typer.Context,
    folder: Annotated[str, typer.Argument(help="A working folder, or a labelled set as SET:PATH, such as fetv:DATA.")],
    model: judge.Model,
    base_url: judge.BaseUrl = None,
    api_key_env: judge.ApiKeyEnv = "OPENAI_API_KEY",
    output: Annotated[
        Path | None,
        typer.Option(help="Rating file to write or continue.", show_default="FOLDER/ratings.jsonl or pairwise.jsonl"),
    ] = None,
    mode: Annotated[str, typer.Option(help="pointwise or pairwise.", metavar="MODE")] = "pointwise",
    dimension: Annotated[
        list[str] | None,
        typer.Option(
            help="What is rated; can be given several times.", show_default="prompt_following, video_quality"
        ),
    ] = None,
    rubric_version: judge.RubricVersion = "v1",
    num_frames: Annotated[int, typer.Option(min=1, help="Frames of each video that the judge sees.")] = 8,
    frame_size: judge.FrameSize = 512,
    temperature: Annotated[float, typer.Option(min=0.0, help="Of the judge's sampling.")] = 0.3,
    response_format: judge.ResponseFormat = "auto",
    max_tokens: judge.MaxTokens = 512,
    concurrency: judge.Concurrency = 16,
    requests_per_minute: judge.RequestsPerMinute = None,
    tokens_per_minute: judge.TokensPerMinute = None,
    timeout: judge.Timeout = 120.0,
    max_attempts: judge.MaxAttempts = 6,
    tokens_per_image: judge.TokensPerImage = 500,
    price_per_million_input: judge.PricePerMillionInput = None,
    price_per_million_output: judge.PricePerMillionOutput = None,
    max_cost: judge.MaxCost = None,
    num_workers: judge.NumWorkers = 1,
    retry_failures: Annotated[bool, typer.Option("--retry-failures", help="Ask again what has failed.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what a run would ask and cost; ask nothing.")
    ] = False,
) -> None:
    """Ask a multimodal judge to rate videos.

    The rating file is a journal: a run that was interrupted, in whatever way, goes on when it is started again, and no
    answer is asked for twice. Exit code: 0 if every call has a rating, 1 if some have none, 2 if the command cannot be
    run as given.
    """
    # Imported here: the client and the readers take seconds, which `videoprefer --help` need not wait for.
    from videorm_hf.annotation import VideoAnnotator
    from videorm_hf.videoprefer.items import DIMENSIONS

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    options = judge.annotation_options(context.params, dimensions=tuple(dimension or DIMENSIONS))
    items, root = read_videos(folder)
    if output is None:
        if root is None:
            raise ValueError("a labelled set is not written into: name the rating file with --output")
        output = root / ("pairwise.jsonl" if mode == "pairwise" else "ratings.jsonl")
    annotator = VideoAnnotator(options)
    if dry_run:
        _show_forecast(annotator.forecast(items, output, retry_failures=retry_failures))
        return
    summary = annotator.run(items, root or Path(), output, retry_failures=retry_failures)
    _show(summary, options, output)
    if summary.num_left or summary.failures or summary.num_failed_before:
        raise typer.Exit(1)


def _show_forecast(forecast: "Forecast") -> None:
    source = "as earlier calls had" if forecast.is_measured else "by rule of thumb"
    failed = _failed_before(forecast.num_failed_before)
    typer.echo(f"calls: {forecast.num_calls} ({forecast.num_before} more have a record{failed})")
    typer.echo(f"tokens of requests: about {forecast.input_tokens:.0f} ({source})")
    typer.echo(f"tokens of replies: at most {forecast.max_output_tokens}")
    if forecast.max_cost is None:
        typer.echo("cost: unknown without --price-per-million-input and --price-per-million-output")
    else:
        typer.echo(f"cost: at most about {forecast.max_cost:.4g}")


def _failed_before(number: int) -> str:
    return f", {number} of them of a failure (--retry-failures asks them again)" if number else ""


def _show(summary: "AnnotationSummary", options: "AnnotationOptions", output: Path) -> None:
    rate = summary.num_answered / summary.seconds if summary.seconds else 0.0
    parts: list[Any] = [
        f"{summary.num_answered} answered in {summary.seconds:.0f} s ({rate:.2f}/s)",
        f"{summary.num_before} had a record{_failed_before(summary.num_failed_before)}",
        f"{summary.num_retries} sent again",
    ]
    if summary.failures:
        reasons = ", ".join(f"{count} {reason}" for reason, count in summary.failures.most_common())
        parts.append(f"failed: {reasons} (--retry-failures asks them again)")
    if options.has_prices:
        parts.append(f"cost of all calls so far: {summary.cost:.4g}")
    typer.echo("; ".join([*parts, f"written to {output}"]))
    if summary.first_failure is not None:
        typer.echo(f"the first that failed: {summary.first_failure[:_MAX_SHOWN]}")
    if options.mode == "pairwise":
        _show_position(options, output)
    if summary.stopped is not None:
        message = f"stopped: {summary.stopped}. {summary.num_left} calls are left; the same command goes on with them."
        typer.secho(message, fg="yellow", err=True)


def _show_position(options: "AnnotationOptions", output: Path) -> None:
    for dimension in options.dimensions:
        try:
            position = read_named_opinions(str(output), dimension).position
        except ValueError:  # no call of this dimension has a record yet
            continue
        if position is not None and position.swap_rate is not None:
            typer.echo(
                f"{dimension}: {position.num_pairs} pairs answered in both orders; swap rate {position.swap_rate:.1%} "
                f"({position.num_swapped} verdicts depend on the order and count as ties)"
            )
