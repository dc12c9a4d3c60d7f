"""LineIndex: an item's lines are found again, whatever stands between them, from a few bytes a line."""

import json
import pickle
from pathlib import Path

import pytest

from tests.videoprefer.factories import item_record, rating_records, write_jsonl
from videorm_hf.videoprefer import json_lines
from videorm_hf.videoprefer.json_lines import LineIndex, read_lines, text_key
from videorm_hf.videoprefer.working_folder import WorkingFolder


def index_of(path: Path, *item_ids: object) -> LineIndex:
    write_jsonl(path, [{"item_id": item_id, "number": number} for number, item_id in enumerate(item_ids, start=1)])
    return LineIndex(path, read_lines(path))


def test_lines_are_found_in_the_order_of_the_file(tmp_path: Path) -> None:
    index = index_of(tmp_path / "a.jsonl", "x", "y", None, "x", "\ud800", "x")
    assert [line.number for line in index.lines("x")] == [1, 4, 6]
    assert [line.record for line in index.lines("y")] == [{"item_id": "y", "number": 2}]
    assert index.lines("z") == []
    assert [index.count(item_id) for item_id in ("x", "y", "\ud800", "z")] == [3, 1, 1, 0]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert index_of(tmp_path / "a.jsonl").lines("x") == []


def test_items_of_one_file_only_are_named_once(tmp_path: Path) -> None:
    index = index_of(tmp_path / "a.jsonl", "x", "y", "z", "y", "w")
    absent = {line.item_id: (line.number, count) for line, count in index.not_in(index_of(tmp_path / "b.jsonl", "x"))}
    assert absent == {"y": (2, 2), "z": (3, 1), "w": (5, 1)}


def test_items_whose_keys_are_equal_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "text_key", lambda text: len(text))
    index = index_of(tmp_path / "a.jsonl", "x", "y", "x")
    assert [line.number for line in index.lines("y")] == [2]
    assert index.count("x") == 2 and index.count("y") == 1


def test_keys_are_the_same_in_every_process() -> None:
    assert text_key("item") == -8896109835438196520


def test_what_is_held_of_a_folder_does_not_depend_on_its_texts(tmp_path: Path) -> None:
    items = [item_record(number, prompt=f"{number} " + "word " * 1000) for number in range(50)]
    write_jsonl(tmp_path / "items.jsonl", items)
    write_jsonl(tmp_path / "ratings.jsonl", [record for item in items for record in rating_records(item)])
    num_lines = 50 + 50 * 4 * 2
    assert len(pickle.dumps(WorkingFolder(tmp_path))) < 24 * num_lines + 2000 < len(json.dumps(items))
