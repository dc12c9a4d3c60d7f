"""`videorm rank`: the order of a folder."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.factories import tiny_videorm_folder
from tests.video_factory import numbered_frames, write_video
from videorm_hf.cli.videorm import app
from videorm_hf.scoring import score_videos


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["rank", *map(str, arguments), "--device", "cpu", "--num-workers", "0"])


def test_the_order_is_that_of_the_scores(videorm_folder: Path, tmp_path: Path) -> None:
    folder, other = tmp_path / "candidates", tiny_videorm_folder(tmp_path / "other", seed=1)
    folder.mkdir()
    for number in range(4):
        write_video(folder / f"{number}.mp4", numbered_frames(8 + 5 * number))
    (folder / "copy.mp4").write_bytes((folder / "2.mp4").read_bytes())
    (folder / ".hidden").touch()
    arguments = (folder, "--prompt", "a cat", "--reward", videorm_folder, "--output", tmp_path / "out" / "order.json")
    result = run(*arguments, "--reward", other)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "order.json").read_text())
    ranking = content["ranking"]
    rewards = [row["videorm"] for row in ranking]
    assert rewards == sorted(rewards, reverse=True)
    ranks = {row["video"]: row["rank by videorm"] for row in ranking}
    assert ranks["copy.mp4"] == ranks["2.mp4"] and sorted(ranks.values())[0] == 1
    names = [f"{number}.mp4" for number in range(4)]
    scores = score_videos(str(videorm_folder), [folder / name for name in names], "a cat", num_workers=0)
    expected = sorted(names, key=lambda name: -scores[names.index(name)].reward)
    assert [row["video"] for row in ranking if row["video"] in names] == expected
    assert {row["rank by other"] for row in ranking} <= {1, 2, 3, 4, 5}
    (folder / "notes.txt").write_text("not a video")
    again = run(*arguments)
    assert again.exit_code == 1 and "not scored: notes.txt (not_a_video)" in again.output
    assert json.loads((tmp_path / "out" / "order.json").read_text())["not_scored"] == {"notes.txt": "not_a_video"}


def test_a_wrong_reward_is_found_before_another_is_loaded(videorm_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    result = run(tmp_path, "--prompt", "a cat", "--reward", videorm_folder, "--reward", "hps_v3:x")
    assert result.exit_code == 2 and "no reward 'hps_v3'" in " ".join(result.output.split())


def test_nothing_to_rank(videorm_folder: Path, tmp_path: Path) -> None:
    result = run(tmp_path, "--prompt", "a cat", "--reward", videorm_folder)
    assert result.exit_code == 2 and "holds no file" in " ".join(result.output.split())
    assert run(tmp_path / "absent", "--prompt", "a cat", "--reward", videorm_folder).exit_code == 2


def test_a_reward_of_ones_own_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("rewards_to_rank_by.py").write_text(
        "def darkness(frames, prompts):\n    return -frames.mean(dim=(1, 2, 3, 4))\n"
    )
    Path("candidates").mkdir()
    for number, frames in {0: numbered_frames(8), 1: numbered_frames(8) // 2}.items():
        write_video(tmp_path / "candidates" / f"{number}.mp4", frames)
    arguments = ("candidates", "--prompt", "a cat", "--output", "order.json")
    result = run(*arguments, "--reward", "rewards_to_rank_by:darkness")
    assert result.exit_code == 0, result.output
    assert [row["video"] for row in json.loads(Path("order.json").read_text())["ranking"]] == ["1.mp4", "0.mp4"]
    wrong = run(*arguments, "--reward", "rewards_to_rank_by:brightness")
    assert wrong.exit_code == 2 and "has no 'brightness'" in " ".join(wrong.output.split())
