"""`draftv compare`: rewards of paired videos, their table, JSON and page."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from draftv_trainer.cli.draftv import main
from draftv_trainer.variants import Variant, VideoSettings, find_variant, sample_variants
from tests.draftv.cli_factories import PROMPTS, SIZES, save_random_lora, save_wan, tiny_call

REWARDS = """
def red(frames, prompts):
    return (frames[:, :, 0] - frames[:, :, 2]).mean(dim=(1, 2, 3))

def longer(frames, prompts, wanted):
    return frames.mean(dim=(1, 2, 3, 4)) * frames.new_tensor(wanted)

def broken(frames, prompts):
    return red(frames, prompts) / 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    save_wan(folder / "wan")
    save_random_lora(folder / "one")
    save_random_lora(folder / "two", seed=1)
    (folder / "rewards_to_compare.py").write_text(REWARDS)
    return folder


@pytest.fixture(autouse=True)
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))


def compare(*words: str, output: str, prompts: list[str] = PROMPTS) -> dict[str, Any]:
    settings = ["--pipeline", "wan", "--prompts", *prompts, *SIZES, "--output", output]
    assert main(["compare", *words, *settings]) == 0
    return json.loads(Path(output, "comparison.json").read_text())


def test_rewards_are_those_of_the_sampled_frames(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compare("base", "one", "--reward", "rewards_to_compare:red", output="first")
    variants = [Variant("base", "wan"), Variant("one", "wan", Path("one"))]
    frames = [batch.frames_BTCHW for batch in sample_variants(variants, PROMPTS, VideoSettings(call=tiny_call()))]
    expected = [(one[:, :, 0] - one[:, :, 2]).mean().item() for one in frames]
    assert [row["rewards"]["red"] for row in found["videos"]] == pytest.approx(expected, abs=1e-6)
    red = found["rewards"]["red"]
    wins = sum(b > a for a, b in zip(expected[:3], expected[3:], strict=True))
    assert (red["wins"], red["ties"], red["losses"]) == (wins, 0, 3 - wins)
    assert red["difference"] == pytest.approx((sum(expected[3:]) - sum(expected[:3])) / 3, abs=1e-6)
    shown = capsys.readouterr().out
    assert "A: base; B: one; wins are B's; 3 pairs of 3 prompts." in shown
    assert "Tie: the rewards of a pair differ by at most 0 (red)" in shown


def test_the_page_needs_nothing_beside_it(folder: Path) -> None:
    prompts = ["a <b>red</b> dog runs", "a blue cat"]
    compare("base", "one", "--reward", "rewards_to_compare:red", "--page_pairs", "1", output="page", prompts=prompts)
    page = Path("page/comparison.html").read_text()
    assert len(re.findall(r'<video src="data:video/mp4;base64,', page)) == 2
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "a &lt;b&gt;red&lt;/b&gt; dog runs" in page and "The first 1 of 2 pairs" in page
    assert "a tie counts one half" in page and "with fewer than 6 the sign test" in page
    found = json.loads(Path("page/comparison.json").read_text())
    a, b = (row["rewards"]["red"] for row in found["videos"][::2])
    assert f"<td>{b - a:+.2g}</td>" in page


def test_a_model_against_itself_is_all_ties() -> None:
    found = compare("one", "one", "--reward", "rewards_to_compare:red", output="same")
    assert (found["a"], found["b"]) == ("one-a", "one-b")
    assert found["rewards"]["red"]["ties"] == 3 and found["rewards"]["red"]["sign_test"] == 1.0


def test_scales_margins_and_columns_of_each_side_and_reward(folder: Path) -> None:
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": p, "wanted": 2.0}) + "\n" for p in PROMPTS))
    rewards = ["--reward", "rewards_to_compare:red", "rewards_to_compare:longer"]
    scales = ["--lora_scale", "0.5", "1", "--tie_margin", "0", "10"]
    found = compare("one", "two", *rewards, *scales, output="both", prompts=["prompts.jsonl"])
    assert [row["lora_scale"] for row in found["videos"]] == [0.5] * 3 + [1.0] * 3
    assert found["rewards"]["longer"]["ties"] == 3 and found["rewards"]["red"]["ties"] == 0
    assert found["rewards"]["longer"]["mean_a"] > 0.5  # doubled by the table's column


def test_a_yaml_file_says_it_all(folder: Path) -> None:
    Path("compare.yaml").write_text(
        "a: base\nb: two\npipeline: wan\nprompts: a blue cat\nreward_funcs: rewards_to_compare:red\noutput: yaml\n"
        "height: 16\nwidth: 16\nnum_frames: 5\nnum_inference_steps: 2\ndevice: cpu\nseed: 5\n"
        "pipeline_kwargs: {max_sequence_length: 8}\n"
    )
    assert main(["compare", "--config", "compare.yaml", "--seed", "7"]) == 0
    found = json.loads(Path("yaml/comparison.json").read_text())
    assert found["facts"]["seed"] == 7 and found["facts"]["max_sequence_length"] == 8
    assert found["rewards"]["red"]["difference_interval"] is None


def test_a_reward_that_is_not_finite_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "base", "one", "--pipeline", "wan", "--prompts", PROMPTS[0], *SIZES, "--output", "broken"]
    assert main([*words, "--reward", "rewards_to_compare:broken"]) == 2
    error = capsys.readouterr().err
    assert "'broken' must return finite values" in error and PROMPTS[0] in error


def test_words_mean_base_lora_or_pipeline(folder: Path) -> None:
    assert find_variant("base", "wan") == Variant("base", "wan")
    assert find_variant("one", "wan", 0.5) == Variant("one", "wan", Path("one"), 0.5)
    assert find_variant("wan", None) == Variant("wan", "wan")
    assert find_variant("owner/name", None) == Variant("name", "owner/name")
    with pytest.raises(ValueError, match="lora_scale must be between 0 .* got 2"):
        find_variant("one", "wan", 2.0)


def test_two_pipelines_can_be_compared(folder: Path) -> None:
    found = compare("wan", "base", "--reward", "rewards_to_compare:red", output="pipelines")
    assert found["a"] == "wan" and found["rewards"]["red"]["ties"] == 3


def test_frames_are_scored_without_a_graph(folder: Path) -> None:
    batch = next(sample_variants([Variant("base", "wan")], PROMPTS[:1], VideoSettings(call=tiny_call())))
    assert batch.frames_BTCHW.dtype == torch.float32 and not batch.frames_BTCHW.requires_grad
