"""`videorm score`: tables in and out, resuming, exit codes, and one output from two processes."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from tests.factories import tiny_videorm_folder
from tests.video_factory import numbered_frames, write_sound, write_video
from videorm_hf.cli.videorm import app

PROMPTS = ("a cat", 'a "dog", running')


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 12 rows: five readable clips, one that is absent, for two prompts."""
    folder = tmp_path_factory.mktemp("pairs")
    for n in range(4):
        write_video(folder / f"{n}.mp4", numbered_frames(8 + 3 * n))
    write_sound(folder / "4.mp4")
    rows = [{"video": f"{n}.mp4", "prompt": prompt, "id": n} for prompt in PROMPTS for n in range(6)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pd.DataFrame(rows).to_csv(folder / "pairs.csv", index=False)
    pd.DataFrame(rows).to_parquet(folder / "pairs.parquet", index=False)
    return folder / "pairs.jsonl"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["score", *map(str, arguments), "--num-workers", "0", "--device", "cpu"])


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def scored(pairs: Path, videorm_folder: Path) -> Path:
    output = pairs.parent / "scored.jsonl"
    result = run(videorm_folder, "--input", pairs, "--output", output, "--batch-size", 2)
    assert result.exit_code == 1, result.output
    assert "8 of 12 videos scored; not scored: 2 no_video_stream, 2 missing" in result.output
    assert "missing: no file at " in result.output  # which one
    return output


