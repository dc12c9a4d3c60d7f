"""The journal: whole records or none, one run at a time, mended after whatever happened."""

import json
import logging
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videorm_hf.annotation import journal as journal_module
from videorm_hf.annotation.journal import Journal, JournalError, read_records

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


@settings(max_examples=30)
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


@pytest.mark.parametrize(
    "content", ['["a", "b", "c"]', "prompt,video\na dog,a.mp4", '"a dog"', '{\n  "a": 1\n}', '[\n{"a": 1}'], ids=repr
)
def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "prompts.json"
    path.write_bytes(content.encode())
    with pytest.raises(JournalError, match="prompts.json is no journal; name another output"):
        write(path, RECORDS)
    assert path.read_bytes() == content.encode()


def test_a_damaged_line_elsewhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    path.write_bytes(b'{"item_id": "a"}\n{"item_id\n{"item_id": "c"}\n')
    with pytest.raises(JournalError, match="line 2 is no record"):
        list(read_records(path))


# The journal needs nothing of the package, so that a process of its own is ready in a moment.
LOAD = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("journal", sys.argv[1])
journal = importlib.util.module_from_spec(spec)
spec.loader.exec_module(journal)
"""


def start(script: str, path: Path) -> subprocess.Popen[str]:
    """Run a script that has `journal`, the module, with the journal's path as its second argument."""
    command = [sys.executable, "-c", LOAD + script, str(journal_module.__file__), str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")


HOLD = """
from pathlib import Path
with journal.Journal(Path(sys.argv[2])):
    print("open", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    with start(HOLD, path) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "open\n"
            with pytest.raises(JournalError, match="Another run is writing"), Journal(path):
                pass
        finally:
            other.kill()
    write(path, RECORDS)  # a killed run leaves no lock behind
    assert list(read_records(path)) == RECORDS


APPEND = """
from pathlib import Path
path = Path(sys.argv[2])
number = sum(1 for _ in journal.read_records(path))
with journal.Journal(path) as opened:
    while True:
        opened.append({"number": number, "reply": "x" * 2000})
        print(number, flush=True)
        number += 1
"""


def test_a_killed_process_loses_no_record(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    moments = random.Random(0)
    for _ in range(5):
        with start(APPEND, path) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(50)]
            time.sleep(moments.uniform(0.0, 0.05))
            process.kill()
            said += process.stdout.readlines()
        numbers = [record["number"] for record in read_records(path)]
        assert numbers == list(range(len(numbers)))
        whole = [line for line in said if line.endswith("\n")]
        assert int(whole[-1]) <= numbers[-1]  # what had been appended is there


FILL = """
import resource
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (250, 250))
try:
    with journal.Journal(Path(sys.argv[2])) as opened:
        for number in range(9):
            opened.append({"number": number, "reply": "x" * 70})
except journal.JournalError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on a process's files")
def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    """A limit on the file's size acts like a full disk: a part of the line is taken, then an error comes."""
    path = tmp_path / "ratings.jsonl"
    message, _ = start(FILL, path).communicate(timeout=60)
    assert "cannot be written" in message and "run again" in message
    assert [record["number"] for record in read_records(path)] == [0, 1]
    assert path.read_bytes().endswith(b"\n")
