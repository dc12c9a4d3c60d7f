"""Exported folders are read by plain `load_dataset`, in an interpreter that cannot import this package."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import HfApi

from tests.hub_cards.hub_server import HubServer
from tests.video_factory import numbered_frames, write_video
from tests.videoprefer.factories import item_record, rating_records, working_folder, write_folder
from videorm_hf.videoprefer.builder import VideoPreferConfig
from videorm_hf.videoprefer.export import export_to_hub_layout, files_to_push, push_to_hub
from videorm_hf.videoprefer.features import preference_features
from videorm_hf.videoprefer.pairs import make_preference_pairs
from videorm_hf.videoprefer.working_folder import read_items

FRACTIONS = {"train": 0.5, "test": 0.5}

# Reads a folder as a stranger would: no path to this package, no decoder for videos.
READER = """
import json, sys
from pathlib import Path
sys.modules["videorm_hf"] = None
from datasets import Dataset, load_dataset

def plain(value):
    if isinstance(value, dict):
        if value.keys() == {"path", "bytes"}:
            content = Path(value["path"]).read_bytes() if value["bytes"] is None else value["bytes"]
            return content.hex()
        return {name: plain(cell) for name, cell in value.items() if name != "__url__"}
    return [plain(cell) for cell in value] if isinstance(value, list) else value

found = {}
for layout in sys.argv[2:]:
    for view in ("preference", "ratings"):
        for streaming in (False, True):
            splits = load_dataset(layout, view, streaming=streaming, cache_dir=sys.argv[1])
            for split, rows in splits.items():
                stored = rows.decode(False) if streaming else rows.data.to_pylist()
                found[f"{Path(layout).name} {view} {split} {streaming}"] = [plain(row) for row in stored]
                found[f"{Path(layout).name} {view} features"] = str(rows.features)
print(json.dumps(found))
"""
LAYOUTS = ("parquet", "files", "webdataset")
VIEWS = ("ratings", "preference")


def config(folder: Path, **settings: Any) -> VideoPreferConfig:
    settings = {"fractions": FRACTIONS, "num_workers": 0, **settings}
    return VideoPreferConfig(name="preference", data_dir=str(folder), **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten items; the first ones have no seed, no guidance and no rationale, as a set of real clips would."""
    items = [item_record(number) for number in range(10)]
    ratings = [record for item in items for record in rating_records(item)]
    for item in items[:6]:
        for candidate in item["candidates"]:
            candidate |= {"seed": None, "guidance_scale": None}
    for record in ratings[:48]:
        record["rationale"] = None
    return write_folder(tmp_path_factory.mktemp("export") / "folder", items, ratings)


def expected_rows(folder: Path) -> dict[str, list[dict[str, Any]]]:
    items = list(read_items(folder))
    pairs = [pair for item in items for pair in make_preference_pairs(item)]
    content = lambda video: (folder / video).read_bytes().hex()  # noqa: E731
    preference = [vars(pair) | {"chosen": content(pair.chosen), "rejected": content(pair.rejected)} for pair in pairs]
    ratings = [
        {
            "item_id": item.item_id,
            "candidates": [
                {
                    "candidate_id": candidate.candidate_id,
                    "video": content(candidate.video),
                    "seed": candidate.seed,
                    "guidance_scale": candidate.guidance_scale,
                    "ratings": dict(candidate.ratings),
                    "rationales": {name: candidate.rationales.get(name) for name in candidate.ratings},
                    "judge": vars(candidate.judge),
                    "model": candidate.model,
                    "is_real": candidate.is_real,
                }
                for candidate in item.candidates
            ],
            "prompt": item.prompt,
            "prompt_source": item.prompt_source,
        }
        for item in items
    ]
    return {"preference": preference, "ratings": ratings}


