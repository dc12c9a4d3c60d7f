"""`videorm evaluate`: rewards judged by people's labels, as tables, JSON, Markdown and charts."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videorm_hf.cli.reward_options import BatchSize, Device, NumFrames, NumWorkers, Resamples, Rewards, Seed, Timeout

if TYPE_CHECKING:
    from videorm_hf.evaluation.results import EvaluationReport


def evaluate(
    benchmark: Annotated[str, typer.Option(help="tvge, t2vqa_db, vbench, fetv or genai_bench.")],
    data: Annotated[Path, typer.Option(help="Where the set lies: its folder, or the file of its labels.")],
    reward: Rewards,
    output: Annotated[Path, typer.Option(help="Folder for the report and the scores.")],
    dimension: Annotated[
        list[str] | None, typer.Option(help="What people judged; can be given several times.", show_default="all")
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Also score other prompts, frames out of order and files encoded anew."),
    ] = False,
    num_frames: NumFrames = None,
    batch_size: BatchSize = 8,
    num_workers: NumWorkers = None,
    timeout: Timeout = 120.0,
    device: Device = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Judge rewards by a set that people labelled.

    `--reward column:NAME` judges a metric that the set was published with; it needs no clips. Scores are kept in
    OUTPUT/scores, and a run that was interrupted goes on. Exit code: 0 if every video was scored, 1 if some were not,
    2 if the command cannot be run as given.
    """
    # Imported here: pandas, scipy and the readers take seconds, which `videorm --help` need not wait for.
    from videorm_hf.benchmarks import get_benchmark
    from videorm_hf.benchmarks.evaluation import evaluate_rewards
    from videorm_hf.evaluation.evaluator import Bootstrap
    from videorm_hf.evaluation.video_scores import ScoringSettings

    logging.basicConfig(level=logging.WARNING)
    labelled = get_benchmark(benchmark, data)
    _check_output(output, labelled.info.title)
    report = evaluate_rewards(
        labelled,
        reward,
        output,
        dimensions=dimension,
        settings=ScoringSettings(num_frames, batch_size, num_workers, timeout, device),
        bootstrap=Bootstrap(num_resamples=resamples, seed=seed),
        robustness=robustness,
    )
    output.mkdir(parents=True, exist_ok=True)
    report.save(output / "report.json")
    (output / "report.md").write_text(_markdown(report), encoding="utf-8")
    _draw(report, output)
    _show(report, output)
    if any(result.failures for result in report.rewards):
        raise typer.Exit(1)


def _check_output(output: Path, title: str) -> None:
    """Raise for the report of another set, which would be replaced."""
    from videorm_hf.evaluation.results import EvaluationReport

    path = output / "report.json"
    if path.is_file() and (other := EvaluationReport.load(path).benchmark["title"]) != title:
        raise ValueError(f"{output} holds a report on {other}: name another folder for {title}.")


def _tables(report: "EvaluationReport") -> dict[str, list[dict[str, Any]]]:
    """Return the tables of a report by title; columns without any value and empty tables are left out."""
    from videorm_hf.evaluation import results

    tables = {
        "Agreement with people": results.accuracy_rows(report),
        "By source model": results.model_rows(report),
        "Robustness": results.robustness_rows(report),
        "Scoring": results.scoring_rows(report),
    }
    filled = {
        title: {name for row in rows for name, value in row.items() if value is not None}
        for title, rows in tables.items()
    }
    return {
        title: [{name: value for name, value in row.items() if name in filled[title]} for row in rows]
        for title, rows in tables.items()
        if rows
    }


def _markdown(report: "EvaluationReport") -> str:
    from videorm_hf.reporting.tables import markdown_table

    parts = [f"# Rewards judged on {report.benchmark['title']}", _facts(report)]
    for title, rows in _tables(report).items():
        parts += [f"## {title}", markdown_table(rows)]
    return "\n\n".join(parts) + "\n"


