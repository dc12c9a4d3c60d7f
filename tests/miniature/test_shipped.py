"""The weights that the package carries: small, loaded as any others, and able to do what they are for."""

from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, LattePipeline
from safetensors import safe_open
from transformers import AutoModel, AutoProcessor

from draftv_trainer import sample
from videorm_hf import VideoRMModel, VideoRMProcessor
from videorm_hf.miniature.clips import render
from videorm_hf.miniature.faults import render_with_fault
from videorm_hf.miniature.judge import judge, rate_frames
from videorm_hf.miniature.scenes import Scene, Thing, write_prompt
from videorm_hf.miniature.shipped import T2V_MINI, VIDEORM_MINI
from videorm_hf.rewards import VideoRMReward


def weight_files() -> list[Path]:
    return [path for folder in (VIDEORM_MINI, T2V_MINI) for path in folder.rglob("*.safetensors")]


def test_they_are_safetensors_of_at_most_12_mb_and_nothing_that_runs() -> None:
    files = [path for folder in (VIDEORM_MINI, T2V_MINI) for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json"}
    assert sum(path.stat().st_size for path in weight_files()) <= 12e6
    assert len(weight_files()) == 4
    for path in weight_files():
        with safe_open(path, "pt") as weights:
            assert all(weights.get_tensor(name).isfinite().all() for name in weights.keys())


def test_the_reward_loads_by_its_auto_classes_and_prefers_the_told_direction() -> None:
    assert isinstance(AutoModel.from_pretrained(VIDEORM_MINI), VideoRMModel)
    assert isinstance(AutoProcessor.from_pretrained(VIDEORM_MINI), VideoRMProcessor)
    reward = VideoRMReward.from_pretrained(VIDEORM_MINI)
    rng = np.random.default_rng(5)
    right = []
    for motion in ("left", "right", "up", "down"):
        scene = Scene((Thing("square", "blue", "large", motion, "fast"),), "white")
        clips = [render(scene, rng), render_with_fault(scene, "wrong_direction", 1.0, rng)]
        frames_BTCHW = torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3) / 255
        good, bad = reward(frames_BTCHW, [write_prompt(scene, rng)] * 2).tolist()
        right.append(good > bad)
    assert sum(right) >= 3


def test_the_pipeline_paints_what_is_told() -> None:
    pipe = DiffusionPipeline.from_pretrained(T2V_MINI)
    assert isinstance(pipe, LattePipeline) and pipe.transformer.dtype == pipe.vae.dtype == torch.float32
    pipe.set_progress_bar_config(disable=True)
    prompts = ["a red ball stands still", "a big green square moves left", "a blue disc rises", "a yellow box grows"]
    noise = [torch.Generator().manual_seed(number) for number in range(4)]
    size = {"height": 32, "width": 32, "video_length": 8, "clean_caption": False}
    frames_BTCHW = sample(pipe, prompts, num_inference_steps=10, generator=noise, guidance_scale=3.0, **size)
    assert frames_BTCHW.shape == (4, 8, 3, 32, 32)
    clips = (frames_BTCHW * 255).round().byte().permute(0, 1, 3, 4, 2).numpy()
    verdicts = [judge(clip, prompt) for clip, prompt in zip(clips, prompts, strict=True)]
    colors = [holds for verdict in verdicts for claim, holds in verdict.claims.items() if "color=" in claim]
    assert sum(colors) >= 3
    assert rate_frames(frames_BTCHW, prompts).mean() > 2
