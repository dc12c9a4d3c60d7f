"""`videorm evaluate`: files written, an interrupted run continued, another reward refused, exit codes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.benchmarks.test_readers import write_tvge
from tests.cli.labelled_clips import write_labelled_clips
from tests.factories import tiny_videorm_folder
from videorm_hf.cli.videorm import app
from videorm_hf.evaluation.results import EvaluationReport

ON_CPU = ("--device", "cpu", "--num-workers", "0", "--resamples", "20")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labelled_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def evaluated(clips: Path, videorm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run with the robustness checks."""
    output = tmp_path_factory.mktemp("evaluated")
    result = run("--benchmark", "fetv", "--data", clips, "--reward", f"videorm:{videorm_folder}", "--output", output,
                 "--robustness", *ON_CPU)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Tie rule: pairs that people call tied are dropped, and a tied score counts one half" in " ".join(
        result.output.split()
    )
    return output


def test_the_report_holds_everything(evaluated: Path) -> None:
    report = EvaluationReport.load(evaluated / "report.json")
    (reward,) = report.rewards
    assert (reward.name, reward.num_scored, reward.failures) == ("videorm:videorm", 9, {})
    assert reward.seconds_per_video > 0
    by_name = {result.dimension: result for result in reward.dimensions}
    assert list(by_name) == ["static_quality", "temporal_quality", "alignment", "mean"]
    assert (by_name["static_quality"].num_pairs, by_name["static_quality"].num_human_ties) == (9, 0)
    low, high = by_name["static_quality"].interval
    assert 0 <= low <= by_name["static_quality"].accuracy <= high <= 1
    assert by_name["temporal_quality"].accuracy is None and by_name["temporal_quality"].num_human_ties == 9
    assert {result.model for result in reward.models} == {"A", "B", "C"}
    checks = {result.check: result for result in reward.robustness}
    assert {name for name, result in checks.items() if result.should == "heed"} == {
        "other_prompt",
        "reversed",
        "shuffled",
        "frozen",
    }
    assert checks["container"].drift == checks["fps_doubled"].drift == 0
    assert all(result.num_videos == 9 for result in checks.values())