@pytest.fixture(scope="module")
def read_by_a_stranger(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All layouts exported, and read in one interpreter: "<layout> <view> <split> <streaming>" to rows."""
    base = tmp_path_factory.mktemp("layouts")
    for layout in LAYOUTS:
        export_to_hub_layout(config(folder), base / layout, layout, shard_bytes=20_000, progress=False)
    command = [sys.executable, "-I", "-c", READER, base / "cache", *(base / layout for layout in LAYOUTS)]
    environment = {**os.environ, "USE_TORCH": "0"}  # datasets would import it, which takes seconds
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_stranger_reads_both_views(folder: Path, read_by_a_stranger: dict[str, Any], layout: str) -> None:
    for view, expected in expected_rows(folder).items():
        assert "Video(" in read_by_a_stranger[f"{layout} {view} features"]
        key = ["item_id", "chosen_id", "rejected_id"] if view == "preference" else ["item_id"]
        for streaming in (False, True):
            splits = [read_by_a_stranger[f"{layout} {view} {split} {streaming}"] for split in FRACTIONS]
            assert all(splits)
            rows = [merged(row) if layout == "webdataset" else row for rows in splits for row in rows]
            rows.sort(key=lambda row: [row[name] for name in key])
            assert rows == sorted(expected, key=lambda row: [row[name] for name in key])


def merged(row: dict[str, Any]) -> dict[str, Any]:
    """A WebDataset row in the columns of the view, as docs/dataset_formats.md says how to rename them."""
    row = {name: cell for name, cell in row.items() if name != "__key__"}
    rest = row.pop("json")
    if "candidates" not in rest:
        return rest | {name.removesuffix(".mp4"): content for name, content in row.items()}
    for number, candidate in enumerate(rest["candidates"]):
        candidate["video"] = row.pop(f"candidate_{number}.mp4")
    assert not row
    return rest


def test_webdataset_columns_are_renamed_as_documented(folder: Path, tmp_path: Path) -> None:
    export_to_hub_layout(config(folder), tmp_path / "data", "webdataset", progress=False)
    pairs = load_dataset(str(tmp_path / "data"), "preference", split="train", cache_dir=str(tmp_path / "cache"))
    pairs = pairs.rename_columns({"chosen.mp4": "chosen", "rejected.mp4": "rejected"})
    pairs = pairs.flatten().rename_columns({f"json.{name}": name for name in pairs.features["json"]})
    assert {*pairs.column_names} == {*preference_features(), "__key__", "__url__"}
    assert all(pairs.features[name] == feature for name, feature in preference_features().items())


def test_shards_are_cut_by_size(folder: Path, tmp_path: Path) -> None:
    export_to_hub_layout(config(folder), tmp_path / "a", "parquet", shard_bytes=20_000, progress=False)
    export_to_hub_layout(config(folder), tmp_path / "b", "parquet", progress=False)
    assert len(list((tmp_path / "a" / "preference").glob("train-*.parquet"))) > 2
    assert len(list((tmp_path / "b" / "preference").glob("train-*.parquet"))) == 1


def test_the_card_says_what_is_in_it(folder: Path, tmp_path: Path) -> None:
    licences = {"modelscope": "CC BY-NC 4.0"}
    export_to_hub_layout(config(folder), tmp_path / "data", title="Mine", licences=licences, progress=False)
    _, front, text = (tmp_path / "data" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    configs = {entry["config_name"]: entry for entry in yaml.safe_load(front)["configs"]}
    assert configs.keys() == {"ratings", "preference"} and configs["preference"]["default"]
    assert "# Mine" in text and "10 prompts, 40 videos" in text
    assert "| vidprom | CC BY-NC 4.0 (VidProM" in text
    assert "| modelscope | CC BY-NC 4.0 |" in text and "| opensora | not stated |" in text
    assert "model judge-a, rubric_version 1, num_frames 8, temperature 0.3 (40 videos)" in text
    assert "Of 10 items in the working folder 10 are here; 0 were set aside." in text
    splits = json.loads((tmp_path / "data" / "splits.json").read_text())
    assert sum(map(len, splits["items"].values())) == 10 and splits["seed"] == 0
    assert json.loads((tmp_path / "data" / "statistics.json").read_text())["items"] == 10


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_exported_anew_is_not_read_from_the_cache(tmp_path: Path, layout: str) -> None:
    data = working_folder(tmp_path / "data")
    ratings = data / "ratings.jsonl"

    def export() -> list[dict[str, Any]]:
        export_to_hub_layout(config(data), tmp_path / "set", layout, overwrite=True)
        views = (load_dataset(str(tmp_path / "set"), view, cache_dir=str(tmp_path / "cache")) for view in VIEWS)
        return [row for view in views for rows in view.values() for row in rows.data.to_pylist()]

    first, lines = export(), ratings.read_text().splitlines()
    changed = json.loads(lines[0])
    ratings.write_text("\n".join([json.dumps(changed | {"rating": 6 - changed["rating"]}), *lines[1:]]) + "\n")
    assert export() != first
    ratings.write_text("\n".join(lines) + "\n")
    assert export() == first


def test_what_was_set_aside_is_on_the_card(tmp_path: Path) -> None:
    folder = working_folder(tmp_path / "folder", 8)
    (folder / "videos" / "00003" / "1.mp4").write_bytes(b"noise")
    report = export_to_hub_layout(config(folder), tmp_path / "data", progress=False)
    assert report.items_set_aside == 1
    text = (tmp_path / "data" / "README.md").read_text(encoding="utf-8")
    assert "7 are here; 1 were set aside, for the reasons in `report.json`\n  (1 unreadable_video)." in text
    assert json.loads((tmp_path / "data" / "report.json").read_text())["problems"][0]["item_id"] == "item-00003"


def test_an_output_is_not_replaced_unless_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "old.txt").write_text("old")
    with pytest.raises(FileExistsError, match="exists: name another folder"):
        export_to_hub_layout(config(folder), tmp_path / "data", progress=False)
    with pytest.raises(FileExistsError, match="is not an exported data set"):  # such as the working folder itself
        export_to_hub_layout(config(folder), tmp_path / "data", overwrite=True, progress=False)
    for name in ("README.md", "splits.json"):
        (tmp_path / "data" / name).write_text("old")
    (tmp_path / "data.unfinished").mkdir()
    (tmp_path / "data.unfinished" / "torn.parquet").write_text("torn")
    export_to_hub_layout(config(folder), tmp_path / "data", overwrite=True, progress=False)
    assert not (tmp_path / "data" / "old.txt").exists() and not (tmp_path / "data" / "torn.parquet").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize("layout", ["files", "webdataset"])
def test_a_video_that_datasets_would_not_know_is_refused_by_name(tmp_path: Path, layout: str) -> None:
    item = item_record(0)
    item["candidates"][2]["video"] = "videos/a.gif"
    folder = write_folder(tmp_path / "folder", [item])
    write_video(folder / "videos" / "a.gif", numbered_frames(4), codec="gif", pix_fmt="rgb8")
    with pytest.raises(ValueError, match="item 'item-00000' has 'videos/a.gif'. Use the layout parquet"):
        export_to_hub_layout(config(folder, fractions={"train": 1.0}), tmp_path / "data", layout, progress=False)
    export_to_hub_layout(config(folder, fractions={"train": 1.0}), tmp_path / "data", "parquet", progress=False)


def test_webdataset_needs_the_same_files_in_every_row(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", [item_record(0, 4), item_record(1, 3)])
    with pytest.raises(ValueError, match="same files in every row.*use the layout parquet"):
        export_to_hub_layout(config(folder, num_candidates=None), tmp_path / "data", "webdataset", progress=False)


def test_without_a_pair_there_is_nothing_to_publish(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "folder", [item_record(0)], [])
    with pytest.raises(ValueError, match="not one pair"):
        export_to_hub_layout(config(folder), tmp_path / "data", progress=False)
    with pytest.raises(ValueError, match="layout must be one of"):
        export_to_hub_layout(config(folder), tmp_path / "data", "zip", progress=False)


def test_push_makes_the_repository_and_leaves_no_rows_of_an_earlier_export(
    folder: Path, tmp_path: Path, hub: HubServer
) -> None:
    with pytest.raises(FileNotFoundError, match="no README.md"):
        push_to_hub(folder, "me/mine")
    export_to_hub_layout(config(folder), tmp_path / "data", progress=False)
    names = [name for name, _ in files_to_push(tmp_path / "data")]
    assert "README.md" in names and "preference/train-00000.parquet" in names
    old = {"preference/train-00007.parquet": b"", "test/ratings.parquet": b"", "notes.md": b"mine"}
    hub.files["datasets/me/mine"] = dict(old)
    push_to_hub(tmp_path / "data", "me/mine", private=True, api=HfApi(endpoint=hub.url, token="hf_none"))
    (created,) = hub.created
    assert (created["organization"], created["name"], created["type"]) == ("me", "mine", "dataset")
    assert created.get("private") or created.get("visibility") == "private"
    assert sorted(hub.files["datasets/me/mine"]) == sorted([*names, "notes.md"])


def test_a_hub_that_is_not_reached_is_said_in_words(folder: Path, tmp_path: Path) -> None:
    export_to_hub_layout(config(folder), tmp_path / "data", progress=False)
    with pytest.raises(ConnectionError, match="http://127.0.0.1:9 was not reached .*run again"):
        push_to_hub(tmp_path / "data", "me/mine", api=HfApi(endpoint="http://127.0.0.1:9", token="hf_none"))
