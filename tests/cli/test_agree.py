"""`videoprefer agree` on published human ratings and on files."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.annotation.test_agreement import MODELS, PEOPLE, rating, write
from tests.real_data import real_data
from videorm_hf.cli.videoprefer import app


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["agree", *map(str, arguments)], env={"COLUMNS": "200"})


# Pairwise accuracies on TVGE's alignment, 1,898 untied pairs, ties counted half; worked out outside this project.
PUBLISHED = {"CLIP Score": 0.6280, "X-CLIP Score": 0.6133, "BLIP-BLEU": 0.5540, "T2VScore-A (GPT-4V)": 0.6085}


@pytest.mark.parametrize("metric", PUBLISHED)
def test_published_metrics_against_tvges_people(metric: str, tmp_path: Path) -> None:
    people = f"tvge:{real_data('tables')}"
    options = ("--dimension", "alignment", "--output", tmp_path, "--resamples", 50)
    result = run(f"{people}#{metric}", people, *options)
    assert result.exit_code == 0, result.output
    assert "Tie rule: ties of the reference are dropped, a tie of the judge counts one half" in result.output
    found = json.loads((tmp_path / "agreement.json").read_text(encoding="utf-8"))
    assert found["num_pairs"] == 1898 and found["num_videos"] == 1015
    assert found["accuracy"]["value"] == pytest.approx(PUBLISHED[metric], abs=5e-5)
    assert [row["model"] for row in found["by_model"]] == ["floor33", "gen2", "modelscope", "pika", "zeroscope"]
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG") and found["confusion"] is None


def test_a_rating_file_against_people_of_fetv(tmp_path: Path) -> None:
    rows = [
        rating(str(item), model, 3 + (model == "ZeroScope"), "prompt_following")
        for item in range(1, 248)
        for model in ("CogVideo", "ZeroScope", "ModelScopeT2V", "Text2Video-Zero")
    ]
    judge = write(tmp_path / "ratings.jsonl", rows)
    people = f"fetv:{real_data('tables/fetv_human_ratings.csv')}"
    names = ("--dimension", "prompt_following", "--reference-dimension", "alignment")
    result = run(judge, people, *names, "--output", tmp_path / "out", "--resamples", 20)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "agreement.json").read_text(encoding="utf-8"))
    assert {row["model"]: row["judge_mean"] for row in found["by_model"]}["ZeroScope"] == 4.0
    assert (tmp_path / "out" / "confusion.png").exists() and sum(map(sum, found["confusion"])) == found["num_videos"]


def test_a_judge_against_a_judge(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", [rating(*video, value) for video, value in PEOPLE.items()])
    rows = [{"item_id": i, "prompt": "p", "prompt_source": "test", "candidates": []} for i in "ab"]
    for row in rows:
        for candidate in "123":
            (tmp_path / f"{candidate}.mp4").touch()
            entry = {"candidate_id": candidate, "video": f"{candidate}.mp4", "model": MODELS["a", candidate]}
            row["candidates"].append(entry)  # type: ignore[attr-defined]
    write(tmp_path / "items.jsonl", rows)
    result = run(one, one, "--dimension", "video_quality", "--folder", tmp_path, "--resamples", 20)
    assert result.exit_code == 0, result.output
    assert "1.000" in result.output and "model3" in result.output and "By source model" in result.output


def test_what_cannot_be_compared_is_a_usage_error(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", [rating(*video, value) for video, value in PEOPLE.items()])
    for arguments in (
        (one, tmp_path / "absent.jsonl"),
        (one, one, "--dimension", "humour"),
        (one, one, "--dimension", "video_quality", "--score-ties", "never"),
        (one, f"tvge:{tmp_path}"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and "Error: " in result.stderr, (arguments, result.output)


def test_the_mean_is_of_the_dimensions_that_both_sides_have(tmp_path: Path) -> None:
    people = [rating(*video, value) for video, value in PEOPLE.items()]
    other = [rating(*video, (value + 1) / 2, "prompt_following") for video, value in PEOPLE.items()]
    one = write(tmp_path / "people.jsonl", people)
    judge = write(tmp_path / "judge.jsonl", people + other)
    result = run(judge, one, "--resamples", 20)
    assert result.exit_code == 0 and "1.000" in result.output
    assert "judge.jsonl (video_quality) against people.jsonl (video_quality)" in result.output

    flat = [rating(*video, 1, "humour") for video in PEOPLE]
    more = write(tmp_path / "more.jsonl", [*people, *other, *flat])
    result = run(judge, more, "--output", tmp_path / "out", "--resamples", 20)
    name = "mean of prompt_following, video_quality"
    found = json.loads((tmp_path / "out" / "agreement.json").read_text(encoding="utf-8"))
    assert found["judge_dimension"] == found["reference_dimension"] == name and found["num_videos"] == len(PEOPLE)
    assert f"judge.jsonl ({name}) against more.jsonl ({name})" in result.output
    assert sum(found["confusion"][step][step] for step in range(5)) == len(PEOPLE)  # no humour is in either

    humour = write(tmp_path / "humour.jsonl", [row | {"dimension": "humour"} for row in people])
    result = run(judge, humour)
    assert result.exit_code == 2 and "has prompt_following, video_quality, " in result.stderr
    assert "has humour, and none is the same: name one of each with --dimension" in result.stderr
    named = ("--dimension", "video_quality", "--reference-dimension", "humour")
    assert run(judge, humour, *named, "--resamples", 20).exit_code == 0


def test_files_without_an_opinion_say_so(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", [rating(*video, value) for video, value in PEOPLE.items()])
    (tmp_path / "empty.csv").touch()
    result = run(one, tmp_path / "empty.csv")
    assert (
        result.exit_code == 2 and "empty.csv is empty: expected a line with the names of its columns" in result.stderr
    )
    failed = [rating(*video, None) | {"failure": "transport"} for video in PEOPLE]
    result = run(write(tmp_path / "failed.jsonl", failed), one)
    message = "failed.jsonl holds 6 records for 'video_quality', none with a rating or verdict: 6 transport."
    assert result.exit_code == 2 and message in result.stderr
