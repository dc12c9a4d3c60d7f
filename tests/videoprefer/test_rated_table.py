"""A table of rated videos: the same items from every format, and what is wrong with it by row."""

from pathlib import Path

import pandas as pd
import pytest

from videorm_hf.videoprefer.items import HUMAN
from videorm_hf.videoprefer.rated_table import read_rated_table

ROWS = [
    {"prompt": "a red ball", "video": "a.mp4", "model": "one", "quality": 4.5, "following": 3},
    {"prompt": "a man talks", "video": "a.mp4", "model": "one", "quality": 1.0, "following": 2},
    {"prompt": "a red ball", "video": "b.mp4", "model": "two", "quality": None, "following": 5},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    return tmp_path


def test_every_format_gives_the_same_items(folder: Path) -> None:
    frame = pd.DataFrame(ROWS)
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_json(folder / "t.jsonl", orient="records", lines=True)
    frame.to_parquet(folder / "t.parquet")
    items = read_rated_table(folder / "t.csv")
    assert items == read_rated_table(folder / "t.jsonl") == read_rated_table(folder / "t.parquet")
    assert [(item.item_id, item.prompt, len(item.candidates)) for item in items] == [
        ("0", "a red ball", 2),
        ("1", "a man talks", 1),
    ]
    first, second = items[0].candidates
    assert (first.ratings, second.ratings) == ({"quality": 4.5, "following": 3.0}, {"following": 5.0})
    assert first.video == str(folder / "a.mp4") and first.judge == HUMAN


def test_a_table_without_ratings_is_read(folder: Path) -> None:
    pd.DataFrame(ROWS)[["prompt", "video", "model"]].to_csv(folder / "t.csv", index=False)
    videos = [video for item in read_rated_table(folder / "t.csv") for video in item.candidates]
    assert len(videos) == 3 and all(not video.ratings and video.judge is None for video in videos)


@pytest.mark.parametrize(("name", "number"), [("t.csv", 3), ("t.jsonl", 2)])
def test_faults_are_counted_from_the_first_line_of_the_file(folder: Path, name: str, number: int) -> None:
    faulty = pd.DataFrame([ROWS[0], ROWS[1] | {"following": 9, "video": "c.mp4"}, ROWS[0]])
    if name == "t.csv":
        faulty.to_csv(folder / name, index=False)
    else:
        faulty.to_json(folder / name, orient="records", lines=True)
    with pytest.raises(ValueError, match=f"row {number}: there is no file .*c.mp4") as error:
        read_rated_table(folder / name)
    assert f"row {number}: following must be a rating from 1 to 5 or empty, got 9" in str(error.value)
    assert f"rows {number - 1} and {number + 1} rate" in str(error.value)
