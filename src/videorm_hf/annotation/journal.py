"""The journal of an annotation run, which is the rating file: one JSON line a call, only ever appended to.

A record is handed to the operating system whole before anything else happens with the reply, so that killing the
process loses none; it is forced to the disk with the first record of each second, so that a power cut loses those
since then. What an interrupted write leaves at the end is mended when the journal is opened next.
"""

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

Record = dict[str, Any]
_SYNC_SECONDS = 1.0


class JournalError(ValueError):
    """A journal that cannot be read, written or shared."""


class Journal:
    """A journal opened for appending, by one run at a time.

    Args:
        path (`Path`): A `.jsonl` file, made if it does not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(f"{path}.lock", timeout=0)
        self._synced_at = 0.0

    def __enter__(self) -> "Journal":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise JournalError(f"Another run is writing {self.path}: wait for it, or name another output.") from None
        try:
            _mend(self.path)
            self._file = self.path.open("ab", buffering=0)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
            self._lock.release()

    def append(self, record: Record) -> None:
        """Add a record as a whole or, if the disk is full, not at all.

        Args:
            record (`dict`): What a call came to.

        Raises:
            JournalError: If it cannot be written; the journal is then as it was before.
        """
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        size = os.fstat(self._file.fileno()).st_size
        try:
            left = memoryview(line)
            while left:  # a full disk takes a part first
                left = left[self._file.write(left) :]
            if time.monotonic() - self._synced_at > _SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced_at = time.monotonic()
        except OSError as error:
            os.truncate(self.path, size)
            raise JournalError(
                f"{self.path} cannot be written: {error.strerror}. Earlier records are in it; make room and run again."
            ) from error


def read_records(path: Path) -> Iterator[Record]:
    """Read a journal's records, but for a last line that an interruption tore.

    Args:
        path (`Path`): The journal; one that does not exist has no records.

    Yields:
        `dict`: each record, in the order they were written.

    Raises:
        JournalError: If a line before the last is no record.
    """
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            record = _parse(line)
            if record is not None:
                yield record
            elif line.endswith(b"\n") and line.strip():
                raise JournalError(f"{path}, line {number} is no record: {line[:80]!r}. Mend or remove the line.")


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _mend(path: Path) -> None:
    """End the last line, or drop it if it was torn; a file that is no journal is left as it is."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        first = file.readline()
        size = file.seek(0, os.SEEK_END)
        start = _start_of_last_line(file, size)
        file.seek(start)
        line = file.read()
        if not line:
            return
        if _parse(first) is None and not (start == 0 and b'{"'.startswith(line[:2])):  # nor a first record, torn
            raise JournalError(f"{path} is no journal; name another output.")
        if _parse(line) is not None:
            file.write(b"\n")
            return
        file.truncate(start)
    logger.warning(
        "%s ended in %d bytes of a record that an interruption cut short; they are removed, its call is asked again.",
        path,
        len(line),
    )


def _start_of_last_line(file: Any, size: int) -> int:
    """Return where what follows the last line end begins."""
    place = size
    while place > 0:
        step = min(65536, place)
        file.seek(place - step)
        found = file.read(step).rfind(b"\n")
        if found >= 0:
            return place - step + found + 1
        place -= step
    return 0
