"""Tables of videos and prompts on disk: JSONL, CSV and Parquet in, the same with scores out."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

TABLE_FORMATS = (".jsonl", ".csv", ".parquet")
SCORE_COLUMNS = ("video", "prompt", "reward", "error", "message")

Row = dict[str, Any]
_NAMES = ("video", "prompt", "chosen", "rejected")
_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(rf"{_INTEGER.pattern}(\.[0-9]*)?([eE][+-]?[0-9]+)?")


def check_format(path: Path) -> None:
    """Refuse a file whose ending names no known table format.

    Raises:
        ValueError: If it does not.
    """
    if path.suffix not in TABLE_FORMATS:
        raise ValueError(f"{path} must end in one of {', '.join(TABLE_FORMATS)}")


def read_pairs(path: Path) -> list[Row]:
    """Read a table with the columns `video` and `prompt`; further columns are kept.

    Args:
        path (`Path`): A `.jsonl`, `.csv` or `.parquet` file.
    Returns:
        `list[dict]`: one row a pair.
    Raises:
        ValueError: If there is no column of videos or of prompts, a row has none, or a column has a result's name.
    """
    rows = read_table(path)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if rows and not {"video", "prompt"} <= set(columns):
        raise ValueError(f"{path} must have the columns video and prompt: got {', '.join(columns)}")
    for number, row in enumerate(rows, start=1):
        for column in ("video", "prompt"):
            if not isinstance(row.get(column), str) or not row[column]:
                raise ValueError(f"{path}, row {number}: {column} must be a non-empty string, got {row.get(column)!r}")
        if taken := set(row) & set(SCORE_COLUMNS[2:]):
            raise ValueError(f"{path}, row {number}: the columns {sorted(taken)} are written by scoring; rename them")
    return rows


def read_table(path: Path) -> list[Row]:
    """Read a JSONL, CSV or Parquet file as rows; missing cells are `None`.

    In a CSV file, what is written as a number is one, but for videos, prompts, ids and numbers with leading zeros:
    those are names.
    """
    check_format(path)
    if path.suffix == ".jsonl":
        return read_json_lines(path)
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    try:
        rows = pd.read_csv(path, keep_default_na=False, dtype=str).to_dict("records")
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{path} is empty: expected a line with the names of its columns.") from error
    return [
        {name: cell or None if name in _NAMES or name.endswith("_id") else _number(cell) for name, cell in row.items()}
        for row in rows
    ]


def _number(cell: str) -> str | int | float | None:
    """Return the number that a cell is written as, or its text; nothing for an empty one."""
    if not _NUMBER.fullmatch(cell):
        return cell or None
    return int(cell) if _INTEGER.fullmatch(cell) else float(cell)


def read_json_lines(path: Path) -> list[Row]:
    """Read a file with an object on each line, whatever the file's ending; anything else is a `ValueError`."""
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number} must be an object, got {type(row).__name__}")
            rows.append(row)
    return rows


def write_table(rows: list[Row], path: Path) -> None:
    """Write rows as CSV or Parquet, whole or not at all.

    Args:
        rows (`list[dict]`): The rows.
        path (`Path`): A `.csv` or `.parquet` file.
    """
    extra = [column for column in dict.fromkeys(key for row in rows for key in row) if column not in SCORE_COLUMNS]
    frame = pd.DataFrame(rows, columns=[*SCORE_COLUMNS, *extra])
    frame["reward"] = frame["reward"].astype("float64")
    frame = frame.astype({column: "string" for column in ("video", "prompt", "error", "message")})
    unfinished = path.with_name(path.name + ".tmp")
    if path.suffix == ".csv":
        frame.to_csv(unfinished, index=False)
    else:
        frame.to_parquet(unfinished, index=False)
    os.replace(unfinished, path)
