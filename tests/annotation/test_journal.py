"""The journal: whole records or none, one run at a time, mended after whatever happened."""

import json
import logging
import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videorm_hf.annotation.journal import Journal, JournalError, read_records

resource = pytest.importorskip("resource", reason="needs limits on a process's files")
processes: Any = multiprocessing.get_context("forkserver")

RECORDS = [{"item_id": "a", "reply": 'Über\n\u2028 "x"'}, {"item_id": "b", "reply": None}]


def write(path: Path, records: list[dict]) -> None:
    with Journal(path) as journal:
        for record in records:
            journal.append(record)


def test_records_come_back_and_are_only_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ratings.jsonl"
    write(path, RECORDS)
    before = path.read_bytes()
    write(path, RECORDS[:1])
    assert path.read_bytes().startswith(before)
    assert list(read_records(path)) == [*RECORDS, RECORDS[0]]
    assert list(read_records(tmp_path / "absent.jsonl")) == []


def test_a_record_is_in_the_file_before_append_returns(tmp_path: Path) -> None:
    with Journal(tmp_path / "ratings.jsonl") as journal:
        journal.append(RECORDS[0])
        assert list(read_records(journal.path)) == RECORDS[:1]


@given(cut=st.integers(0, 200))
def test_a_torn_last_line_is_mended_wherever_it_was_torn(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "ratings.jsonl"
    write(path, RECORDS)
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole))])
    kept = list(read_records(path))  # reads before it is mended, too
    write(path, [{"item_id": "c"}])
    assert list(read_records(path)) == [*kept, {"item_id": "c"}]
    assert kept == RECORDS[: len(kept)]
    assert len(kept) == sum(
        cut >= len(line) for line in (whole.splitlines(True)[0].rstrip(b"\n"), whole.rstrip(b"\n"))
    )


def test_mending_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "ratings.jsonl"
    path.write_bytes(json.dumps(RECORDS[0]).encode() + b'\n{"item_id": "b", "re')
    with caplog.at_level(logging.WARNING):
        write(path, [])
    assert "cut short" in caplog.text and "asked again" in caplog.text


def test_a_damaged_line_elsewhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    path.write_bytes(b'{"item_id": "a"}\n{"item_id\n{"item_id": "c"}\n')
    with pytest.raises(JournalError, match="line 2 is no record"):
        list(read_records(path))


def hold(path: Path, is_open: Any) -> None:
    with Journal(path):
        is_open.set()
        time.sleep(60)


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    is_open = processes.Event()
    other = processes.Process(target=hold, args=(path, is_open), daemon=True)
    other.start()
    try:
        assert is_open.wait(60)
        with pytest.raises(JournalError, match="Another run is writing"), Journal(path):
            pass
    finally:
        other.kill()
        other.join()
    write(path, RECORDS)  # a killed run leaves no lock behind
    assert list(read_records(path)) == RECORDS


def fill(path: Path, said: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (250, 250))
    try:
        write(path, [{"number": number, "reply": "x" * 70} for number in range(9)])
    except JournalError as error:
        said.put(str(error))


def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    """A limit on the file's size acts like a full disk: a part of the line is taken, then an error comes."""
    path = tmp_path / "ratings.jsonl"
    said = processes.SimpleQueue()
    process = processes.Process(target=fill, args=(path, said), daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    message = said.get()
    assert "cannot be written" in message and "run again" in message
    assert [record["number"] for record in read_records(path)] == [0, 1]
    assert path.read_bytes().endswith(b"\n")
