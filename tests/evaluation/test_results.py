"""Reports: to JSON and back, and rows of tables."""

from pathlib import Path

from videorm_hf.evaluation.results import (
    DimensionResult,
    EvaluationReport,
    ModelResult,
    RewardResult,
    RobustnessResult,
    accuracy_rows,
    model_rows,
    robustness_rows,
    scoring_rows,
)

DIMENSION = DimensionResult("quality", 3, 1, 0, 2, 2 / 3, (0.5, 1.0), 0.5, 0.75, 0.1, None, -0.25, None)
NOTHING = DimensionResult("motion", 0, 0, 0, 6, None, None, None, None, None, None, None, None)
REPORT = EvaluationReport(
    benchmark={"name": "x", "title": "X"},
    num_items=2,
    confidence=0.95,
    num_resamples=10,
    seed=0,
    rewards=(
        RewardResult(
            name="mine",
            settings={"reward": "videorm:é"},
            num_scored=4,
            failures={"missing": 2},
            first_failure="there is no file x.mp4",
            seconds_per_video=0.25,
            dimensions=(DIMENSION, NOTHING),
            models=(ModelResult("quality", "m", 3, 0.5, 0.25, None, 0.1),),
            robustness=(RobustnessResult("reversed", "heed", 4, 0.75, (0.5, 1.0), 0.2, 0.0, 3),),
        ),
    ),
)


def test_json_and_back(tmp_path: Path) -> None:
    REPORT.save(tmp_path / "report.json")
    assert EvaluationReport.load(tmp_path / "report.json") == REPORT
    assert "videorm:é" in (tmp_path / "report.json").read_text(encoding="utf-8")


def test_rows() -> None:
    first, second = accuracy_rows(REPORT)
    assert (first["accuracy %"], first["95% interval"], first["left out"]) == (66.67, "50.0 to 100.0", 2)
    assert second["accuracy %"] is None and second["95% interval"] is None
    assert model_rows(REPORT)[0]["wins by score %"] == 25
    assert robustness_rows(REPORT)[0]["original wins %"] == 75
    assert scoring_rows(REPORT) == [
        {"reward": "mine", "videos scored": 4, "not scored": "2 missing", "ms per video": 250}
        | {"the first": "there is no file x.mp4"}
    ]