def test_rows_keep_their_order_and_columns(scored: Path) -> None:
    rows = rows_of(scored)
    assert [(row["id"], row["prompt"]) for row in rows] == [(n, prompt) for prompt in PROMPTS for n in range(6)]
    assert [row["error"] for row in rows[:6]] == [None] * 4 + ["no_video_stream", "missing"]
    assert all(-1 <= row["reward"] <= 1 for row in rows if row["error"] is None)
    assert list(rows[0]) == ["video", "prompt", "id", "reward", "error", "message"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_csv_and_parquet_say_the_same(scored: Path, pairs: Path, videorm_folder: Path, suffix: str) -> None:
    output = pairs.parent / f"out{suffix}"
    result = run(videorm_folder, "--input", pairs.with_suffix(suffix), "--output", output)
    assert result.exit_code == 1, result.output
    if suffix == ".csv":
        with output.open(newline="") as file:
            rows = [{k: v or None for k, v in row.items()} for row in csv.DictReader(file)]
        rows = [row | {"reward": row["reward"] and float(row["reward"]), "id": int(row["id"] or 0)} for row in rows]
    else:
        table = pd.read_parquet(output)
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
    for row, expected in zip(rows, rows_of(scored), strict=True):
        assert row == expected | {"reward": pytest.approx(expected["reward"], abs=1e-6)}
    assert sorted(path.name for path in pairs.parent.glob(f"out{suffix}*")) == [
        output.name,
        f"{output.name}.settings.json",
    ]


def test_an_interrupted_output_is_continued(scored: Path, pairs: Path, videorm_folder: Path, tmp_path: Path) -> None:
    whole = scored.read_bytes()
    lines = whole.splitlines(keepends=True)
    marked = lines[0].replace(b'"id": 0', b'"id": 77')  # would be 0 again if the row were scored again
    output = tmp_path / "out.jsonl"
    output.write_bytes(b"".join([marked, *lines[1:5]]) + lines[5][:20])
    (tmp_path / "out.jsonl.settings.json").write_bytes((pairs.parent / "scored.jsonl.settings.json").read_bytes())

    refused = run(videorm_folder, "--input", pairs, "--output", output)
    assert refused.exit_code == 2 and "overwrite" in refused.output
    assert output.read_bytes().startswith(marked)
    result = run(videorm_folder, "--input", pairs, "--output", output, "--resume")
    assert result.exit_code == 1, result.output
    rows = rows_of(output)
    assert [row["id"] for row in rows] == [77, *range(1, 6), *range(6)]
    expected = rows_of(scored)
    assert [row["reward"] for row in rows[:4]] == [row["reward"] for row in expected[:4]]
    assert rows[8]["reward"] == pytest.approx(expected[8]["reward"], abs=1e-6)


def test_overwrite_starts_anew(videorm_folder: Path, pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text("what was here before\n")
    arguments = ("--videos", pairs.parent / "0.mp4", "--prompt", "a cat", "--output", output)
    assert run(videorm_folder, *arguments).exit_code == 2
    assert run(videorm_folder, *arguments, "--overwrite").exit_code == 0
    assert len(rows_of(output)) == 1


def test_an_interrupted_table_is_continued(scored: Path, pairs: Path, videorm_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    (tmp_path / "out.parquet.partial.jsonl").write_bytes(b"".join(scored.read_bytes().splitlines(keepends=True)[:7]))
    (tmp_path / "out.parquet.settings.json").write_bytes((pairs.parent / "scored.jsonl.settings.json").read_bytes())
    assert run(videorm_folder, "--input", pairs, "--output", output, "--resume").exit_code == 1
    rewards = [row["reward"] for row in rows_of(scored)]
    assert pd.read_parquet(output)["reward"].dropna().tolist() == pytest.approx([r for r in rewards if r is not None])


def test_a_finished_output_can_be_extended(videorm_folder: Path, pairs: Path, tmp_path: Path) -> None:
    lines = pairs.read_text().splitlines(keepends=True)
    grown = pairs.parent / "grown.jsonl"
    for count in (2, 4, 4):
        grown.write_text("".join(lines[:count]))
        result = run(videorm_folder, "--input", grown, "--output", tmp_path / "out.csv", "--resume")
        assert result.exit_code == 0, result.output
        assert len(pd.read_csv(tmp_path / "out.csv")) == count


def test_other_settings_or_another_input_cannot_continue(
    scored: Path, pairs: Path, videorm_folder: Path, tmp_path: Path
) -> None:
    before = scored.read_bytes()
    other = tiny_videorm_folder(tmp_path / "other", seed=1)
    resume = ("--input", pairs, "--output", scored, "--resume")
    for arguments, named in (
        ((other, *resume), "weights"),
        ((videorm_folder, *resume, "--num-frames", 4), "num_frames was 8, is 4"),
        ((videorm_folder, *resume, "--dtype", "bfloat16"), "dtype"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and named in result.output, result.output
    same_weights = shutil.copytree(videorm_folder, tmp_path / "same")
    config = json.loads((same_weights / "config.json").read_text())
    (same_weights / "config.json").write_text(json.dumps({**config, "temporal_shift": "none"}))
    result = run(same_weights, *resume)
    assert result.exit_code == 2 and "configuration" in result.output, result.output
    reversed_pairs = pairs.parent / "reversed.jsonl"
    reversed_pairs.write_text("\n".join(reversed(pairs.read_text().splitlines())))
    result = run(videorm_folder, "--input", reversed_pairs, "--output", scored, "--resume")
    assert result.exit_code == 2 and "row 1" in result.output
    assert scored.read_bytes() == before


def test_videos_on_the_command_line(videorm_folder: Path, pairs: Path) -> None:
    videos = [pairs.parent / f"{n}.mp4" for n in range(3)]
    result = run(videorm_folder, "--videos", *videos, "--prompt", "a [bold] cat")
    assert result.exit_code == 0, result.output
    assert "3 of 3 videos scored" in result.output and "reward" in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"video": "a.mp4", "prompt": ""}\n', "row 1: prompt must be a non-empty string"),
        ('{"file": "a.mp4", "prompt": "x"}\n', "must have the columns video and prompt: got file, prompt"),
        ('{"video": "a.mp4", "prompt": "a"}\n{"video": "b.mp4", \n', "line 2 is not JSON"),
        ("[1]\n", "line 1 must be an object"),
        ('{"video": "a.mp4", "prompt": "a", "reward": 1}\n', "written by scoring"),
    ],
)
def test_bad_tables_are_usage_errors(videorm_folder: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "pairs.jsonl").write_text(content)
    result = run(videorm_folder, "--input", tmp_path / "pairs.jsonl")
    assert result.exit_code == 2 and message in result.output


def test_bad_arguments_are_usage_errors(videorm_folder: Path, pairs: Path, tmp_path: Path) -> None:
    for arguments in (
        (videorm_folder,),
        (videorm_folder, "--videos", "a.mp4"),
        (videorm_folder, "--videos", "a.mp4", "--prompt", "a", "--input", pairs),
        (videorm_folder, "--input", pairs, "--output", tmp_path / "out.xlsx"),
        (videorm_folder, "--input", pairs, "--resume"),
        (videorm_folder, "--input", tmp_path / "absent.jsonl"),
        (tmp_path / "absent", "--input", pairs),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, (arguments, result.output)


@pytest.mark.parametrize(("word", "is_said"), [("a dog", True), ("a dog. It runs", True), ("my dog.mp4", False)])
def test_a_second_prompt_is_told_from_a_missing_video(
    videorm_folder: Path, pairs: Path, word: str, is_said: bool
) -> None:
    result = run(videorm_folder, "--videos", pairs.parent / "0.mp4", "--prompt", "a cat", word)
    assert result.exit_code == 1 and "1 missing" in result.output
    assert ("--prompt takes one text for all videos" in result.output) == is_said


def test_too_many_frames_are_refused_before_anything_is_written(
    videorm_folder: Path, pairs: Path, tmp_path: Path
) -> None:
    result = run(videorm_folder, "--input", pairs, "--output", tmp_path / "out.jsonl", "--num-frames", 99)
    assert result.exit_code == 2 and "max_frames=32, got 99" in " ".join(result.output.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_write_what_one_does(scored: Path, pairs: Path, videorm_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    arguments = ["score", videorm_folder, "--input", pairs, "--output", output, "--batch-size", 2, "--num-workers", 0]
    result = subprocess.run(
        [*launch, "-m", "videorm_hf.cli.videorm", *map(str, arguments), "--device", "cpu"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=180,
        check=False,
    )
    assert "8 of 12 videos scored" in result.stdout, result.stderr[-3000:]
    for row, expected in zip(rows_of(output), rows_of(scored), strict=True):
        assert row == expected | {"reward": pytest.approx(expected["reward"], abs=1e-6)}


@pytest.mark.parametrize("words", [("--input", "absent.jsonl"), ("--input", "absent.txt")])
def test_an_error_says_what_and_where_and_its_traceback_is_one_option_away(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["score", "videorm-mini", *words])
    assert result.exit_code == 2 and "absent" in result.output and "Errno" not in result.output
    assert "--traceback score ..." in result.output
    asked = CliRunner().invoke(app, ["--traceback", "score", "videorm-mini", *words])
    assert isinstance(asked.exception, (FileNotFoundError, ValueError))
