"""Reading a working folder: the last rating counts, every fault has its place, nothing is lost in silence."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.videoprefer.factories import JUDGE, item_record, rating_records, working_folder, write_folder, write_jsonl
from videorm_hf.videoprefer.bad_data import BadDataError, Report
from videorm_hf.videoprefer.items import Judge
from videorm_hf.videoprefer.working_folder import WorkingFolder, read_items


def test_a_good_folder_is_read_whole(tmp_path: Path) -> None:
    report = Report()
    items = list(read_items(working_folder(tmp_path, 3), report=report))
    assert [item.item_id for item in items] == ["item-00000", "item-00001", "item-00002"]
    assert (report.items_in, report.items_out, report.problems) == (3, 3, [])
    candidate = items[1].candidates[2]
    assert (candidate.candidate_id, candidate.video) == ("c2", "videos/00001/2.mp4")
    assert (candidate.model, candidate.guidance_scale, candidate.seed) == ("videocrafter", 8.0, 12)
    assert candidate.ratings.keys() == candidate.rationales.keys() == {"prompt_following", "video_quality"}
    assert candidate.judge == Judge("judge-a", "1", 8, 0.3)


def test_without_a_rating_file_nothing_is_rated(tmp_path: Path) -> None:
    folder = working_folder(tmp_path, 1)
    assert not list(read_items(folder, ()))[0].candidates[0].ratings
    (folder / "ratings.jsonl").unlink()
    assert not list(read_items(folder))[0].candidates[0].ratings


def test_the_last_record_counts_and_failures_are_no_ratings(tmp_path: Path) -> None:
    item = item_record(0)
    records = rating_records(item)
    again = {**records[0], "rating": 5, "rationale": "Seen again."}
    failed = {**records[1], "rating": None, "rationale": None, "failure": "no rating in the reply"}
    folder = write_folder(tmp_path, [item], [*records, again, failed])
    [read] = read_items(folder)
    assert read.candidates[0].ratings == {"prompt_following": 5.0}
    assert read.candidates[0].rationales == {"prompt_following": "Seen again."}


def test_the_last_file_counts(tmp_path: Path) -> None:
    folder = working_folder(tmp_path, 1)
    record = {**rating_records(item_record(0))[0], "rating": 3.25}
    write_jsonl(folder / "ratings" / "people.jsonl", [record])
    [read] = read_items(folder, ["ratings.jsonl", "ratings/people.jsonl"])
    assert read.candidates[0].ratings["prompt_following"] == 3.25
    with pytest.raises(FileNotFoundError, match="no rating file .*people2"):
        list(read_items(folder, ["ratings/people2.jsonl"]))


def test_rubric_versions_may_differ_between_dimensions_but_judges_may_not(tmp_path: Path) -> None:
    item = item_record(0)
    records = [
        {**record, "judge": {**JUDGE, "rubric_version": record["dimension"][0] + "1"}}
        for record in rating_records(item)
    ]
    [read] = read_items(write_folder(tmp_path, [item], records))
    assert read.candidates[0].judge == Judge("judge-a", "prompt_following: p1, video_quality: v1", 8, 0.3)
    records[0]["judge"] = {**JUDGE, "model": "judge-b"}
    report = Report()
    assert not list(read_items(write_folder(tmp_path, [item], records), report=report))
    assert report.counts() == {"mixed_judges": 1}


def test_any_number_of_candidates_can_be_allowed(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, [item_record(0, 4), item_record(1, 3), item_record(2, 1)])
    assert len(list(read_items(folder))) == 1
    assert len(list(read_items(folder, num_candidates=3))) == 1
    assert len(list(read_items(folder, num_candidates=None))) == 2


def test_a_folder_without_items_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no items.jsonl"):
        list(read_items(tmp_path))


SPOILED_ITEM: dict[str, Any] = {
    "prompt": {"prompt": " "},
    "prompt_source": {"prompt_source": 3},
    "candidates": {"candidates": "four"},
    "no candidates": {"candidates": None},
}


@pytest.mark.parametrize("change", SPOILED_ITEM.values(), ids=SPOILED_ITEM.keys())
def test_a_wrong_field_of_an_item_sets_it_aside(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = working_folder(tmp_path, 3)
    items = [item_record(number) for number in range(3)]
    write_jsonl(folder / "items.jsonl", [items[0], {**items[1], **change}, items[2]])
    assert_set_aside(folder, "wrong_field", "items.jsonl:2")


SPOILED_CANDIDATE: dict[str, tuple[str, dict[str, Any]]] = {
    "no model": ("wrong_field", {"model": None}),
    "real?": ("wrong_field", {"is_real": "no"}),
    "endless guidance": ("wrong_field", {"guidance_scale": float("nan")}),
    "huge guidance": ("wrong_field", {"guidance_scale": 10**400}),
    "huge seed": ("wrong_field", {"seed": 2**63}),
    "seed is a truth value": ("wrong_field", {"seed": True}),
    "same id": ("duplicate_candidate_id", {"candidate_id": "c1"}),
    "absent": ("missing_video", {"video": "videos/00001/absent.mp4"}),
    "a folder": ("missing_video", {"video": "videos"}),
    "too long": ("missing_video", {"video": "v" * 5000}),
    "parent": ("path_outside_folder", {"video": "videos/../../secret.mp4"}),
    "absolute": ("path_outside_folder", {"video": "/etc/passwd"}),
    "scheme": ("path_outside_folder", {"video": "file://etc/passwd"}),
    "backslash": ("path_outside_folder", {"video": "..\\secret.mp4"}),
    "nul": ("path_outside_folder", {"video": "a\0b"}),
    "dot": ("path_outside_folder", {"video": "."}),
}


@pytest.mark.parametrize(("kind", "change"), SPOILED_CANDIDATE.values(), ids=SPOILED_CANDIDATE.keys())
def test_a_faulty_candidate_sets_its_item_aside(tmp_path: Path, kind: str, change: dict[str, Any]) -> None:
    folder = working_folder(tmp_path, 3)
    (tmp_path.parent / "secret.mp4").write_bytes(b"")
    items = [item_record(number) for number in range(3)]
    items[1]["candidates"][0] |= change
    write_jsonl(folder / "items.jsonl", items)
    assert_set_aside(folder, kind, "items.jsonl:2")


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = working_folder(tmp_path / "folder", 3)
    video = folder / "videos" / "00001" / "3.mp4"
    video.rename(tmp_path / "outside.mp4")
    video.symlink_to(tmp_path / "outside.mp4")
    assert_set_aside(folder, "path_outside_folder", "items.jsonl:2")


SPOILED_RATING: dict[str, tuple[str, dict[str, Any]]] = {
    "zero": ("rating_out_of_range", {"rating": 0}),
    "six": ("rating_out_of_range", {"rating": 6}),
    "just above": ("rating_out_of_range", {"rating": 5.001}),
    "nan": ("rating_out_of_range", {"rating": float("nan")}),
    "text": ("rating_out_of_range", {"rating": "4"}),
    "truth value": ("rating_out_of_range", {"rating": True}),
    "rationale": ("wrong_field", {"rationale": 4}),
    "dimension": ("wrong_field", {"dimension": None}),
    "judge": ("wrong_field", {"judge": "gpt"}),
    "other prompt": ("prompt_mismatch", {"prompt": "something else"}),
    "other candidate": ("unknown_candidate", {"candidate_id": "c9"}),
}


@pytest.mark.parametrize(("kind", "change"), SPOILED_RATING.values(), ids=SPOILED_RATING.keys())
def test_a_faulty_rating_sets_its_item_aside(tmp_path: Path, kind: str, change: dict[str, Any]) -> None:
    items = [item_record(number) for number in range(3)]
    ratings = [record for item in items for record in rating_records(item)]
    ratings[15] |= change
    assert_set_aside(write_folder(tmp_path, items, ratings), kind, "ratings.jsonl:16")


def test_a_prompt_must_agree_with_the_collected_one(tmp_path: Path) -> None:
    folder = working_folder(tmp_path, 3)
    write_jsonl(folder / "prompts.jsonl", [{"item_id": "item-00001", "prompt": "something else"}])
    assert_set_aside(folder, "prompt_mismatch", "items.jsonl:2")


def test_a_torn_collected_prompt_is_reported_and_costs_no_item(tmp_path: Path) -> None:
    folder = working_folder(tmp_path, 3)
    (folder / "prompts.jsonl").write_text('{"item_id": "item-00001", "prom')
    report = Report()
    assert len(list(read_items(folder, report=report))) == 3
    assert [(problem.kind, problem.place) for problem in report.problems] == [("half_written_line", "prompts.jsonl:1")]


def test_all_lines_of_a_duplicate_item_are_set_aside(tmp_path: Path) -> None:
    folder = working_folder(tmp_path, 3)
    items = [item_record(number) for number in (0, 1, 2)]
    write_jsonl(folder / "items.jsonl", [*items, items[1]])
    report = Report()
    assert [item.item_id for item in read_items(folder, report=report)] == ["item-00000", "item-00002"]
    assert [problem.place for problem in report.problems] == ["items.jsonl:2", "items.jsonl:4"]
    assert report.counts() == {"duplicate_item_id": 2}


def test_a_half_written_item_is_counted(tmp_path: Path) -> None:
    folder = working_folder(tmp_path, 3)
    content = (folder / "items.jsonl").read_bytes()
    (folder / "items.jsonl").write_bytes(content[:-40])
    report = Report()
    assert len(list(read_items(folder, report=report))) == 2
    assert (report.items_in, report.items_out, report.items_set_aside) == (3, 2, 1)
    assert report.counts() == {"half_written_line": 1, "unknown_item": 1}


def test_a_half_written_rating_is_reported_and_its_item_stays_unrated_there(tmp_path: Path) -> None:
    folder = working_folder(tmp_path, 1)
    content = (folder / "ratings.jsonl").read_bytes()
    (folder / "ratings.jsonl").write_bytes(content[:-40])
    report = Report()
    [item] = read_items(folder, report=report)
    assert [len(candidate.ratings) for candidate in item.candidates] == [2, 2, 2, 1]
    assert [(problem.kind, problem.place) for problem in report.problems] == [("half_written_line", "ratings.jsonl:8")]


@pytest.mark.parametrize("broken", [b"caf\xe9", rb"half \ud83d a pair"])
@pytest.mark.parametrize("file", ["items.jsonl", "ratings.jsonl"])
def test_invalid_unicode_sets_the_item_aside(tmp_path: Path, file: str, broken: bytes) -> None:
    folder = working_folder(tmp_path, 3)
    lines = (folder / file).read_bytes().splitlines(keepends=True)
    number = 1 if file == "items.jsonl" else 9
    old = b"balloons" if file == "items.jsonl" else b"It is"
    lines[number] = lines[number].replace(old, broken)
    (folder / file).write_bytes(b"".join(lines))
    assert_set_aside(folder, "invalid_unicode", f"{file}:{number + 1}")


def test_valid_unicode_is_kept(tmp_path: Path) -> None:
    prompt = "𝔸 cat 🐈 – “ça va”\u2028 \u0000"
    [item] = read_items(write_folder(tmp_path, [item_record(0, prompt=prompt)]))
    assert item.prompt == prompt


def test_an_unreadable_video_sets_its_item_aside(tmp_path: Path) -> None:
    folder = working_folder(tmp_path, 3)
    report = Report()
    items = read_items(folder, report=report, check_video=lambda path: "torn" if "00001/2" in str(path) else None)
    assert [item.item_id for item in items] == ["item-00000", "item-00002"]
    assert [(problem.kind, problem.place) for problem in report.problems] == [("unreadable_video", "items.jsonl:2")]


def test_strict_stops(tmp_path: Path) -> None:
    folder = working_folder(tmp_path, 3)
    (folder / "videos" / "00001" / "0.mp4").unlink()
    with pytest.raises(BadDataError, match="1 missing_video\n  items.jsonl:2: there is no file"):
        list(read_items(folder, strict=True))
    (folder / "videos" / "00002" / "0.mp4").unlink()
    assert WorkingFolder(folder).check().counts() == {"missing_video": 2}


def assert_set_aside(folder: Path, kind: str, place: str) -> None:
    """Item 1 of three is set aside for this reason, the others are used; a second pass says the same."""
    opened = WorkingFolder(folder)
    for _ in range(2):
        report = Report()
        assert [item.item_id for item in opened.items(report)] == ["item-00000", "item-00002"]
        assert {problem.kind for problem in report.problems} == {kind}
        assert [problem.place for problem in report.problems if problem.item_id == "item-00001"] == [place]
        assert (report.items_in, report.items_out, report.items_set_aside) == (3, 2, 1)
        json.dumps(report.to_dict()).encode("utf-8")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_bytes_items_in_are_items_out_and_items_reported(data: st.DataObject, tmp_path: Path) -> None:
    items = [item_record(number) for number in range(4)]
    folder = write_folder(tmp_path, items)
    for name in ("items.jsonl", "ratings.jsonl"):
        content = bytearray((folder / name).read_bytes())
        for _ in range(data.draw(st.integers(0, 4))):
            start = data.draw(st.integers(0, len(content) - 1))
            end = data.draw(st.integers(start, min(len(content), start + 60)))
            content[start:end] = data.draw(st.binary(max_size=12) | st.sampled_from([b"\n", b"null", b"1e999", b'"']))
        (folder / name).write_bytes(bytes(content))
    lines = [line for line in (folder / "items.jsonl").read_bytes().split(b"\n") if line.strip()]
    report = Report()
    read = list(read_items(folder, report=report))
    assert report.items_in == len(lines) == len(read) + report.items_set_aside
    assert report.items_out == len(read)
    blamed = {problem.place for problem in report.problems}
    assert report.items_set_aside == 0 or blamed
    for item in read:
        assert len(item.candidates) == 4
        assert all(1 <= rating <= 5 for candidate in item.candidates for rating in candidate.ratings.values())
        json.dumps(report.to_dict()).encode("utf-8")