def _facts(report: "EvaluationReport") -> str:
    return (
        f"{report.num_items} items (licence: {report.benchmark['licence']}). Tie rule: {report.tie_rule}. The "
        "three-way accuracy also counts ties: its threshold is fitted on the same pairs, held out on the other half "
        f"of the prompts. Intervals: {report.confidence:.0%}, {report.num_resamples} bootstrap resamples of the "
        f"prompts, seed {report.seed}."
    )


# Label of a bar to its share and interval; either may be missing, which leaves a gap or no whiskers.
_Bars = dict[str, tuple[float | None, tuple[float, float] | None]]


def _draw(report: "EvaluationReport", output: Path) -> None:
    title, rewards = report.benchmark["title"], report.rewards
    agreement = {one.name: {row.dimension: (row.accuracy, row.interval) for row in one.dimensions} for one in rewards}
    checks = [(one.name, row) for one in rewards for row in one.robustness]
    heed: dict[str, _Bars] = {}
    ignore: dict[str, _Bars] = {}
    for name, row in checks:
        if row.should == "heed":
            heed.setdefault(name, {})[row.check] = (row.original_wins, row.interval)
        else:
            ignore.setdefault(name, {})[row.check] = (row.flipped, None)
    _bars(output / "accuracy.png", agreement, "pairwise accuracy, %", f"{title}: agreement with people", 50.0)
    heading = f"{title}: what a reward should heed"
    _bars(output / "robustness_heed.png", heed, "unaltered video scores higher, %", heading, 50.0)
    heading = f"{title}: what a reward should ignore"
    _bars(output / "robustness_ignore.png", ignore, "pairs whose order changes, %", heading, None)


def _bars(path: Path, series: dict[str, _Bars], ylabel: str, title: str, reference: float | None) -> None:
    """Draw shares as percentages, where there are any."""
    from videorm_hf.reporting.plots import bar_chart

    labels = list(
        dict.fromkeys(label for bars in series.values() for label, (share, _) in bars.items() if share is not None)
    )
    if not labels:
        return
    shares, whiskers = {}, {}
    for name, bars in series.items():
        known = [bars.get(label, (None, None)) for label in labels]
        shares[name] = [float("nan") if share is None else 100 * share for share, _ in known]
        if all(interval is not None for share, interval in known if share is not None):
            whiskers[name] = [(100 * ends[0], 100 * ends[1]) for _, interval in known for ends in [interval or (0, 0)]]
    bar_chart(path, labels, shares, ylabel=ylabel, title=title, intervals=whiskers, reference=reference)


# What fits a terminal: title there, table of the report, columns. report.md has all.
_SHOWN = (
    (
        "Agreement with people",
        "Agreement with people",
        ("reward", "dimension", "accuracy %", "95% interval", "ties wrong %"),
    ),
    ("Ties and ranks", "Agreement with people", ("reward", "dimension", "pairs", "3-way %", "Kendall", "Spearman")),
    ("By source model", "By source model", ("reward", "model", "wins by people %", "wins by score %", "accuracy %")),
    ("Robustness", "Robustness", ("reward", "altered", "should", "original wins %", "drift (SD)", "flipped %")),
    ("Scoring", "Scoring", ("reward", "videos scored", "ms per video")),
)


def _show(report: "EvaluationReport", output: Path) -> None:
    from rich.console import Console

    from videorm_hf.reporting.tables import print_table

    tables = _tables(report)
    for title, source, columns in _SHOWN:
        rows = tables.get(source, [])
        if title == "By source model" and rows:
            dimension = rows[-1]["dimension"]  # the pooled one
            rows, title = [row for row in rows if row["dimension"] == dimension], f"{title}, {dimension}"
        if there := [name for name in columns if any(name in row for row in rows)]:
            print_table(rows, title=title, columns=there)
    console = Console()
    console.print(_facts(report), highlight=False, markup=False)
    for row in tables["Scoring"]:
        if row.get("not scored"):
            line = f"{row['reward']}: not scored: {row['not scored']}; the first: {row['the first']}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    closing = f"All columns and dimensions: {output / 'report.md'}"
    console.print(closing, highlight=False, markup=False, soft_wrap=True)
