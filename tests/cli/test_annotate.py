"""`videoprefer annotate`: exit codes, what it says, and that it asks nothing twice."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.annotation.judge_server import Answer, JudgeServer, judge_server
from tests.annotation.working_folders import write_working_folder
from videorm_hf.annotation.journal import Journal
from videorm_hf.cli.videoprefer import app


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_working_folder(tmp_path)
    return tmp_path


def run(server: JudgeServer, folder: object, *arguments: object) -> Any:
    base = ("annotate", folder, "--model", "judge", "--base-url", server.base_url, "--num-workers", 0)
    return CliRunner().invoke(app, [str(argument) for argument in (*base, *arguments)])


def test_a_folder_is_rated_and_then_there_is_nothing_left(folder: Path) -> None:
    with judge_server() as server:
        result = run(server, folder, "--price-per-million-input", 1, "--price-per-million-output", 2)
        assert result.exit_code == 0, result.output
        assert "8 answered" in result.output and "cost of all calls so far: 0.0088" in result.output
        again = run(server, folder)
        assert again.exit_code == 0 and "0 answered" in again.output and "8 had a record" in again.output
        assert len(server.requests) == 8
    rows = [json.loads(line) for line in (folder / "ratings.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 8 and {row["rating"] for row in rows} == {4}


def test_the_working_directory_is_a_folder_as_any(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with judge_server() as server:
        assert run(server, ".", "--dry-run").exit_code == 0


def test_progress_shows_rate_cost_and_time_left(folder: Path) -> None:
    prices = ("--price-per-million-input", 1, "--price-per-million-output", 2)
    with judge_server(lambda number, body: Answer(delay=0.3)) as server:
        result = run(server, folder, "--concurrency", 1, "--dimension", "video_quality", *prices)
    assert "call/s" in result.stderr and "cost=" in result.stderr and "<00:0" in result.stderr


def test_failures_are_counted_by_reason(folder: Path) -> None:
    with judge_server(lambda number, body: Answer() if number else Answer("Rating: 7")) as server:
        result = run(server, folder)
        assert result.exit_code == 1 and "failed: 1 out_of_range (--retry-failures" in result.output
        assert "the first that failed: out_of_range: Rating: 7" in result.output
        again = run(server, folder)
        assert again.exit_code == 1 and "8 had a record, 1 of them of a failure (--retry-failures" in again.output
        assert "8 more have a record, 1 of them of a failure" in run(server, folder, "--dry-run").output
        assert run(server, folder, "--retry-failures").exit_code == 0
        assert run(server, folder).exit_code == 0
        assert len(server.requests) == 9


def test_a_dry_run_says_what_it_would_cost(folder: Path) -> None:
    with judge_server() as server:
        result = run(server, folder, "--dry-run", "--price-per-million-input", 2, "--price-per-million-output", 10)
        assert result.exit_code == 0
        assert "calls: 8 (0 more have a record)" in result.output and "tokens of requests: about 3" in result.output
        assert "tokens of replies: at most 4096" in result.output and "cost: at most about 0.1" in result.output
        assert "unknown without --price" in run(server, folder, "--dry-run").output
        assert server.requests == [] and not (folder / "ratings.jsonl").exists()


def test_the_maximum_cost_ends_a_run_cleanly(folder: Path) -> None:
    prices = ("--price-per-million-input", 1000, "--price-per-million-output", 1000)
    with judge_server() as server:
        result = run(server, folder, *prices, "--max-cost", 4, "--max-tokens", 60, "--tokens-per-image", 100)
    assert result.exit_code == 1
    assert "maximum cost of 4" in result.stderr and "calls are left; the same command goes on" in result.stderr


def test_the_swap_rate_is_reported(folder: Path) -> None:
    with judge_server(lambda number, body: Answer("Verdict: A\nRationale: It came first.")) as server:
        result = run(server, folder, "--mode", "pairwise", "--response-format", "text")
    assert result.exit_code == 0, result.output
    for dimension in ("prompt_following", "video_quality"):
        assert f"{dimension}: 2 pairs answered in both orders; swap rate 100.0%" in result.output
    assert (folder / "pairwise.jsonl").exists() and not (folder / "ratings.jsonl").exists()


def test_items_that_are_set_aside_are_named(folder: Path) -> None:
    (folder / "videos" / "b.mp4").unlink()
    with judge_server() as server:
        result = run(server, folder)
    assert "2 items read: 0 used, 2 set aside" in result.stderr and "missing_video" in result.stderr


def test_what_cannot_run_as_given_is_a_usage_error(folder: Path, tmp_path: Path) -> None:
    with judge_server() as server:
        for arguments in (
            (tmp_path / "absent",),
            (folder, "--mode", "triple"),
            (folder, "--dimension", "humour"),
            (folder, "--max-cost", "1"),
            (folder, "--base-url", "localhost"),
        ):
            result = run(server, *arguments)
            assert result.exit_code == 2 and "Error: " in result.stderr, (arguments, result.output)
        assert run(server, folder).exit_code == 0
        result = run(server, folder, "--num-frames", "4")
        assert result.exit_code == 2 and "was begun otherwise" in result.stderr
        with Journal(folder / "ratings.jsonl"):
            result = run(server, folder)
        assert result.exit_code == 2 and "Another run is writing" in result.stderr


def test_a_wrong_key_is_said_without_the_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-0123456789")
    answer = Answer("Incorrect API key provided: sk-secret-0123456789", status=401)
    with judge_server(lambda number, body: answer) as server:
        result = run(server, folder, "--api-key-env", "MY_KEY")
    assert result.exit_code == 1 and "refused the key" in result.output + result.stderr
    assert "$MY_KEY" in result.stderr and "sk-secret" not in result.output + result.stderr + str(result.exception)


def test_a_wrong_address_is_said_with_what_it_lacks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with judge_server(lambda number, body: Answer("no such page", status=404)) as server:
        result = run(server, folder)
    assert (
        result.exit_code == 1 and "check the model's name and the base URL, which usually ends in /v1" in result.stderr
    )
    assert "OPENAI_API_KEY" not in result.stderr
    with judge_server(lambda number, body: Answer("who are you?", status=403)) as server:
        assert "the key comes from $OPENAI_API_KEY, which is not set" in run(server, folder).stderr
