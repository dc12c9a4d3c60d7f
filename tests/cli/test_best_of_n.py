"""`videorm best-of-n` on a small labelled set."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.benchmarks.test_readers import write_tvge
from tests.cli.labelled_clips import write_labelled_clips
from videorm_hf.cli.videorm import app


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["best-of-n", *map(str, arguments), "--resamples", "20"])


def test_a_reward_chooses(videorm_folder: Path, tmp_path: Path) -> None:
    clips = write_labelled_clips(tmp_path)
    result = run("--benchmark", "fetv", "--data", clips, "--reward", videorm_folder, "--output", tmp_path / "out",
                 "--dimension", "static_quality", "--n", 1, "--n", 3, "--n", 8, "--device", "cpu",
                 "--num-workers", 0)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "no item has enough videos for n = 8" in result.output
    content = json.loads((tmp_path / "out" / "best_of_n.json").read_text())
    rows = {(row["reward"], row["n"]): row for row in content["results"]}
    assert set(rows) == {(name, n) for name in ("people (upper bound)", "videorm") for n in (1, 3)}
    assert rows["videorm", 1]["win_over_random"] == pytest.approx(0.5)
    assert rows["people (upper bound)", 3] == rows["people (upper bound)", 3] | {
        "num_items": 3,
        "rating": 3,
        "win_over_random": 1,
        "win_over_best": 0.5,
        "best_rate": 1,
    }
    assert 0 <= rows["videorm", 3]["win_over_random"] <= 1
    for name in ("best_of_n.png", "best_of_n_vs_best.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    assert "vs another %" in (tmp_path / "out" / "best_of_n.md").read_text()
    (tmp_path / "0_A.mp4").unlink()
    again = run("--benchmark", "fetv", "--data", clips, "--reward", videorm_folder, "--output", tmp_path / "out",
                "--device", "cpu", "--num-workers", 0)  # fmt: skip
    assert again.exit_code == 1 and "1 videos are left out" in again.output
    assert "the items differ with n" not in again.output  # n = 1 and 2 only: every group still has two


def test_a_published_metric_chooses_by_the_mean(tmp_path: Path) -> None:
    result = run("--benchmark", "tvge", "--data", write_tvge(tmp_path), "--reward", "column:CLIP Score", "--output",
                 tmp_path / "out")  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "best_of_n.json").read_text())
    assert content["title"] == "TVGE, mean"
    # Of the first prompt the metric takes gen2, which people rate lower; of the second all are tied.
    (row,) = [row for row in content["results"] if (row["reward"], row["n"]) == ("CLIP Score", 2)]
    assert (row["win_over_random"], row["best_rate"]) == (0.25, 0.5)


def test_votes_cannot_choose(tmp_path: Path) -> None:
    (tmp_path / "genai_human_votes.csv").write_text("idx,prompt,human_vote\n7,castle,leftvote\n")
    result = run("--benchmark", "genai_bench", "--data", tmp_path, "--reward", "x", "--output", tmp_path / "out")
    assert result.exit_code == 2 and "needs ratings of single videos" in result.output
