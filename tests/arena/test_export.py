"""Votes as preference data that plain `load_dataset` reads."""

import json
from pathlib import Path

import pytest
from datasets import Video, load_dataset

from tests.arena.factories import vote
from tests.arena.test_duels import working_folder
from videorm_hf.arena.duels import Duel, read_duels
from videorm_hf.arena.export import export_votes
from videorm_hf.videoprefer.features import preference_features


@pytest.fixture(scope="module")
def duels(tmp_path_factory: pytest.TempPathFactory) -> list[Duel]:
    return read_duels(working_folder(tmp_path_factory.mktemp("arena"), num_items=3))


def test_load_dataset_reads_the_preference_view(duels: list[Duel], tmp_path: Path) -> None:
    votes = [vote(duels[0], rater, winner) for rater, winner in (("anna", "b"), ("bert", "b"), ("carl", None))]
    votes += [vote(duels[1], "anna", "a", "b"), vote(duels[2], "anna", "a"), vote(duels[2], "bert", "b")]
    by_id = {duel.duel_id: duel for duel in duels}
    assert export_votes(votes, by_id, tmp_path / "out") == 2  # the third is even
    rows = load_dataset(str(tmp_path / "out"), "preference", split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.features == preference_features()
    rows = rows.cast_column("chosen", Video(decode=False)).cast_column("rejected", Video(decode=False))
    assert list(rows["prompt"]) == ["prompt 0", "prompt 1"]
    assert list(rows["margin"]) == pytest.approx([2 / 3, 1.0])
    assert (list(rows["chosen_id"]), list(rows["rejected_id"])) == (["1", "0"], ["0", "1"])
    assert rows[0]["chosen"]["bytes"] == duels[0].b.video.read_bytes()
    assert rows[0]["rejected"]["bytes"] == duels[0].a.video.read_bytes()
    assert set(rows["dimension"]) == {"overall"}


def test_every_vote_is_written_with_its_sides(duels: list[Duel], tmp_path: Path) -> None:
    by_id = {duel.duel_id: duel for duel in duels}
    votes = [vote(duels[0], "anna", "b", "b"), vote(duels[1], "bert", None)]
    export_votes(votes, by_id, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "votes.jsonl").read_text("utf-8").splitlines()]
    assert [(row["rater"], row["choice"], row["left_model"], row["right_model"]) for row in rows] == [
        ("anna", "left", "tuned", "base"),
        ("bert", "tie", "base", "tuned"),
    ]
    assert rows[0]["voted_at"] == "1970-01-01T00:00:02.000+00:00"


def test_ties_can_be_kept(duels: list[Duel], tmp_path: Path) -> None:
    votes = [vote(duels[0], "anna", None)]
    by_id = {duel.duel_id: duel for duel in duels}
    assert export_votes(votes, by_id, tmp_path / "out", ties="keep") == 1
    with pytest.raises(ValueError, match="vote on more"):
        export_votes(votes, by_id, tmp_path / "dropped")
    assert not (tmp_path / "dropped").exists()


def test_a_second_export_replaces_the_first(duels: list[Duel], tmp_path: Path) -> None:
    by_id = {duel.duel_id: duel for duel in duels}
    export_votes([vote(each, "anna", "a") for each in duels], by_id, tmp_path / "out")
    assert export_votes([vote(duels[0], "anna", "a")], by_id, tmp_path / "out") == 1
    assert len((tmp_path / "out" / "votes.jsonl").read_text("utf-8").splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_but_an_export_is_replaced(duels: list[Duel], tmp_path: Path) -> None:
    by_id, votes = {duel.duel_id: duel for duel in duels}, [vote(duels[0], "anna", "a")]
    (tmp_path / "out").mkdir()
    assert export_votes(votes, by_id, tmp_path / "out") == 1  # empty
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    (tmp_path / "votes.jsonl").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "README.md").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    for name in ("out", "votes.jsonl", "other"):
        with pytest.raises(FileExistsError, match=f"{name} is not an export of votes"):
            export_votes(votes, by_id, tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before