def test_markdown_and_charts(evaluated: Path) -> None:
    text = (evaluated / "report.md").read_text(encoding="utf-8")
    for part in ("Tie rule", "## Agreement with people", "## By source model", "## Robustness", "## Scoring"):
        assert part in text
    for name in ("accuracy.png", "robustness_heed.png", "robustness_ignore.png"):
        assert (evaluated / name).read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_goes_on(evaluated: Path, clips: Path, videorm_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(evaluated, tmp_path / "out")
    scores = tmp_path / "out" / "scores" / "videorm%3Avideorm.jsonl"
    lines = scores.read_text().splitlines(keepends=True)
    first = json.loads(lines[1])
    assert first["variant"] == "original"
    # Would be what it was if it were scored again.
    scores.write_text("".join([lines[0], json.dumps(first | {"reward": 1000.0}) + "\n", *lines[2:5]]) + lines[5][:30])
    options = ("--benchmark", "fetv", "--data", clips, "--reward", f"videorm:{videorm_folder}")
    result = run(*options, "--output", tmp_path / "out", *ON_CPU)
    assert result.exit_code == 0, result.output
    again = [json.loads(line) for line in scores.read_text().splitlines()[1:]]
    assert again[0]["reward"] == 1000.0 and len({row["video"] for row in again}) == 9
    report = EvaluationReport.load(tmp_path / "out" / "report.json")
    assert max(result.mean_score for result in report.rewards[0].models) > 300
    assert report.rewards[0].robustness == ()


def test_scores_of_other_weights_or_frames_are_refused(
    evaluated: Path, clips: Path, videorm_folder: Path, tmp_path: Path
) -> None:
    other = tiny_videorm_folder(tmp_path / "videorm", seed=1)
    before = (evaluated / "scores" / "videorm%3Avideorm.jsonl").read_bytes()
    options = ("--benchmark", "fetv", "--data", clips, "--output", evaluated, *ON_CPU)
    for arguments, named in (
        (("--reward", f"videorm:{other}"), "weights was"),
        (("--reward", f"videorm:{videorm_folder}", "--num-frames", 12), "num_frames was 8, is 12"),
    ):
        result = run(*options, *arguments)
        assert result.exit_code == 2 and named in result.output, result.output
    assert (evaluated / "scores" / "videorm%3Avideorm.jsonl").read_bytes() == before


def test_published_metrics_need_no_clips(tmp_path: Path) -> None:
    write_tvge(tmp_path)
    result = run("--benchmark", "tvge", "--data", tmp_path, "--reward", "column:CLIP Score", "--output",
                 tmp_path / "out", "--dimension", "quality")  # fmt: skip
    assert result.exit_code == 0, result.output
    (reward,) = EvaluationReport.load(tmp_path / "out" / "report.json").rewards
    (quality,) = reward.dimensions
    assert (reward.name, quality.dimension, quality.accuracy, quality.num_human_ties) == (
        "CLIP Score",
        "quality",
        1,
        1,
    )
    assert reward.seconds_per_video is None and not (tmp_path / "out" / "scores").exists()


def test_unreadable_videos_are_counted_and_their_pairs_left_out(
    clips: Path, videorm_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(clips.parent, tmp_path / "clips")
    (tmp_path / "clips" / "0_A.mp4").unlink()
    (tmp_path / "clips" / "1_B.mp4").write_text("no video")
    result = run("--benchmark", "fetv", "--data", tmp_path / "clips", "--reward", videorm_folder, "--output",
                 tmp_path / "out", "--dimension", "static_quality", *ON_CPU)  # fmt: skip
    assert result.exit_code == 1, result.output
    assert "1 missing" in result.output and "1 not_a_video" in result.output
    (reward,) = EvaluationReport.load(tmp_path / "out" / "report.json").rewards
    assert (reward.num_scored, reward.failures) == (7, {"missing": 1, "not_a_video": 1})
    assert reward.first_failure == f"there is no file {tmp_path / 'clips' / '0_A.mp4'}"
    assert (reward.dimensions[0].num_left_out, reward.dimensions[0].num_pairs) == (4, 5)


def test_what_cannot_run_as_given(clips: Path, videorm_folder: Path, tmp_path: Path) -> None:
    for arguments, named in (
        (("--benchmark", "vbench2", "--data", clips, "--reward", "x"), "no labelled set"),
        (("--benchmark", "tvge", "--data", tmp_path, "--reward", "x"), "t2vscore_alignment_score.json"),
        (("--benchmark", "fetv", "--data", clips, "--reward", "column:CLIP Score"), "no metric 'CLIP Score'"),
        (("--benchmark", "fetv", "--data", clips, "--reward", "best:x"), "no reward 'best'"),
        (("--benchmark", "fetv", "--data", clips, "--reward", "a", "--reward", "a"), "none twice"),
        (
            ("--benchmark", "fetv", "--data", clips, "--reward", videorm_folder, "--dimension", "joy"),
            "no dimension 'joy'",
        ),
        (
            ("--benchmark", "fetv", "--data", clips, "--reward", videorm_folder, "--num-frames", 1),
            "looks at 8 frames",
        ),
    ):
        result = run(*arguments, "--output", tmp_path / "out", *ON_CPU)
        assert result.exit_code == 2 and named in " ".join(result.output.split()), result.output


def test_the_report_of_another_set_is_not_replaced(evaluated: Path, tmp_path: Path) -> None:
    before = (evaluated / "report.json").read_bytes()
    (tmp_path / "tvge").mkdir()
    write_tvge(tmp_path / "tvge")
    result = run("--benchmark", "tvge", "--data", tmp_path / "tvge", "--reward", "column:CLIP Score", "--output",
                 evaluated, *ON_CPU)  # fmt: skip
    assert result.exit_code == 2
    assert "holds a report on FETV" in " ".join(result.output.split())
    assert (evaluated / "report.json").read_bytes() == before


def test_no_clip_at_all_is_an_error_that_names_one(clips: Path, videorm_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "clips.jsonl").write_bytes(clips.read_bytes())
    result = run("--benchmark", "fetv", "--data", tmp_path / "clips.jsonl", "--reward", videorm_folder, "--output",
                 tmp_path / "out", *ON_CPU)  # fmt: skip
    assert result.exit_code == 2
    assert "None of 9 videos could be scored by videorm; the first," in " ".join(result.output.split())
    assert not (tmp_path / "out" / "report.json").exists()
