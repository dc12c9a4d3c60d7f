"""JSON Lines read with suspicion: every line is an object, or the reason why it is not."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videorm_hf.videoprefer.bad_data import Problem, ProblemKind

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class JsonLine:
    """One line that is not blank.

    Args:
        place (`str`): File name and line number.
        offset (`int`): Byte at which the line begins.
        record (`dict`, *optional*): The object; of a line with invalid Unicode, what could still be read.
        problem ([`Problem`], *optional*): Why the line must not be used.
    """

    place: str
    offset: int
    record: dict[str, Any] | None
    problem: Problem | None

    @property
    def item_id(self) -> str | None:
        """The record's `item_id`, if it has one."""
        return _item_id(self.record)


def read_lines(path: Path) -> Iterator[JsonLine]:
    """Read a file line by line.

    Args:
        path (`Path`): A JSONL file.

    Yields:
        [`JsonLine`]: every line that is not blank.
    """
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _parse(line, f"{path.name}:{number}", offset)
            offset += len(line)


def read_lines_at(path: Path, numbers_and_offsets: Iterable[tuple[int, int]]) -> Iterator[JsonLine]:
    """Read some lines again.

    Args:
        path (`Path`): A JSONL file.
        numbers_and_offsets (`Iterable[tuple[int, int]]`): Line number, and the byte at which the line begins.

    Yields:
        [`JsonLine`]: each line.
    """
    with path.open("rb") as file:
        for number, offset in numbers_and_offsets:
            file.seek(offset)
            yield _parse(file.readline(), f"{path.name}:{number}", offset)


def write_lines(records: Iterator[dict[str, Any]], path: Path) -> None:
    """Write a JSONL file, whole or not at all.

    Args:
        records (`Iterator[dict]`): One for each line.
        path (`Path`): The file, replaced if it exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    with unfinished.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    os.replace(unfinished, path)


def _parse(line: bytes, place: str, offset: int) -> JsonLine:
    def bad(kind: ProblemKind, message: str, record: dict[str, Any] | None = None) -> JsonLine:
        return JsonLine(place, offset, record, Problem(kind, place, message, _item_id(record)))

    try:
        record = json.loads(line.decode("utf-8", errors="replace"))
    except (ValueError, RecursionError) as error:
        return bad("half_written_line", f"the line is not JSON: {error}")
    if not isinstance(record, dict):
        return bad("wrong_field", f"expected an object, got {type(record).__name__}")
    try:
        line.decode("utf-8")
        if _SURROGATE_ESCAPE.search(line):
            json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        return bad("invalid_unicode", f"the line is not valid Unicode: {error}", record)
    return JsonLine(place, offset, record, None)


def _item_id(record: dict[str, Any] | None) -> str | None:
    item_id = (record or {}).get("item_id")
    return item_id if isinstance(item_id, str) else None
