"""`videoprefer sweep`: frames x temperature against people, resumed, drawn."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from tests.annotation.judge_server import Answer, JudgeServer, Request, judge_server
from tests.annotation.test_agreement import rating, write
from tests.annotation.working_folders import write_working_folder
from tests.real_data import real_data
from tests.video_factory import read_numbers
from videorm_hf.cli.videoprefer import app


def run(server: JudgeServer, folder: object, output: Path, *arguments: object) -> Any:
    base = ("sweep", folder, "--model", "judge", "--base-url", server.base_url, "--num-workers", 0, "--output", output)
    return CliRunner().invoke(app, [str(argument) for argument in (*base, "--resamples", 50, *arguments)])


def counting_judge(number: int, body: dict[str, Any]) -> Answer:
    """Prefers the longer of the two clips, which it can tell by the last frame's number, but not from one frame."""
    last = Request(body, {}, 0.0).images[-1]
    frame = np.asarray(Image.open(io.BytesIO(base64.b64decode(last.partition(",")[2]))))
    return Answer(f"Rating: {4 if read_numbers(frame[None])[0] > 12 else 2}")


def test_more_frames_help_a_judge_that_needs_them(tmp_path: Path) -> None:
    write_working_folder(tmp_path, num_items=3)
    people = [rating(f"item{n}", f"c{m}", 2 + m) for n in range(3) for m in range(2)]
    reference = write(tmp_path / "people.jsonl", people)
    options = ("--reference", reference, "--dimension", "video_quality")
    combinations = ("--num-frames", 1, "--num-frames", 4, "--temperature", 0.3, "--temperature", 0.9)
    output = tmp_path / "sweep"
    with judge_server(counting_judge) as server:
        result = run(server, tmp_path, output, *options, *combinations)
        assert result.exit_code == 0, result.output
        assert len(server.requests) == 4 * 6
        points = json.loads((output / "sweep.json").read_text(encoding="utf-8"))
        found = {(p["num_frames"], p["temperature"]): p["agreement"]["accuracy"]["value"] for p in points}
        assert found == {(1, 0.3): 0.5, (4, 0.3): 1.0, (1, 0.9): 0.5, (4, 0.9): 1.0}
        assert (output / "sweep.png").read_bytes().startswith(b"\x89PNG") and "Tie rule" in result.output
        # Resumed: a journal that lost its last two records is asked for those, the others for nothing.
        journal = output / "frames4_temperature0.9.jsonl"
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(True)[:-2]))
        assert run(server, tmp_path, output, *options, *combinations).exit_code == 0
        assert len(server.requests) == 4 * 6 + 2
        assert json.loads((output / "sweep.json").read_text(encoding="utf-8")) == points


def test_the_maximum_cost_bounds_the_whole_sweep(tmp_path: Path) -> None:
    write_working_folder(tmp_path, num_items=3)
    reference = write(
        tmp_path / "people.jsonl", [rating(f"item{n}", f"c{m}", 2 + m) for n in range(3) for m in range(2)]
    )
    prices = ("--price-per-million-input", 1000, "--price-per-million-output", 1000, "--max-tokens", 60)
    options = ("--reference", reference, "--dimension", "video_quality", "--tokens-per-image", 10, *prices)
    with judge_server() as server:
        result = run(server, tmp_path, tmp_path / "sweep", *options, "--max-cost", 9)
        assert result.exit_code == 1 and len(server.requests) <= 8  # a reply costs 1.05
        assert 6 < len(server.requests)  # more than the first combination


def test_a_sweep_over_fetvs_real_clips_and_ratings(tmp_path: Path) -> None:
    options = ("--dimension", "prompt_following", "--reference-dimension", "alignment", "--num-items", 4)
    replies = ("Rating: 2", "Rating: 3", "Rating: 5")
    with judge_server(lambda number, body: Answer(replies[number % 3])) as server:
        fetv = f"fetv:{real_data('clips.jsonl')}"
        result = run(server, fetv, tmp_path / "sweep", *options, "--num-frames", 2, "--temperature", 0.3)
        assert result.exit_code == 0, result.output
        assert len(server.requests) == 16 and all(len(request.images) == 2 for request in server.requests)
    (point,) = json.loads((tmp_path / "sweep" / "sweep.json").read_text(encoding="utf-8"))
    assert point["agreement"]["num_videos"] == 16 and point["is_complete"]
    assert {row["model"] for row in point["agreement"]["by_model"]} >= {"CogVideo", "ZeroScope"}


def test_what_cannot_be_swept_is_a_usage_error(tmp_path: Path) -> None:
    write_working_folder(tmp_path)
    with judge_server() as server:
        result = run(server, tmp_path, tmp_path / "sweep")
        assert result.exit_code == 2 and "name them with --reference" in result.stderr
