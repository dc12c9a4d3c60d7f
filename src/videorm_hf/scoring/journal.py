"""The output of a scoring run that can be interrupted at any moment and continued.

Rows are appended to JSONL as they are scored: to the output itself, or beside a CSV or Parquet file, which is written
when the last row is there. The settings that the scores depend on lie in `<output>.settings.json`.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from videorm_hf.scoring.tables import Row, check_format, read_table, write_table


def weights_fingerprint(model: torch.nn.Module) -> str:
    """Hash a model's parameters and buffers, so that a run is never continued with other weights.

    Args:
        model (`torch.nn.Module`): The model.
    Returns:
        `str`: hexadecimal SHA-256.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def begin_output(
    output: Path, settings: dict[str, Any], pairs: list[Row], resume: bool = False, overwrite: bool = False
) -> list[Row]:
    """Prepare an output for its next row.

    Args:
        output (`Path`): A `.jsonl`, `.csv` or `.parquet` file.
        settings (`dict`): What the scores depend on.
        pairs (`list[dict]`): All rows of the input.
        resume (`bool`, defaults to `False`): Keep the rows that are there.
        overwrite (`bool`, defaults to `False`): Drop the rows that are there.
    Returns:
        `list[dict]`: the rows that are there already, the first ones of the input.
    Raises:
        ValueError: If the output exists and may not be touched, or was begun with other settings or another input.
    """
    check_format(output)
    rows: list[Row] = []
    if (output.exists() or _lines_file(output).exists()) and not overwrite:
        if not resume:
            raise ValueError(f"{output} was begun or finished before: continue it (resume) or replace it (overwrite)")
        _check_settings(output, settings)
        rows = _read_rows(output)
        _check_beginning(output, rows, pairs)
    output.parent.mkdir(parents=True, exist_ok=True)
    _settings_file(output).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    unfinished = output.with_name(output.name + ".tmp")
    unfinished.write_text("".join(map(_line, rows)), encoding="utf-8")
    os.replace(unfinished, _lines_file(output))
    return rows


def append_rows(output: Path, rows: list[Row]) -> None:
    """Add scored rows; they survive whatever interrupts the run afterwards.

    Args:
        output (`Path`): An output that was begun.
        rows (`list[dict]`): The next rows.
    """
    with _lines_file(output).open("a", encoding="utf-8") as file:
        file.writelines(map(_line, rows))


def finish_output(output: Path) -> list[Row]:
    """Give the output its format, once all rows are there.

    Args:
        output (`Path`): An output that was begun.
    Returns:
        `list[dict]`: all its rows.
    """
    lines = _lines_file(output)
    rows = read_table(lines)
    if lines != output:
        write_table(rows, output)
        lines.unlink()
    return rows


def _lines_file(output: Path) -> Path:
    return output if output.suffix == ".jsonl" else output.with_name(output.name + ".partial.jsonl")


def _settings_file(output: Path) -> Path:
    return output.with_name(output.name + ".settings.json")


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False, default=str) + "\n"  # dates of a Parquet column become text


def _check_settings(output: Path, settings: dict[str, Any]) -> None:
    if not _settings_file(output).exists():
        raise ValueError(f"{output} cannot be continued: {_settings_file(output).name} is not beside it")
    then = json.loads(_settings_file(output).read_text(encoding="utf-8"))
    changed = sorted(key for key in settings.keys() | then.keys() if settings.get(key) != then.get(key))
    if changed:
        differences = ", ".join(f"{key} was {then.get(key)}, is {settings.get(key)}" for key in changed)
        raise ValueError(f"{output} cannot be continued, it was begun with other settings: {differences}")


def _read_rows(output: Path) -> list[Row]:
    """Read the rows that are there, but for a last line that an interruption tore."""
    lines = _lines_file(output)
    if not lines.exists():
        return read_table(output)
    content = lines.read_bytes()
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def _check_beginning(output: Path, rows: list[Row], pairs: list[Row]) -> None:
    if len(rows) > len(pairs):
        raise ValueError(f"{output} cannot be continued: it has {len(rows)} rows, the input has {len(pairs)}")
    for number, (row, pair) in enumerate(zip(rows, pairs, strict=False), start=1):
        if (row.get("video"), row.get("prompt")) != (pair["video"], pair["prompt"]):
            raise ValueError(f"{output} cannot be continued: its row {number} is not for the input's row {number}")
