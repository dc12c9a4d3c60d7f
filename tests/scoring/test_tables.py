"""Tables: what is written as a number is one, what is written as a name stays as it is."""

from pathlib import Path

import pytest

from videorm_hf.scoring.tables import read_table, write_table


def test_cells_of_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(
        "video,prompt,item_id,rating,note\n"
        "0001.mp4,7,0001,4,a\n"
        'b.mp4,"a cat, asleep",12e45,4.5,\n'
        "c.mp4,,-3,1e-2,NA\n"
        "d.mp4,nan,1.,,007\n",
        encoding="utf-8",
    )
    rows = read_table(path)
    assert [row["video"] for row in rows] == ["0001.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert [row["prompt"] for row in rows] == ["7", "a cat, asleep", None, "nan"]
    assert [row["item_id"] for row in rows] == ["0001", "12e45", "-3", "1."]
    assert [row["rating"] for row in rows] == [4, 4.5, 0.01, None]
    assert [row["note"] for row in rows] == ["a", None, "NA", "007"]


def test_names_with_leading_zeros_come_back_from_a_csv_file(tmp_path: Path) -> None:
    row = {"video": "a.mp4", "prompt": "x", "reward": 0.25, "error": None, "message": None, "item_id": "0001"}
    write_table([row], tmp_path / "out.csv")
    assert read_table(tmp_path / "out.csv") == [row]


def test_an_empty_csv_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match="empty.csv is empty: expected a line with the names of its columns"):
        read_table(tmp_path / "empty.csv")
