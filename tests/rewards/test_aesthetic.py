"""AestheticReward: CLIP's image feature through the published head; the prompt plays no part."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.rewards.factories import (
    PROMPTS,
    clip_folder,
    published_mlp,
    smooth_frames,
    tiny_architecture,
    tiny_clip_model,
    tiny_open_clip,
)
from tests.rewards.parity import SIZES, check_parity, crop
from videorm_hf.models.conversion import ConversionError
from videorm_hf.rewards import AestheticReward

HEAD = "sac+logos+ava1-l14-linearMSE.pth"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The head beside a transformers CLIP, and an open_clip file of another CLIP."""
    folder = tmp_path_factory.mktemp("aesthetic")
    clip_folder(folder / "both", tiny_clip_model())
    weights = {f"layers.{name}": value for name, value in published_mlp(48).state_dict().items()}
    torch.save(weights, folder / "both" / HEAD)
    torch.save(tiny_open_clip().state_dict(), folder / "open_clip.pt")
    return folder


@pytest.mark.parametrize("size", SIZES)
def test_scores_and_gradients_are_the_originals(folder: Path, size: tuple[int, int]) -> None:
    model, head = tiny_open_clip(), published_mlp(48)
    architecture = tiny_architecture(folder / "architecture")
    reward = AestheticReward.from_pretrained(
        folder / "both" / HEAD, clip=folder / "open_clip.pt", architecture=architecture
    )
    check_parity(reward, lambda pixels, _: head(model.encode_image(pixels, normalize=True))[:, 0], crop, size)


def test_a_folder_may_hold_head_and_clip(folder: Path) -> None:
    frames = smooth_frames(2, 2, 40, 60).requires_grad_()
    by_folder = AestheticReward.from_pretrained(folder / "both")
    by_parts = AestheticReward.from_pretrained(folder / "both" / HEAD, clip=folder / "both")
    rewards = by_folder(frames, PROMPTS)
    assert torch.equal(rewards, by_parts(frames, PROMPTS))
    assert torch.equal(rewards, by_folder(frames, ["", "another"]))
    rewards.sum().backward()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in by_folder.parameters())
    assert not any("text" in name for name, _ in by_folder.named_parameters())


def test_what_does_not_fit_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither is nor holds the aesthetic head"):
        AestheticReward.from_pretrained(tmp_path)
    shutil.copytree(folder / "both", tmp_path / "both")
    weights = torch.load(folder / "both" / HEAD, weights_only=True)
    weights["layers.0.weight"] = torch.zeros(1024, 50)
    weights["layers.1.weight"] = weights.pop("layers.2.weight")
    torch.save(weights, tmp_path / "both" / HEAD)
    with pytest.raises(ConversionError) as error:
        AestheticReward.from_pretrained(tmp_path / "both")
    message = str(error.value)
    assert "layers.0.weight: got (1024, 50), expected (1024, 48)" in message
    assert "missing (1):\n    layers.2.weight (128, 1024)" in message
    assert "unexpected (1):\n    layers.1.weight (128, 1024)" in message
    assert "have the width 48" in message
