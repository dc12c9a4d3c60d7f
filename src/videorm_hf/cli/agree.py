"""`videoprefer agree`: how far a judge agrees with people, or with another judge."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videorm_hf.cli.rated_videos import open_set, read_named_opinions, read_videos, source_models

if TYPE_CHECKING:
    from videorm_hf.annotation.agreement import Agreement, Estimate
    from videorm_hf.annotation.opinions import Opinions


def agree(
    judge: Annotated[str, typer.Argument(help="A rating file, or SET:PATH#METRIC for a labelled set's metric.")],
    reference: Annotated[str, typer.Argument(help="People as SET:PATH, such as tvge:DATA, or a rating file.")],
    dimension: Annotated[
        str, typer.Option(help="What the judge judged; mean for the mean of what both have judged.")
    ] = "mean",
    reference_dimension: Annotated[
        str | None, typer.Option(help="What the reference judged.", show_default="the same")
    ] = None,
    folder: Annotated[
        str | None,
        typer.Option(help="Working folder, for the figures by source model.", show_default="the labelled set"),
    ] = None,
    score_ties: Annotated[
        str, typer.Option(help="What a tie of the judge counts: half, wrong, or drop the pair.", metavar="RULE")
    ] = "half",
    output: Annotated[Path | None, typer.Option(help="Folder for agreement.json and the figures.")] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap resamples of the items.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Compare a judge with people, or with another judge, on the videos that both have judged.

    Exit code: 0 if they could be compared, 2 if not.
    """
    # Imported here: scikit-learn and the readers take seconds, which `videoprefer --help` need not wait for.
    from videorm_hf.annotation.agreement import measure_agreement

    agreement = measure_agreement(
        *_opinions(judge, reference, dimension, reference_dimension or dimension),
        _models(judge, reference, folder),
        score_ties=score_ties,  # type: ignore[arg-type]  # checked by the metric
        num_resamples=resamples,
        seed=seed,
    )
    if output is not None:
        _write(agreement, output)
    _show(agreement)
    if output is not None:
        typer.echo(f"written to {output}")


def agreement_row(agreement: "Agreement") -> dict[str, Any]:
    """Return the figures of an agreement as one row, the intervals as text."""
    figures = {
        "pairwise accuracy": agreement.accuracy,
        "Kendall's tau-b": agreement.kendall_tau,
        "Spearman": agreement.spearman,
        "Cohen's kappa": agreement.kappa,
        "weighted kappa": agreement.weighted_kappa,
    }
    return {name: _text(estimate) for name, estimate in figures.items() if estimate.value is not None}


def _opinions(judge: str, reference: str, dimension: str, reference_dimension: str) -> "tuple[Opinions, Opinions]":
    """Read both sides; two means are of the dimensions that both sides have."""
    from videorm_hf.annotation.opinions import mean_opinions
    from videorm_hf.videoprefer.pairs import MEAN

    are_means = dimension == reference_dimension == MEAN
    of_judge, of_reference = (_dimensions(spec) if are_means else [] for spec in (judge, reference))
    if not of_judge or not of_reference:
        return read_named_opinions(judge, dimension), read_named_opinions(reference, reference_dimension)
    shared = [name for name in of_judge if name in of_reference]
    if not shared:
        raise ValueError(
            f"{judge} has {', '.join(of_judge)}, {reference} has {', '.join(of_reference)}, and none is the same: "
            "name one of each with --dimension and --reference-dimension."
        )
    if len(shared) == 1:
        return read_named_opinions(judge, shared[0]), read_named_opinions(reference, shared[0])
    first, second = (
        mean_opinions([read_named_opinions(spec, name) for name in shared]) for spec in (judge, reference)
    )
    return first, second


def _dimensions(spec: str) -> list[str]:
    """Return what was judged, but for pooled votes; nothing for a metric, or a file that states a mean itself."""
    from videorm_hf.annotation.opinions import read_dimensions
    from videorm_hf.benchmarks.benchmark import ALL
    from videorm_hf.videoprefer.pairs import MEAN

    labelled = open_set(spec)
    if labelled is None:
        names = read_dimensions(Path(spec))
        return [] if MEAN in names else names
    return [] if "#" in spec else [name for name in labelled.dimensions if name not in (ALL, MEAN)]


