"""`VideoPrefer`: both views, streamed and prepared; the folder's state is part of the cache's name."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Video

from tests.videoprefer.factories import item_record, rating_records, working_folder, write_folder, write_jsonl
from videorm_hf.videoprefer.bad_data import BadDataError
from videorm_hf.videoprefer.builder import VideoPrefer
from videorm_hf.videoprefer.pairs import make_preference_pairs
from videorm_hf.videoprefer.video_checks import VideoChecks
from videorm_hf.videoprefer.working_folder import read_items


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return working_folder(tmp_path / "folder", 12)


def build(view: str, folder: Path, **settings: Any) -> VideoPrefer:
    settings = {"fractions": {"train": 0.5, "test": 0.5}, "num_workers": 0, **settings}
    return VideoPrefer(config_name=view, data_dir=str(folder), cache_dir=str(folder.parent / "cache"), **settings)


def undecoded(rows: Any) -> Any:
    """Rows as they are stored: torchcodec, which decodes, is not part of the project."""
    return rows.with_format("arrow") if isinstance(rows, datasets.Dataset) else rows.decode(False)


def test_the_ratings_view_streams_every_item(folder: Path) -> None:
    stream = build("ratings", folder).as_streaming_dataset()
    rows = {row["item_id"]: row for split in stream.values() for row in split.decode(False)}
    assert sum(len(list(split.decode(False))) for split in stream.values()) == len(rows) == 12
    for item in read_items(folder):
        row = rows[item.item_id]
        assert (row["prompt"], row["prompt_source"]) == (item.prompt, item.prompt_source)
        for cell, candidate in zip(row["candidates"], item.candidates, strict=True):
            assert cell["video"] == {"path": str(folder / candidate.video), "bytes": None}
            assert cell["ratings"] == candidate.ratings
            assert cell["judge"] == vars(candidate.judge)
            assert (cell["seed"], cell["is_real"]) == (candidate.seed, False)


def test_the_preference_view_has_trl_columns_and_all_pairs(folder: Path) -> None:
    stream = build("preference", folder).as_streaming_dataset()
    rows = [row for split in stream.values() for row in split.decode(False)]
    assert list(rows[0])[:4] == ["prompt", "chosen", "rejected", "margin"]
    expected = {
        (pair.item_id, pair.chosen_id, pair.rejected_id): pair.margin
        for item in read_items(folder)
        for pair in make_preference_pairs(item)
    }
    assert {(row["item_id"], row["chosen_id"], row["rejected_id"]): row["margin"] for row in rows} == expected
    assert all(Path(row["chosen"]["path"]).is_file() for row in rows)


def test_prepared_and_streamed_rows_are_the_same(folder: Path) -> None:
    for view in ("ratings", "preference"):
        builder = build(view, folder)
        builder.download_and_prepare()
        prepared = builder.as_dataset()
        streamed = builder.as_streaming_dataset()
        assert prepared.keys() == streamed.keys() == {"train", "test"}
        for split, rows in prepared.items():
            table = rows.data.to_pylist()
            assert table == list(streamed[split].decode(False))


def test_pairs_can_be_made_on_each_dimension(folder: Path) -> None:
    names = ("mean", "prompt_following", "video_quality")
    stream = build("preference", folder, pair_dimensions=names, ties="keep").as_streaming_dataset()
    rows = [row for split in stream.values() for row in split.decode(False)]
    assert [sum(row["dimension"] == name for row in rows) for name in names] == [72, 72, 72]
    with pytest.raises(ValueError, match="pair_dimensions must be among mean"):
        build("preference", folder, pair_dimensions=("beauty",))


def test_no_prompt_is_in_two_splits(folder: Path) -> None:
    stream = build("ratings", folder).as_streaming_dataset()
    prompts = {split: {row["prompt"] for row in rows.decode(False)} for split, rows in stream.items()}
    assert prompts["train"] and prompts["test"]
    assert not prompts["train"] & prompts["test"]


def test_a_changed_folder_is_read_again(folder: Path) -> None:
    first = build("ratings", folder)
    first.download_and_prepare()
    write_jsonl(folder / "items.jsonl", [item_record(number) for number in range(11)])
    write_jsonl(folder / "ratings.jsonl", [record for n in range(11) for record in rating_records(item_record(n))])
    second = build("ratings", folder)
    assert second.cache_dir != first.cache_dir
    second.download_and_prepare()
    assert sum(len(rows) for rows in second.as_dataset().values()) == 11


def test_a_busy_machine_is_no_fault_of_a_video(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = sorted(map(str, folder.glob("**/*.mp4")))[:2]
    with monkeypatch.context() as patch:
        patch.setattr("videorm_hf.videoprefer.video_checks._TIMEOUT", 1e-9)
        checks = VideoChecks(folder)
        checks.run(videos, num_workers=1, progress=False)
        assert [checks(video).split(":")[0] for video in videos] == ["timeout"] * 2
    assert [VideoChecks(folder)(video) for video in videos] == [None, None]


def test_an_unreadable_video_is_found_once_and_remembered(folder: Path) -> None:
    (folder / "videos" / "00003" / "1.mp4").write_bytes(b"not a video at all")
    builder = build("ratings", folder)
    stream = builder.as_streaming_dataset()
    assert builder.report.counts() == {"unreadable_video": 1}
    assert sum(1 for rows in stream.values() for _ in rows.decode(False)) == 11
    checks = (folder / "video_checks.jsonl").read_text().splitlines()
    assert len(checks) == 48
    assert [json.loads(line)["video"] for line in checks if "not_a_video" in line] == ["videos/00003/1.mp4"]
    build("preference", folder).as_streaming_dataset()
    assert len((folder / "video_checks.jsonl").read_text().splitlines()) == 48
    with pytest.raises(BadDataError, match="unreadable_video"):
        build("ratings", folder, strict=True).as_streaming_dataset()


def test_unrated_items_give_ratings_rows_without_ratings(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", [item_record(0)], [])
    stream = build("ratings", folder, fractions={"train": 1.0}).as_streaming_dataset("train")
    [row] = stream.decode(False)
    assert row["candidates"][0]["ratings"] == {"prompt_following": None, "video_quality": None}
    assert row["candidates"][0]["judge"] is None


def test_a_folder_without_a_usable_item_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", [item_record(0, 3)])
    with pytest.raises(ValueError, match="no usable item.*\n.*\n1 wrong_number_of_candidates"):
        build("ratings", folder).as_streaming_dataset()
    with pytest.raises(ValueError, match="needs its working folder"):
        VideoPrefer(config_name="ratings", cache_dir=str(tmp_path)).as_streaming_dataset()


def test_the_columns_are_those_of_the_features(folder: Path) -> None:
    features = build("preference", folder).info.features
    assert isinstance(features["chosen"], Video) and isinstance(features["rejected"], Video)
    with pytest.raises(ValueError, match="rated in prompt_following, video_quality, but dimensions has"):
        build("ratings", folder, dimensions=("alignment",)).as_streaming_dataset()
    features = build("ratings", folder, dimensions=("alignment",), pair_dimensions=("alignment",)).info.features
    assert list(features["candidates"].feature["ratings"]) == ["alignment"]
