"""ImageReward: as timm's ViT and transformers' BERT score on the same weights, from the published file."""

from pathlib import Path

import pytest
import torch

from tests.rewards.factories import (
    PROMPTS,
    WORDS,
    bert_folder,
    bert_tokens,
    image_reward_folder,
    smooth_frames,
    tiny_image_reward,
)
from tests.rewards.parity import SIZES, check_parity, crop
from videorm_hf import VideoRMBlipConfig, VideoRMBlipModel
from videorm_hf.models.conversion import ConversionError
from videorm_hf.models.videorm_blip.image_reward_checkpoint import load_image_reward
from videorm_hf.rewards import FrameMean, ImageRewardReward


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_reward_folder(tmp_path_factory.mktemp("image_reward"), tiny_image_reward())


@pytest.fixture(scope="module")
def reward(folder: Path) -> ImageRewardReward:
    return ImageRewardReward.from_pretrained(folder)


@pytest.mark.parametrize("size", SIZES)
def test_scores_and_gradients_are_the_originals(
    folder: Path, reward: ImageRewardReward, size: tuple[int, int]
) -> None:
    original = tiny_image_reward()

    def scores(pixels: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        return original.score(pixels, **bert_tokens(folder, prompts))

    check_parity(reward, scores, crop, size)


def test_long_prompts_are_cut_and_empty_ones_scored(folder: Path, reward: ImageRewardReward) -> None:
    frames = smooth_frames(2, 1, 32, 32)
    long = " ".join(["a red ball"] * 30)
    rewards = reward(frames, [long, ""])
    assert bert_tokens(folder, [long])["input_ids"].shape == (1, 35)
    assert torch.isfinite(rewards).all()
    assert torch.equal(reward(frames, [long + " at dusk", ""]), rewards)


def test_every_layout_scores_alike(folder: Path, reward: ImageRewardReward, tmp_path: Path) -> None:
    frames = smooth_frames(2, 2, 40, 60)
    expected = reward(frames, PROMPTS)
    by_file = ImageRewardReward.from_pretrained(folder / "ImageReward.pt")
    assert torch.equal(by_file(frames, PROMPTS), expected)
    reward.model.save_pretrained(tmp_path / "saved")
    saved = ImageRewardReward.from_pretrained(tmp_path / "saved", tokenizer=folder)
    assert torch.equal(saved(frames, PROMPTS), expected)
    config = VideoRMBlipConfig.from_pretrained(tmp_path / "saved")
    configured = ImageRewardReward.from_pretrained(folder, config=config)
    assert torch.equal(configured(frames, PROMPTS), expected)


def test_chosen_frames_are_averaged_and_the_weights_frozen(reward: ImageRewardReward) -> None:
    frames = smooth_frames(2, 4, 32, 32).requires_grad_()
    rewards = FrameMean(reward, frames=[1])(frames, PROMPTS)
    torch.testing.assert_close(rewards, reward(frames[:, 1:2], PROMPTS))
    rewards.sum().backward()
    assert (frames.grad.flatten(2).norm(dim=-1) > 0).tolist() == [[False, True, False, False]] * 2
    assert all(parameter.grad is None for parameter in reward.parameters())


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    weights = tiny_image_reward().state_dict()
    del weights["mlp.layers.7.bias"], weights["blip.visual_encoder.blocks.1.attn.qkv.bias"]
    weights["blip.text_encoder.pooler.dense.weight"] = torch.zeros(2, 2)
    weights["blip.text_encoder.encoder.layer.0.crossattention.self.key.weight"] = torch.zeros(128, 32)
    torch.save(weights, bert_folder(tmp_path) / "ImageReward.pt")
    with pytest.raises(ConversionError) as error:
        ImageRewardReward.from_pretrained(tmp_path)
    message = str(error.value)
    assert "missing (2)" in message and "mlp.layers.7.bias (1,)" in message
    assert "blip.visual_encoder.blocks.1.attn.qkv.bias (192,)" in message
    assert "unexpected (1):\n    blip.text_encoder.pooler.dense.weight (2, 2)" in message
    assert "crossattention.self.key.weight: got (128, 32), expected (128, 64)" in message


def test_an_empty_or_foreign_file_is_named(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "ImageReward.pt")
    with pytest.raises(ConversionError, match="read as an ImageReward: the keys do not fit"):
        load_image_reward(tmp_path / "ImageReward.pt")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "ImageReward.pt")
    with pytest.raises(ConversionError, match="A pickle that holds other classes is refused"):
        load_image_reward(tmp_path / "ImageReward.pt")


def test_what_is_nowhere_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent.pt neither is nor holds ImageReward.pt"):
        ImageRewardReward.from_pretrained(tmp_path / "absent.pt")


def test_a_tokenizer_of_other_tokens_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS[:-1]) + "\n")
    with pytest.raises(ValueError, match=f"tokenizer of {len(WORDS) - 1} tokens, and .* has {len(WORDS) + 2}"):
        ImageRewardReward.from_pretrained(folder, tokenizer=tmp_path)


def test_a_model_with_a_temporal_head_is_no_image_reward(folder: Path, reward: ImageRewardReward) -> None:
    model = load_image_reward(folder / "ImageReward.pt", temporal_num_layers=1)
    assert isinstance(model, VideoRMBlipModel)
    with pytest.raises(ValueError, match="temporal head 'mean', got 'transformer'"):
        ImageRewardReward(model, reward._tokens.tokenizer)
    with pytest.raises(ValueError, match="not both: got temporal_head"):
        load_image_reward(folder / "ImageReward.pt", model.config, temporal_head="mean")
