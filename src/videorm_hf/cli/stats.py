"""`videoprefer stats`: what is in a data set, beside the sets that people labelled: a table, JSON and charts."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videorm_hf.cli import dataset_options as options

if TYPE_CHECKING:
    from videorm_hf.benchmarks.benchmark import Benchmark
    from videorm_hf.videoprefer.statistics import DatasetStatistics


def stats(
    folder: options.Folder,
    output: Annotated[
        Path | None, typer.Option(help="Where to write JSON and charts.", show_default="FOLDER/stats")
    ] = None,
    ratings: options.Ratings = None,
    candidates: options.Candidates = 4,
    compare: Annotated[
        list[str] | None, typer.Option(help="A human-labelled set as NAME=PATH, such as fetv=PATH; may be repeated.")
    ] = None,
    strict: options.Strict = False,
) -> None:
    """Count items, videos, pairs, ties and wins.

    Videos only have to exist; `videoprefer build` also decodes them.
    Exit code: 0 if every item was counted, 1 if something was set aside, 2 if the command cannot be run as given.
    """
    from videorm_hf.benchmarks import get_benchmark
    from videorm_hf.reporting.tables import print_table
    from videorm_hf.videoprefer.bad_data import Report
    from videorm_hf.videoprefer.statistics import compute_statistics
    from videorm_hf.videoprefer.working_folder import read_items

    logging.basicConfig(level=logging.WARNING)
    output = folder / "stats" if output is None else output
    report = Report()
    items = read_items(folder, ratings, num_candidates=candidates or None, report=report, strict=strict)
    facts = compute_statistics(items)
    if not facts.num_items:
        raise ValueError(f"{folder} has no usable item.\n{report.describe()}")
    rows, agreement = facts.rows(folder.name), facts.agreement_rows(folder.name)
    for name, path in options.named_values(compare):
        more_rows, more_agreement = _rows_of(name, get_benchmark(name, path))
        rows, agreement = rows + more_rows, agreement + more_agreement
    print_table(rows, title="Pairs and ties")
    print_table(agreement, title="Agreement of dimensions")
    wins = [
        {
            "dimension": dimension,
            "model": model,
            "won": counted.wins[model],
            "lost": counted.losses[model],
            "rate": rate,
        }
        for dimension, counted in facts.dimensions.items()
        for model, rate in counted.win_rates.items()
    ]
    print_table(wins, title="Wins against other models, ties left out")
    output.mkdir(parents=True, exist_ok=True)
    record = facts.to_dict() | {"sets": rows, "agreement_of_sets": agreement}
    (output / "statistics.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    _draw(facts, rows, output)
    typer.echo(f"written to {output}")
    options.finish(report)


def _rows_of(name: str, benchmark: "Benchmark") -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a labelled set's rows: of ratings as ours, of votes with the votes as pairs."""
    from videorm_hf.evaluation.metrics import are_tied
    from videorm_hf.videoprefer.statistics import compute_statistics

    facts = compute_statistics(benchmark.items)
    if not benchmark.votes:
        return facts.rows(name), facts.agreement_rows(name)
    rows = []
    for dimension in benchmark.dimensions:
        votes = benchmark.pairs(dimension)
        ties = sum(bool(are_tied(vote.human_a, vote.human_b)) for vote in votes)
        row = {"set": name, "items": facts.num_items, "videos": facts.num_videos, "dimension": dimension}
        rows.append(row | {"pairs": len(votes) - ties, "ties": ties, "tie rate": ties / len(votes)})
    return rows, []


def _draw(facts: "DatasetStatistics", rows: list[dict[str, Any]], output: Path) -> None:
    from videorm_hf.reporting.plots import bar_chart, histograms

    counts = {
        name: {rating: counted.ratings[rating] for rating in range(1, 6)}
        for name, counted in facts.dimensions.items()
        if counted.ratings
    }
    if counts:
        histograms(output / "ratings.png", counts, xlabel="rating", title="Ratings")
    models = sorted({model for counted in facts.dimensions.values() for model in counted.win_rates})
    if models:
        rates = {
            name: [counted.win_rates.get(model, 0.0) for model in models] for name, counted in facts.dimensions.items()
        }
        title = "Wins against other models, ties left out"
        bar_chart(output / "win_rates.png", models, rates, ylabel="share won", title=title, reference=0.5)
    labels = [f"{row['set']}: {row['dimension']}" for row in rows]
    if labels:
        ties = [row["tie rate"] or 0.0 for row in rows]
        bar_chart(output / "ties.png", labels, {"tie rate": ties}, ylabel="share of pairs", title="Tied pairs")
