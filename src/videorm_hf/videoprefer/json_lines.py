"""JSON Lines read with suspicion: every line is an object, or the reason why it is not."""

import hashlib
import json
import os
import re
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from videorm_hf.videoprefer.bad_data import Problem, ProblemKind

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class JsonLine:
    """One line that is not blank.

    Args:
        file (`str`): File name.
        number (`int`): Line number, from 1.
        offset (`int`): Byte at which the line begins.
        record (`dict`, *optional*): The object; of a line with invalid Unicode, what could still be read.
        problem ([`Problem`], *optional*): Why the line must not be used.
    """

    file: str
    number: int
    offset: int
    record: dict[str, Any] | None
    problem: Problem | None

    @property
    def place(self) -> str:
        """File name and line number."""
        return f"{self.file}:{self.number}"

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
                yield _parse(line, path.name, number, offset)
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
            yield _parse(file.readline(), path.name, number, offset)


class LineIndex:
    """Where the lines of each item lie in a file: 24 bytes a line, however long ids and lines are.

    Args:
        path (`Path`): A JSONL file.
        lines (`Iterable[JsonLine]`): Its lines; those without an `item_id` are passed over.
    """

    def __init__(self, path: Path, lines: Iterable[JsonLine]) -> None:
        self.path = path
        entries = array("q")
        for line in lines:
            if line.item_id is not None:
                entries.extend((text_key(line.item_id), line.number, line.offset))
        table = np.asarray(entries).reshape(-1, 3)
        order = np.argsort(table[:, 0], kind="stable")
        self._keys, self._places = table[order, 0], table[order, 1:]

    def lines(self, item_id: str) -> list[JsonLine]:
        """Read the lines of an item again.

        Args:
            item_id (`str`): The item.

        Returns:
            `list[JsonLine]`: in the order of the file.
        """
        first, end = self._range(item_id)
        found = self._read(first, end) if first < end else ()
        return [line for line in found if line.item_id == item_id]

    def count(self, item_id: str) -> int:
        """Return the number of lines of an item that is in the file."""
        first, end = self._range(item_id)
        return 1 if end - first == 1 else len(self.lines(item_id))

    def not_in(self, other: "LineIndex") -> Iterator[tuple[JsonLine, int]]:
        """Read the first line of each item that another file does not have.

        Args:
            other ([`LineIndex`]): Of the other file.

        Yields:
            `tuple[JsonLine, int]`: the line, and the number of the item's lines.
        """
        starts = np.flatnonzero(np.diff(self._keys, prepend=~self._keys[:1]))
        ends = np.append(starts[1:], len(self._keys))
        is_absent = ~np.isin(self._keys[starts], other._keys)
        for start, end in zip(starts[is_absent].tolist(), ends[is_absent].tolist(), strict=True):
            [line] = self._read(start, start + 1)
            yield line, end - start

    def _range(self, item_id: str) -> tuple[int, int]:
        key = text_key(item_id)
        return int(self._keys.searchsorted(key, "left")), int(self._keys.searchsorted(key, "right"))

    def _read(self, first: int, end: int) -> Iterator[JsonLine]:
        return read_lines_at(self.path, self._places[first:end].tolist())


def text_key(text: str) -> int:
    """Return a 64-bit number for a text, to keep many of them small; the same in every process."""
    digest = hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


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


def _parse(line: bytes, file: str, number: int, offset: int) -> JsonLine:
    def bad(kind: ProblemKind, message: str, record: dict[str, Any] | None = None) -> JsonLine:
        problem = Problem(kind, f"{file}:{number}", message, _item_id(record))
        return JsonLine(file, number, offset, record, problem)

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
    return JsonLine(file, number, offset, record, None)


def _item_id(record: dict[str, Any] | None) -> str | None:
    item_id = (record or {}).get("item_id")
    return item_id if isinstance(item_id, str) else None
