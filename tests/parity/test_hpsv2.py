"""HPSv2Reward against the `hpsv2` package on the same random weights: its own `score`, and gradients at each pixel."""

from pathlib import Path

import open_clip
import pytest
import torch

from tests.parity.environments import HPSV2
from tests.rewards.factories import enliven, hps_v2_file
from videorm_hf.rewards import HPSv2Reward

ARCHITECTURE = "ViT-B-32"
PROMPTS = ["a corgi on a skateboard", "two kites over the sea at dusk", "it's raining in Tōkyō, 1985!"]
SIZES = [(224, 224), (360, 640), (333, 250)]
TOLERANCE = 1e-4


@pytest.mark.network
def test_scores_and_gradients_are_the_packages(tmp_path: Path) -> None:
    model = enliven(open_clip.CLIP(**open_clip.get_model_config(ARCHITECTURE)))
    checkpoint = hps_v2_file(tmp_path, model)
    del model
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in SIZES]
    job = {"images": images, "prompts": PROMPTS, "checkpoint": str(checkpoint), "architecture": ARCHITECTURE}
    torch.save(job, tmp_path / "job.pt")
    HPSV2.run("score_with_hpsv2.py", tmp_path)
    original = torch.load(tmp_path / "original.pt", weights_only=True)

    reward = HPSv2Reward.from_pretrained(checkpoint, architecture=ARCHITECTURE)
    for image, prompt, score, gradient in zip(images, PROMPTS, original["scores"], original["gradients"], strict=True):
        frames = (image / 255)[None, None].requires_grad_()
        rewards = reward(frames, [prompt])
        assert rewards.item() == pytest.approx(score.item(), abs=TOLERANCE)
        rewards.sum().backward()
        largest = gradient.abs().max().item()
        assert largest > 0
        torch.testing.assert_close(frames.grad[0, 0], gradient, rtol=0, atol=TOLERANCE * largest)
    assert original["scores"].std() > 0.01
