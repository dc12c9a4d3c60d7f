"""Facts as PNG figures; every function draws one file and computes nothing."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Interval = tuple[float, float]
_PATH = str | os.PathLike[str]
# So many measured places at most are named on an axis one by one.
_MAX_TICKS = 12
_HEIGHT = 4.2  # inches


def bar_chart(
    path: _PATH,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    ylabel: str,
    title: str,
    intervals: Mapping[str, Sequence[Interval]] | None = None,
    reference: float | None = None,
    colors: Mapping[str, str] | None = None,
    narrow: bool = False,
) -> None:
    """Draw groups of bars side by side.

    Args:
        path (`str` or `os.PathLike`): The PNG to write.
        labels (`Sequence[str]`): One group of bars each.
        series (`Mapping[str, Sequence[float]]`): Name of a series to one value a label.
        ylabel (`str`): What the values are, with their unit.
        title (`str`): Over the figure.
        intervals (`Mapping[str, Sequence[tuple[float, float]]]`, *optional*): Of a series, the ends of its whiskers.
        reference (`float`, *optional*): Where a dashed line is drawn, such as chance.
        colors (`Mapping[str, str]`, *optional*): Of a series, its colour; matplotlib's own by default.
        narrow (`bool`): Small, so that its words can be read on a phone, with the legend below.
    """
    width = 1.5 + 0.35 * len(labels) * max(len(series), 2)
    width, height = (max(3.6, width), 3.2) if narrow else (max(5.0, width), _HEIGHT)
    with _figure(path, title, width=width, height=height) as axes:
        draw_bars(axes, labels, series, ylabel=ylabel, intervals=intervals, reference=reference, colors=colors)
        if narrow:
            axes.figure.legend(loc="outside lower center", ncols=max(len(series), 1), frameon=False)
        else:
            _legend(axes, len(series))


def draw_bars(
    axes: Axes,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    ylabel: str,
    intervals: Mapping[str, Sequence[Interval]] | None = None,
    reference: float | None = None,
    colors: Mapping[str, str] | None = None,
) -> None:
    """Draw groups of bars into axes, as [`bar_chart`] does."""
    width = 0.8 / max(len(series), 1)
    for number, (name, values) in enumerate(series.items()):
        places = [place + (number - (len(series) - 1) / 2) * width for place in range(len(labels))]
        whiskers, color = _whiskers(values, (intervals or {}).get(name)), (colors or {}).get(name)
        axes.bar(places, values, width, label=name, yerr=whiskers, capsize=3, color=color)
    if reference is not None:
        axes.axhline(reference, color="0.4", linestyle="--", linewidth=1)
    inches = axes.bbox.width / axes.figure.dpi / max(len(labels), 1)
    turned = 0.085 * max((len(line) for label in labels for line in label.split("\n")), default=0) > inches
    axes.set_xticks(range(len(labels)), labels, rotation=30 if turned else 0, ha="right" if turned else "center")
    axes.set_ylabel(ylabel)


def line_chart(
    path: _PATH,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    intervals: Mapping[str, Sequence[Interval]] | None = None,
) -> None:
    """Draw curves.

    Args:
        path (`str` or `os.PathLike`): The PNG to write.
        series (`Mapping[str, tuple[Sequence[float], Sequence[float]]]`): Name of a curve to its xs and ys.
        xlabel (`str`): What the xs are.
        ylabel (`str`): What the ys are.
        title (`str`): Over the figure.
        intervals (`Mapping[str, Sequence[tuple[float, float]]]`, *optional*): Of a curve, the ends of its band.
    """
    with _figure(path, title) as axes:
        draw_lines(axes, series, xlabel=xlabel, ylabel=ylabel, intervals=intervals)
        _legend(axes, len(series))


def draw_lines(
    axes: Axes,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    intervals: Mapping[str, Sequence[Interval]] | None = None,
) -> None:
    """Draw curves into axes, as [`line_chart`] does."""
    for name, (xs, ys) in series.items():
        (line,) = axes.plot(xs, ys, marker="o", markersize=4, label=name)
        band = (intervals or {}).get(name)
        if band is not None:
            axes.fill_between(
                xs, [low for low, _ in band], [high for _, high in band], color=line.get_color(), alpha=0.2
            )
    measured = sorted({x for xs, _ in series.values() for x in xs})
    if len(measured) <= _MAX_TICKS:
        axes.set_xticks(measured, [f"{x:g}" for x in measured])
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)


def chart_row(path: _PATH, panels: Mapping[str, Callable[[Axes], None]], *, title: str) -> None:
    """Draw several charts side by side.

    Args:
        path (`str` or `os.PathLike`): The PNG to write.
        panels (`Mapping[str, Callable]`): Title of a panel to what draws into its axes, such as [`draw_bars`].
        title (`str`): Over the figure.
    """
    with _figure(path, title, width=5.0 * len(panels), panels=len(panels)) as all_axes:
        for axes, (name, draw) in zip(all_axes, panels.items(), strict=True):
            draw(axes)
            num_series = len(axes.get_legend_handles_labels()[1])
            columns = num_series if num_series <= 3 else 2
            axes.set_title(name, fontsize=10, pad=6 + (16 * ceil(num_series / columns) if num_series > 1 else 0))
            if num_series > 1:  # between title and axes, where it hides nothing
                place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False}
                axes.legend(fontsize=8, ncols=columns, columnspacing=1.0, handlelength=1.5, **place)


def histograms(path: _PATH, counts: Mapping[str, Mapping[Any, int]], *, xlabel: str, title: str) -> None:
    """Draw one histogram of named counts beside the other.

    Args:
        path (`str` or `os.PathLike`): The PNG to write.
        counts (`Mapping[str, Mapping[Any, int]]`): Name of a histogram to count by value, in order.
        xlabel (`str`): What the values are.
        title (`str`): Over the figure.
    """
    labels = list(dict.fromkeys(str(value) for histogram in counts.values() for value in histogram))
    by_label = {name: {str(value): count for value, count in histogram.items()} for name, histogram in counts.items()}
    series = {name: [histogram.get(label, 0) for label in labels] for name, histogram in by_label.items()}
    with _figure(path, title, width=max(5.0, 3.0 * len(series)), panels=max(len(series), 1)) as panels:
        for axes, (name, values) in zip(panels, series.items(), strict=False):
            axes.bar(labels, values)
            axes.set_title(name, fontsize=10)
            axes.set_xlabel(xlabel)
        panels[0].set_ylabel("count")


def heat_map(
    path: _PATH,
    matrix: Sequence[Sequence[float]],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
) -> None:
    """Draw a matrix with its values, such as a confusion matrix; rows run downwards.

    Args:
        path (`str` or `os.PathLike`): The PNG to write.
        matrix (`Sequence[Sequence[float]]`): One sequence a row.
        row_labels (`Sequence[str]`): One a row.
        column_labels (`Sequence[str]`): One a column.
        xlabel (`str`): What the columns are.
        ylabel (`str`): What the rows are.
        title (`str`): Over the figure.
    """
    with _figure(path, title) as axes:
        image = axes.imshow(matrix, cmap="Blues")
        axes.set_xticks(range(len(column_labels)), column_labels)
        axes.set_yticks(range(len(row_labels)), row_labels)
        highest = max((value for row in matrix for value in row), default=0)
        for y, row in enumerate(matrix):
            for x, value in enumerate(row):
                colour = "white" if value > 0.6 * highest else "black"
                axes.text(x, y, f"{value:.4g}", ha="center", va="center", color=colour)
        axes.figure.colorbar(image, ax=axes)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)


@contextmanager
def _figure(
    path: _PATH, title: str, width: float = 6.4, panels: int | None = None, height: float = _HEIGHT
) -> Iterator[Any]:
    """Yield axes (a list of them where `panels` is given) and write the figure at the end."""
    # Figures of our own, apart from pyplot: no window system, and no state shared with the user's figures.
    figure = Figure(figsize=(min(width, 24.0), height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels or 1, squeeze=False)[0]
    figure.suptitle(title)
    yield axes[0] if panels is None else list(axes)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _whiskers(values: Sequence[float], intervals: Sequence[Interval] | None) -> list[list[float]] | None:
    if intervals is None:
        return None
    pairs = list(zip(values, intervals, strict=True))
    return [
        [max(0.0, value - low) for value, (low, _) in pairs],
        [max(0.0, high - value) for value, (_, high) in pairs],
    ]


def _legend(axes: Axes, num_series: int) -> None:
    if num_series > 1:
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
