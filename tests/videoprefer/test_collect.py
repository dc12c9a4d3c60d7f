"""Collecting prompts: published formats, a draw that only the seed moves, every prompt accounted for, clips cut."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.video_factory import numbered_frames, write_video
from videorm_hf.models.videorm.video_decoding_videorm import read_frames
from videorm_hf.videoprefer import prompt_sources
from videorm_hf.videoprefer.collect import CollectSettings, collect_prompts
from videorm_hf.videoprefer.prompt_sources import SOURCES, FoundPrompt, open_source

VIDPROM = [f"number {number} of many prompts" for number in range(40)]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Small files in the published formats, and the videos of the caption sets; v_c is missing, v_d is broken."""
    folder = tmp_path / "sources"
    (folder / "activitynet").mkdir(parents=True)
    (folder / "msrvtt").mkdir()
    write_vidprom(folder / "VidProM_unique.csv", [*VIDPROM, "  ", "!?", "NUMBER 3 of many prompts.", "word " * 61])
    captions = {
        "v_a": {"duration": 3.0, "timestamps": [[0.5, 1.5], [2.9, 2.0]], "sentences": [" A man runs.", "He stops."]},
        "v_b": {"duration": 3.0, "timestamps": [[0.0, 3.0]], "sentences": ["Two women dance."]},
        "v_c": {"duration": 3.0, "timestamps": [[0.0, 3.0]], "sentences": ["A lost video."]},
        "v_d": {"duration": 3.0, "timestamps": [[0.0, 3.0]], "sentences": ["A broken video."]},
        "v_e": {"duration": 3.0, "timestamps": [[50.0, 60.0]], "sentences": ["A segment after the end."]},
    }
    (folder / "train.json").write_text(json.dumps(captions))
    for name in ("v_a", "v_b", "v_e"):
        write_video(folder / "activitynet" / f"{name}.mp4", numbered_frames(30), 10)
    (folder / "activitynet" / "v_d.mp4").write_bytes(b"broken")
    sentences = [
        {"caption": f"clip {video} said {sen}", "video_id": f"video{video}", "sen_id": 2 * video + sen}
        for video in range(3)
        for sen in range(2)
    ]
    videos = [{"video_id": f"video{video}", "start time": 5.0, "end time": 9.0} for video in range(3)]
    (folder / "train_val_videodatainfo.json").write_text(json.dumps({"videos": videos, "sentences": sentences}))
    for video in range(3):
        write_video(folder / "msrvtt" / f"video{video}.mp4", numbered_frames(10 + video), 10)
    return folder


def write_vidprom(path: Path, prompts: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["uuid", "prompt", "time", "toxicity"])
        writer.writerows([f"u{number}", prompt, "2023", 0.1] for number, prompt in enumerate(prompts))


def settings(sources: Path, **changes: Any) -> CollectSettings:
    fields: dict[str, Any] = {
        "counts": {"vidprom": 10, "activitynet": 3, "msrvtt": 2},
        "locations": {
            "vidprom": str(sources / "VidProM_unique.csv"),
            "activitynet": str(sources / "train.json"),
            "msrvtt": str(sources / "train_val_videodatainfo.json"),
        },
        "video_folders": {"activitynet": sources / "activitynet", "msrvtt": sources / "msrvtt"},
    }
    return CollectSettings(**{**fields, **changes})


def collected(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["item_id"]: record for record in map(json.loads, lines)}


def test_every_prompt_is_accounted_for(sources: Path, tmp_path: Path) -> None:
    counts = collect_prompts(tmp_path / "out", settings(sources), progress=False)
    assert counts["vidprom"] == {"read": 44, "empty": 2, "duplicate": 1, "too long": 1, "drawn": 10, "not drawn": 30}
    # Three captions are drawn; those whose clip cannot be had come before some of them, or not.
    assert counts["activitynet"]["read"] == 6 and counts["activitynet"]["drawn"] == 3
    for tally in counts.values():
        assert tally["read"] == sum(tally.values()) - tally["read"]
    records = collected(tmp_path / "out")
    sources_of = [record["prompt_source"] for record in records.values()]
    assert {name: sources_of.count(name) for name in SOURCES} == {"vidprom": 10, "activitynet": 3, "msrvtt": 2}
    assert json.loads((tmp_path / "out" / "collect.json").read_text())["sources"] == counts


def test_real_clips_are_cut_to_their_segments(sources: Path, tmp_path: Path) -> None:
    collect_prompts(tmp_path / "out", settings(sources), progress=False)
    records = collected(tmp_path / "out")
    assert {name for name in records if name.startswith("activitynet")} == {
        f"activitynet-v_{n}" for n in ("a-0", "a-1", "b-0")
    }
    first = records["activitynet-v_a-0"]
    assert first["prompt"] == "A man runs."
    assert first["real_segment"] == {"video_id": "v_a", "start": 0.5, "end": 1.5}
    assert len(set(read_frames(tmp_path / "out" / first["real_video"], 10).timestamps.tolist())) == 10
    turned = records["activitynet-v_a-1"]  # published with its ends exchanged
    assert (turned["real_segment"]["start"], turned["real_segment"]["end"]) == (2.0, 2.9)
    whole = next(record for name, record in records.items() if name.startswith("msrvtt"))
    video = whole["real_segment"]["video_id"]
    assert (tmp_path / "out" / whole["real_video"]).read_bytes() == (sources / "msrvtt" / f"{video}.mp4").read_bytes()
    assert "real_video" not in next(record for name, record in records.items() if name.startswith("vidprom"))
    assert not list((tmp_path / "out").rglob("*.unfinished*"))


