"""`videoprefer build | stats | export | push`: exit codes, what is written, and the way of real clips to the end."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.real_data import real_data
from tests.videoprefer.factories import working_folder
from tests.videoprefer.fetv_folder import DIMENSIONS, fetv_folder
from videorm_hf.cli.videoprefer import app

HALVES = ("--split", "train=0.5", "--split", "test=0.5", "--num-workers", "0")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return working_folder(tmp_path / "folder", 10)


def test_build_prepares_both_views(folder: Path, tmp_path: Path) -> None:
    result = run("build", folder, *HALVES)
    assert result.exit_code == 0, result.output
    assert "10 items read: 10 used, 0 set aside" in result.output
    built = datasets.load_dataset(str(folder / "built" / "ratings"), cache_dir=str(tmp_path / "cache"))
    assert built.keys() == {"train", "test"} and sum(map(len, built.values())) == 10
    pairs = datasets.load_dataset(str(folder / "built" / "preference"), cache_dir=str(tmp_path / "cache"))
    assert pairs["train"].column_names[:4] == ["prompt", "chosen", "rejected", "margin"]
    assert Path(pairs["train"].data.column("chosen")[0].as_py()["path"]).is_file()
    splits = json.loads((folder / "built" / "splits.json").read_text())
    assert {name: len(items) for name, items in splits["items"].items()} == {n: len(r) for n, r in built.items()}
    assert run("build", folder, *HALVES).exit_code == 0  # again, over what is there


def test_build_reports_and_goes_on_or_fails_if_strict(folder: Path) -> None:
    (folder / "videos" / "00002" / "0.mp4").unlink()
    (folder / "videos" / "00003" / "0.mp4").write_bytes(b"noise")
    result = run("build", folder, *HALVES, "--strict")
    assert result.exit_code == 1 and not (folder / "built").exists()
    assert "1 missing_video\n  items.jsonl:3: there is no file 'videos/00002/0.mp4'" in result.output
    result = run("build", folder, *HALVES)
    assert result.exit_code == 1
    assert "10 items read: 8 used, 2 set aside" in result.output
    report = json.loads((folder / "built" / "report.json").read_text())
    assert report["counts"] == {"missing_video": 1, "unreadable_video": 1}
    assert report["items_in"] == report["items_out"] + report["items_set_aside"] == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "absent"), "not a working folder"),
        (("build", "FOLDER", "--split", "train"), "expected NAME=VALUE, got 'train'"),
        (("build", "FOLDER", "--split", "train=0.5"), "add up to 1"),
        (("build", "FOLDER", "--pairs-on", "beauty"), "pair_dimensions must be among mean"),
        (("build", "FOLDER", "--ratings", "absent.jsonl"), "there is no rating file"),
        (("export", "FOLDER", "--output", "OUT", "--layout", "zip"), "layout must be one of"),
        (("stats", "FOLDER", "--compare", "nothing=here"), "no labelled set 'nothing'"),
        (("push", "FOLDER", "me/mine"), "run `videoprefer export`"),
    ],
)
def test_what_cannot_be_run_as_given(folder: Path, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    paths = {"FOLDER": str(folder), "OUT": str(tmp_path / "out")}
    result = run(*(paths.get(argument, argument) for argument in arguments))
    assert result.exit_code == 2
    assert message in result.output


def test_stats_writes_json_and_charts(folder: Path) -> None:
    result = run("stats", folder)
    assert result.exit_code == 0, result.output
    assert "Agreement of dimensions" in result.output
    record = json.loads((folder / "stats" / "statistics.json").read_text())
    assert (record["items"], record["videos"]) == (10, 40)
    assert record["dimensions"]["mean"]["pairs"] + record["dimensions"]["mean"]["ties"] == 60
    for name in ("ratings", "win_rates", "ties"):
        assert Image.open(folder / "stats" / f"{name}.png").size[0] > 400


def test_a_folder_that_is_not_rated_yet_can_be_counted_but_not_built(folder: Path) -> None:
    (folder / "ratings.jsonl").unlink()
    result = run("build", folder, *HALVES)
    assert result.exit_code == 2 and "not one pair: are there ratings" in result.output
    assert not (folder / "built").exists()
    result = run("stats", folder)
    assert result.exit_code == 0, result.output
    record = json.loads((folder / "stats" / "statistics.json").read_text())
    assert (record["videos_not_rated_in_every_dimension"], record["dimensions"]) == (40, {})
    result = run("export", folder, "--output", folder.parent / "hub", *HALVES)
    assert result.exit_code == 2 and "not one pair: are there ratings" in result.output


def test_a_folder_without_an_item_is_an_error(folder: Path) -> None:
    (folder / "items.jsonl").write_text("")
    (folder / "ratings.jsonl").unlink()
    for command in ("stats", "build"):
        result = run(command, folder)
        assert result.exit_code == 2 and "has no usable item.\n0 items read" in result.output


def test_a_rating_in_an_unknown_dimension_is_named_with_its_line(folder: Path) -> None:
    with (folder / "ratings.jsonl").open("a") as file:
        record = json.loads((folder / "ratings.jsonl").read_text().splitlines()[0])
        file.write(json.dumps(record | {"dimension": "quality"}) + "\n")
    result = run("build", folder, *HALVES)
    assert result.exit_code == 2 and "(--dimension), or mend ratings.jsonl:81." in result.output


def test_export_and_push_dry_run(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "hub"
    result = run("export", folder, "--output", output, *HALVES, "--layout", "files", "--licence", "zero=MIT")
    assert result.exit_code == 0, result.output
    assert "| zero | MIT |" in (output / "README.md").read_text()
    result = run("push", output, "me/mine", "--dry-run")
    assert result.exit_code == 0
    assert "files would go to me/mine" in result.output and "train/preference.parquet" in result.output


def test_a_name_that_no_repository_can_have_is_refused_before_the_network(folder: Path, tmp_path: Path) -> None:
    assert run("export", folder, "--output", tmp_path / "hub", *HALVES).exit_code == 0
    for options in ((), ("--dry-run",)):
        result = run("push", tmp_path / "hub", "not a name", *options)
        assert result.exit_code == 2 and "Error: Repo id must" in result.output
    result = run("export", folder, "--output", tmp_path / "other", *HALVES, "--push", "not a name")
    assert result.exit_code == 2 and "Error: Repo id must" in result.output and not (tmp_path / "other").exists()


def test_real_clips_go_the_whole_way(tmp_path: Path) -> None:
    folder = fetv_folder(tmp_path / "fetv")
    named = [word for dimension in DIMENSIONS for word in ("--dimension", dimension)]
    result = run("stats", folder, "--compare", f"fetv={real_data('tables/fetv_human_ratings.csv')}")
    assert result.exit_code == 0, result.output
    record = json.loads((folder / "stats" / "statistics.json").read_text())
    assert (record["items"], record["videos"]) == (14, 56)
    assert {row["set"] for row in record["sets"]} == {"fetv"}
    assert len(record["sets"]) == 8  # three dimensions and the mean, of the clips and of the whole table
    result = run("export", folder, "--output", tmp_path / "hub", *HALVES, *named)
    assert result.exit_code == 0, result.output
    cache = str(tmp_path / "cache")
    pairs = datasets.load_dataset(str(tmp_path / "hub"), "preference", cache_dir=cache)
    assert sum(map(len, pairs.values())) == record["dimensions"]["mean"]["pairs"]
    items = datasets.load_dataset(str(tmp_path / "hub"), "ratings", cache_dir=cache)
    assert sum(map(len, items.values())) == 14
    streamed = datasets.load_dataset(str(tmp_path / "hub"), "preference", split="train", streaming=True)
    first = next(iter(streamed.decode(False)))
    assert first["chosen"]["path"].endswith(".gif") and first["chosen"]["bytes"][:3] == b"GIF"


def test_build_replaces_only_what_it_has_prepared(folder: Path) -> None:
    rated = folder / "ratings" / "judge.jsonl"
    rated.parent.mkdir()
    rated.write_bytes((folder / "ratings.jsonl").read_bytes())
    (folder / "uv.lock").touch()
    result = run("build", folder, *HALVES, "--ratings", rated, "--output", folder)
    assert result.exit_code == 2 and "holds no prepared data set, and is not replaced" in result.output
    assert rated.is_file() and not (folder / "preference").exists()
    assert run("build", folder, *HALVES, "--output", folder / "ratings" / "built").exit_code == 0
    (folder / "built").mkdir()
    (folder / "built" / "uv.lock").touch()
    assert run("build", folder, *HALVES).exit_code == 0
    assert sorted(path.name for path in (folder / "built").glob("*.lock")) == ["uv.lock"]
