"""ImageRewardReward against the `image-reward` package at its published size, on the same random weights."""

from pathlib import Path

import pytest
import torch

from tests.parity.environments import IMAGE_REWARD
from tests.rewards.factories import smooth_frames
from videorm_hf.rewards import ImageRewardReward

PROMPTS = ["a corgi on a skateboard", "two kites, over the sea at dusk!", "it's raining in Tōkyō " * 20]
# The first two are cropped only, so that eight bits are enough; the others are resized too.
SIZES = [(224, 224), (224, 301), (360, 640)]
TOLERANCE = 1e-4
# BLIP's configuration of its text encoder, as ImageReward is published with.
MED_CONFIG = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "add_type_embeddings": False,
    "type_vocab_size": 2,
    "vocab_size": 30524,
    "encoder_width": 768,
    "add_cross_attention": True,
}


def bert_base_uncased(folder: Path) -> None:
    """Write a vocabulary of BERT's size: its special tokens at their places, letters, a few words, and fillers."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789!,.'"
    words = [*letters, *(f"##{letter}" for letter in letters), "corgi", "skate", "##board", "kite", "sea", "rain"]
    tokens = ["[PAD]", *(f"[unused{index}]" for index in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokens += [f"[filler{index}]" for index in range(30522 - len(tokens))]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")


@pytest.mark.network
def test_scores_and_gradients_are_the_packages(tmp_path: Path) -> None:
    bert_base_uncased(tmp_path / "bert-base-uncased")
    images = [smooth_frames(1, 1, *size, seed=seed)[0, 0] for seed, size in enumerate(SIZES)]
    images = [(255 * image).round() / 255 for image in images]
    torch.save({"images": images, "prompts": PROMPTS, "med_config": MED_CONFIG}, tmp_path / "job.pt")
    IMAGE_REWARD.run("score_with_image_reward.py", tmp_path)
    original = torch.load(tmp_path / "original.pt", weights_only=True)

    reward = ImageRewardReward.from_pretrained(tmp_path, tokenizer=tmp_path / "bert-base-uncased")
    (tmp_path / "ImageReward.pt").unlink()
    for image, prompt, score, tensor_score, gradient in zip(
        images, PROMPTS, original["scores"], original["tensor_scores"], original["gradients"], strict=True
    ):
        frames = image[None, None].clone().requires_grad_()
        rewards = reward(frames, [prompt])
        assert rewards.item() == pytest.approx(tensor_score.item(), abs=TOLERANCE, rel=TOLERANCE)
        if 224 in image.shape:  # the package's own `score` rounds resized images to eight bits
            assert rewards.item() == pytest.approx(score.item(), abs=TOLERANCE, rel=TOLERANCE)
        rewards.sum().backward()
        largest = gradient.abs().max().item()
        assert largest > 0
        torch.testing.assert_close(frames.grad[0, 0], gradient, rtol=0, atol=TOLERANCE * largest)
    assert original["scores"].std() > 0.01
