"""`make miniature` in a few steps of everything: real networks, real training, real files."""

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

from benchmarks.miniature import build as miniature
from benchmarks.miniature.generator import GeneratorSettings, build_pipeline, encode_prompts
from videorm_hf import VideoRMModel


def test_prompts_are_encoded_as_the_pipeline_encodes_them() -> None:
    pipe = build_pipeline(seed=0)
    prompts = ["a red ball moves left", "a small green box grows, on a white background"]
    with torch.no_grad():
        padded, _ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, device="cpu")
        single, _ = pipe.encode_prompt(prompts[0], do_classifier_free_guidance=False, device="cpu")
        torch.testing.assert_close(encode_prompts(pipe, prompts, pad=True), padded)
        torch.testing.assert_close(encode_prompts(pipe, prompts[:1], pad=False), single)


@pytest.mark.slow
def test_everything_is_built_and_measured_and_goes_on_where_it_was(tmp_path: Path) -> None:
    result = miniature.build(tmp_path, miniature.SMOKE)
    assert set(result["tables"]) == {
        *("videorm_mini", "videorm_mini_clips", "image_reward_mini", "image_reward_mini_clips"),
        *("t2v_mini", "t2v_mini_train"),
    }
    assert result["tables"]["t2v_mini"]["rows"]["mean"]["n"] == miniature.SMOKE.num_prompts
    assert len(result["log"]["videorm-mini"]["loss"]) == miniature.SMOKE.epochs
    VideoRMModel.from_pretrained(tmp_path / "videorm-mini")
    DiffusionPipeline.from_pretrained(tmp_path / "t2v-mini")
    weights = tmp_path / "t2v-mini" / "transformer" / "diffusion_pytorch_model.safetensors"
    written = weights.stat().st_mtime_ns
    assert miniature.build(tmp_path, miniature.SMOKE)["tables"] == result["tables"]
    assert weights.stat().st_mtime_ns == written
    other = miniature.Settings(GeneratorSettings(num_clips=65))
    with pytest.raises(ValueError, match="begun with other settings"):
        miniature.build(tmp_path, other)