def _models(judge: str, reference: str, folder: str | None) -> dict[tuple[str, str], str]:
    named = folder or next((spec for spec in (reference, judge) if open_set(spec) is not None), None)
    return {} if named is None else source_models(read_videos(named)[0])


def _show(agreement: "Agreement") -> None:
    from videorm_hf.reporting.tables import print_table

    typer.echo(
        f"{agreement.judge} ({agreement.judge_dimension}) against {agreement.reference} "
        f"({agreement.reference_dimension}): {agreement.num_items} items, {agreement.num_videos} videos rated by both"
    )
    typer.echo(
        f"Tie rule: {agreement.tie_rule}. {agreement.num_pairs} pairs count; {agreement.num_reference_ties} are ties "
        f"of the reference, {agreement.num_judge_ties} of the judge."
    )
    print_table([agreement_row(agreement)], title="Agreement (95 % intervals over items)")
    if agreement.by_model:
        print_table([_model_row(row) for row in agreement.by_model], title="By source model")
    if agreement.confusion is not None:
        rows = [
            {"reference": step, **{f"judge {column + 1}": count for column, count in enumerate(counts)}}
            for step, counts in enumerate(agreement.confusion, start=1)
        ]
        print_table(rows, title="Confusion, ratings rounded to whole steps")
    if agreement.position is not None and agreement.position.swap_rate is not None:
        first = agreement.position.first_share
        typer.echo(
            f"Position bias: {agreement.position.swap_rate:.1%} of {agreement.position.num_pairs} verdicts change "
            f"with the order and count as ties; the video shown first wins "
            f"{'no decided verdict' if first is None else f'{first:.1%} of the decided ones'}."
        )
    if agreement.judge_failures:
        typer.echo("Not used, failed: " + ", ".join(f"{n} {why}" for why, n in agreement.judge_failures.items()))


def _write(agreement: "Agreement", output: Path) -> None:
    from videorm_hf.reporting.plots import bar_chart, heat_map

    output.mkdir(parents=True, exist_ok=True)
    content = json.dumps(agreement.to_dict(), indent=2, ensure_ascii=False)
    (output / "agreement.json").write_text(content + "\n", encoding="utf-8")
    bars = [("all", agreement.accuracy), *((row.model, row.accuracy) for row in agreement.by_model)]
    filled = [(name, estimate) for name, estimate in bars if estimate.value is not None]
    bar_chart(
        output / "accuracy.png",
        [name for name, _ in filled],
        {agreement.judge: [100 * (estimate.value or 0.0) for _, estimate in filled]},
        intervals={agreement.judge: [_percent(estimate) for _, estimate in filled]},
        ylabel="pairwise accuracy, %",
        title=f"{agreement.judge} against {agreement.reference}",
        reference=50.0,
    )
    if agreement.confusion is not None:
        steps = [str(step) for step in range(1, 6)]
        heat_map(
            output / "confusion.png",
            agreement.confusion,
            steps,
            steps,
            xlabel=agreement.judge,
            ylabel=agreement.reference,
            title="Ratings, rounded to whole steps",
        )


def _model_row(row: Any) -> dict[str, Any]:
    return {
        "model": row.model,
        "videos": row.num_videos,
        "judge": row.judge_mean,
        "reference": row.reference_mean,
        "pairs": row.num_pairs,
        "accuracy": _text(row.accuracy),
    }


def _text(estimate: "Estimate") -> str:
    if estimate.value is None:
        return ""
    interval = "" if estimate.interval is None else " ({:.3f} to {:.3f})".format(*estimate.interval)
    return f"{estimate.value:.3f}{interval}"


def _percent(estimate: "Estimate") -> tuple[float, float]:
    low, high = estimate.interval or (estimate.value or 0.0, estimate.value or 0.0)
    return 100 * low, 100 * high