def test_a_caption_without_a_clip_gives_way(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has 3 usable prompts, 4 are wanted"):
        collect_prompts(tmp_path / "out", settings(sources, counts={"activitynet": 4}), progress=False)
    assert not (tmp_path / "out" / "prompts.jsonl").exists()
    clips = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "videos" / "real").iterdir()}
    counts = collect_prompts(tmp_path / "out", settings(sources, counts={"activitynet": 3}), progress=False)
    assert len(clips) == 3 and counts["activitynet"]["drawn"] == 3
    assert all(path.stat().st_mtime_ns == time for path, time in clips.items())  # kept, not cut again


def test_only_the_seed_moves_the_draw(sources: Path, tmp_path: Path) -> None:
    counts = {"vidprom": 10}
    shuffled = list(enumerate(VIDPROM))
    random.Random(1).shuffle(shuffled)
    drawn = []
    for number, (seed, prompts) in enumerate([(0, VIDPROM), (0, [text for _, text in shuffled]), (1, VIDPROM)]):
        write_vidprom(sources / "VidProM_unique.csv", prompts)
        out = tmp_path / str(number)
        collect_prompts(out, settings(sources, counts=counts, seed=seed), progress=False)
        drawn.append([record["prompt"] for record in collected(out).values()])
    assert drawn[0] == drawn[1] != drawn[2]


def test_duplicates_are_found_across_sources(sources: Path, tmp_path: Path) -> None:
    write_vidprom(sources / "VidProM_unique.csv", ["two women DANCE", "another prompt"])
    counts = collect_prompts(
        tmp_path / "out", settings(sources, counts={"vidprom": 1, "activitynet": 2}), progress=False
    )
    total = {name: tally.get("duplicate", 0) for name, tally in counts.items()}
    assert sum(total.values()) == 1


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet", ".csv"])
def test_rows_of_captions_are_read_from_any_table(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"video_id": "video1", "caption": "one", "sen_id": 7},
        {"video_id": "video2", "caption": "two", "sen_id": 8},
    ]
    path = tmp_path / f"captions{suffix}"
    if suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    found = list(open_source(SOURCES["msrvtt"], str(path)))
    assert found == [FoundPrompt("video1-7", "one", "video1"), FoundPrompt("video2-8", "two", "video2")]


def test_a_data_set_is_read_by_its_id(tmp_path: Path) -> None:
    folder = tmp_path / "msr-vtt"
    folder.mkdir()
    pd.DataFrame([{"video_id": "video1", "caption": "one", "sen_id": 7}]).to_parquet(folder / "train.parquet")
    assert list(open_source(SOURCES["msrvtt"], str(folder))) == [FoundPrompt("video1-7", "one", "video1")]


def test_a_file_of_a_repository_is_fetched(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo_id: str, filename: str, repo_type: str) -> str:
        asked.append((repo_id, filename, repo_type))
        return str(sources / filename)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)  # the network's edge
    assert len(list(open_source(SOURCES["vidprom"], SOURCES["vidprom"].default))) == 44
    assert asked == [("WenhaoWang/VidProM", "VidProM_unique.csv", "dataset")]


def test_wrong_settings_are_refused(sources: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no prompt source 'webvid'"):
        CollectSettings(counts={"webvid": 1})
    with pytest.raises(ValueError, match="ActivityNet Captions come with their real clips: name the folder"):
        CollectSettings()
    with pytest.raises(ValueError, match="must not be negative"):
        CollectSettings(counts={"vidprom": -1})
    with pytest.raises(FileNotFoundError, match="no file absent.csv"):
        collect_prompts(tmp_path / "out", CollectSettings({"vidprom": 1}, {"vidprom": "absent.csv"}), progress=False)
    wrong = CollectSettings({"vidprom": 1}, {"vidprom": str(sources / "train.json")})
    with pytest.raises(
        ValueError, match="in which VidProM is published: it has no 'uuid', only v_a, v_b, v_c, v_d, v_e"
    ):
        collect_prompts(tmp_path / "out", wrong, progress=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "prompts.jsonl").write_text("")
    with pytest.raises(FileExistsError, match="drawn once"):
        collect_prompts(tmp_path / "out", settings(sources), progress=False)


def test_an_id_that_a_source_repeats_is_named(sources: Path, tmp_path: Path) -> None:
    rows = "".join(f"same,prompt number {number}\n" for number in range(3))
    (sources / "VidProM_unique.csv").write_text("uuid,prompt\n" + rows)
    with pytest.raises(ValueError, match="VidProM calls several prompts 'same', one of them 'prompt number"):
        collect_prompts(tmp_path / "out", settings(sources, counts={"vidprom": 2}), progress=False)
    assert not (tmp_path / "out").exists()
    collect_prompts(tmp_path / "out", settings(sources, counts={"vidprom": 1}), progress=False)
    assert list(collected(tmp_path / "out")) == ["vidprom-same"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.csv", "id,prompt\na,a dog\n", "own.csv is not in the format .*VidProM.*has no 'uuid', only id, prompt."),
        ("own.csv", "", "VidProM at .*own.csv is empty: expected at least 2 prompts"),
        ("own.csv", "uuid,prompt\n", "VidProM at .*own.csv is empty: expected at least 2 prompts"),
        ("own.json", "", "own.json is not JSON"),
    ],
)
def test_a_file_of_ones_own_is_told_what_it_lacks(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    chosen = CollectSettings({"vidprom": 2}, {"vidprom": str(tmp_path / name)})
    with pytest.raises(ValueError, match=message):
        collect_prompts(tmp_path / "out", chosen, progress=False)


def test_the_defaults_add_up_to_the_papers_number() -> None:
    assert sum(CollectSettings(video_folders={"activitynet": Path(), "msrvtt": Path()}).counts.values()) == 14_000
    assert prompt_sources.SOURCES.keys() == {"vidprom", "activitynet", "msrvtt"}
