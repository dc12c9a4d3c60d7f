"""Rows of facts as a Markdown table and as a table on the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]

_MIN_TEXT_WIDTH = 8


def markdown_table(rows: Sequence[Row], columns: Sequence[str] | None = None) -> str:
    """Render rows as a Markdown table.

    Args:
        rows (`Sequence[Mapping[str, Any]]`): One mapping a row; a missing or `None` value is an empty cell.
        columns (`Sequence[str]`, *optional*): Which columns, in which order. Defaults to all, as they first appear.

    Returns:
        `str`: the table, without a line end. Floats stand with four significant digits, bars in text are escaped.
    """
    columns = _columns(rows, columns)
    cells = [[_cell(row.get(name)).replace("|", r"\|") for name in columns] for row in rows]
    alignment = ["right" if _is_numeric(rows, name) else "left" for name in columns]
    return pd.DataFrame(cells, columns=columns).to_markdown(index=False, disable_numparse=True, colalign=alignment)


def print_table(rows: Sequence[Row], title: str | None = None, columns: Sequence[str] | None = None) -> None:
    """Print rows on the terminal; see [`markdown_table`] for rows and columns.

    Where they do not fit, text and the names of columns are folded; numbers stay whole, and no column is cut off.
    """
    columns = _columns(rows, columns)
    table = Table(title=title)
    for name in columns:
        numeric = _is_numeric(rows, name)
        longest = max((len(_cell(row.get(name))) for row in rows), default=0)
        width = longest if numeric else min(longest, _MIN_TEXT_WIDTH)
        table.add_column(Text(name), justify="right" if numeric else "left", min_width=width, overflow="fold")
    for row in rows:
        # Text: a prompt such as "[bold]" is shown, not obeyed.
        table.add_row(*(Text(_cell(row.get(name))) for name in columns))
    Console().print(table, crop=False)


def counted(number: int, noun: str) -> str:
    """Put a number before a noun.

    Args:
        number (`int`): How many.
        noun (`str`): Of one.

    Returns:
        `str`: such as `"1 video"` or `"2 videos"`.
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _columns(rows: Sequence[Row], columns: Sequence[str] | None) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row)) if columns is None else list(columns)


def _is_numeric(rows: Sequence[Row], name: str) -> bool:
    values = [row[name] for row in rows if row.get(name) is not None]
    return bool(values) and all(isinstance(value, (int, float)) for value in values)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("\n", " ")
