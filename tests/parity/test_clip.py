"""CLIPScoreReward and AestheticReward against `image-reward`'s classes on OpenAI's CLIP, on equal random weights."""

import json
from pathlib import Path

import pytest
import torch

from tests.parity.environments import IMAGE_REWARD
from videorm_hf.rewards import AestheticReward, CLIPScoreReward, Reward

PROMPTS = ["a corgi on a skateboard", "two kites over the sea at dusk"]
SIZES = [(224, 224), (224, 341)]  # cropped only, so that eight bits are enough
TOLERANCE = 1e-4
# As wide as ViT-L/14 where the aesthetic head needs it, and not as deep.
OPENAI = {
    "embed_dim": 768,
    "image_resolution": 224,
    "vision_layers": 2,
    "vision_width": 128,
    "vision_patch_size": 14,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 64,
    "transformer_heads": 1,
    "transformer_layers": 2,
}
OPEN_CLIP = {
    "embed_dim": 768,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 128, "head_width": 64, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}


@pytest.mark.network
def test_scores_and_gradients_are_the_packages(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in SIZES]
    torch.save({"images": images, "prompts": PROMPTS, "clip": OPENAI}, tmp_path / "job.pt")
    IMAGE_REWARD.run("score_with_clip.py", tmp_path)
    original = torch.load(tmp_path / "original.pt", weights_only=True)

    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP, "preprocess_cfg": {}}))
    architecture = f"local-dir:{tmp_path}"
    clip_score = CLIPScoreReward.from_pretrained(tmp_path / "clip.pt", architecture=architecture)
    aesthetic = AestheticReward.from_pretrained(tmp_path, clip=tmp_path / "clip.pt", architecture=architecture)
    assert_equals_original(clip_score, images, original["clip_score"], original["clip_gradients"])
    assert_equals_original(aesthetic, images, original["aesthetic"], original["aesthetic_gradients"])


def assert_equals_original(
    reward: Reward, images: list[torch.Tensor], scores: list[float], gradients: list[torch.Tensor]
) -> None:
    """Compare a reward with the scores and gradients of its original."""
    for image, prompt, score, gradient in zip(images, PROMPTS, scores, gradients, strict=True):
        frames = (image / 255)[None, None].requires_grad_()
        rewards = reward(frames, [prompt])
        assert rewards.item() == pytest.approx(score, abs=TOLERANCE)
        rewards.sum().backward()
        largest = gradient.abs().max().item()
        assert largest > 0
        torch.testing.assert_close(frames.grad[0, 0], gradient, rtol=0, atol=TOLERANCE * largest)
    assert abs(scores[0] - scores[1]) > 1e-3
