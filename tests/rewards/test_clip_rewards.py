"""CLIP score, PickScore and HPS v2: as their originals score, from their published files and from nothing else."""

from pathlib import Path

import numpy as np
import open_clip
import PIL.Image
import pytest
import torch
from torchvision.transforms.v2 import functional as tvF

from tests.rewards.factories import (
    PROMPTS,
    SIDE,
    clip_folder,
    hps_v2_file,
    smooth_frames,
    tiny_architecture,
    tiny_clip_model,
    tiny_image_processor,
    tiny_open_clip,
)
from tests.rewards.parity import SIZES, check_parity, crop, pad
from videorm_hf.models.conversion import ConversionError
from videorm_hf.models.open_clip_layout import clip_tokenizer
from videorm_hf.rewards import CLIPScoreReward, FrameMean, HPSv2Reward, PickScoreReward


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny models in their published layouts: HPS v2 and v2.1, an open_clip file, a transformers folder."""
    folder = tmp_path_factory.mktemp("published")
    tiny_architecture(folder / "architecture")
    hps_v2_file(folder / "hps", tiny_open_clip())
    hps_v2_file(folder / "hps", tiny_open_clip(seed=1), version=".1")
    torch.save(tiny_open_clip().state_dict(), folder / "open_clip.pt")
    clip_folder(folder / "transformers", tiny_clip_model())
    return folder


def hps_v2(files: Path, version: str = "2.0", source: str = "hps") -> HPSv2Reward:
    return HPSv2Reward.from_pretrained(
        files / source, architecture=f"local-dir:{files / 'architecture'}", version=version
    )


def cosines_of_open_clip(model: open_clip.CLIP):
    def cosines(pixels: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        text_embeds = model.encode_text(open_clip.tokenize(prompts), normalize=True)
        return (model.encode_image(pixels, normalize=True) * text_embeds).sum(dim=-1)

    return cosines


# --- Parity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_clip_score_is_open_clips(files: Path, size: tuple[int, int]) -> None:
    reward = CLIPScoreReward.from_pretrained(
        files / "open_clip.pt", architecture=f"local-dir:{files / 'architecture'}"
    )
    check_parity(reward, cosines_of_open_clip(tiny_open_clip()), crop, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("version", "seed"), [("2.0", 0), ("2.1", 1)])
def test_hps_v2_is_open_clip_with_padded_images(files: Path, size: tuple[int, int], version: str, seed: int) -> None:
    check_parity(hps_v2(files, version), cosines_of_open_clip(tiny_open_clip(seed)), pad, size)


@pytest.mark.parametrize("size", SIZES)
def test_pick_score_is_transformers(files: Path, size: tuple[int, int]) -> None:
    model, processor = tiny_clip_model(), tiny_image_processor()

    def preprocess(image: torch.Tensor) -> torch.Tensor:
        return processor(image, do_rescale=False, return_tensors="pt")["pixel_values"][0]

    def scores(pixels: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        tokens = clip_tokenizer()(prompts, padding="max_length", return_tensors="pt")
        return model(pixel_values=pixels, **tokens).logits_per_image.diagonal()

    check_parity(PickScoreReward.from_pretrained(files / "transformers"), scores, preprocess, size)


def test_eight_bit_images_come_out_as_the_originals_preprocess_them(files: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (45, 67, 3), dtype=np.uint8)  # overshoots at every edge
    images = torch.from_numpy(noise).permute(2, 0, 1)[None] / 255
    reward = PickScoreReward.from_pretrained(files / "transformers")
    ours = tvF.normalize(reward.fit(images), reward.image_mean, reward.image_std)
    theirs = tiny_image_processor()(PIL.Image.fromarray(noise), return_tensors="pt")["pixel_values"]
    assert (ours - theirs).abs().max() < 2 / 255 / min(reward.image_std)
    clip_score = CLIPScoreReward(reward.model, reward.tokenizer)
    ours = tvF.normalize(clip_score.fit(images), reward.image_mean, reward.image_std)
    theirs = open_clip.image_transform(SIDE, is_train=False)(PIL.Image.fromarray(noise))[None]
    assert (ours - theirs).abs().max() < 2 / 255 / min(reward.image_std)


# --- Loading --------------------------------------------------------------------------------------------------------


def test_layouts_of_the_same_weights_score_alike(files: Path) -> None:
    architecture = f"local-dir:{files / 'architecture'}"
    frames = smooth_frames(2, 2, 40, 60)
    by_folder = hps_v2(files)(frames, PROMPTS)
    by_file = hps_v2(files, source="hps/HPS_v2_compressed.pt")(frames, PROMPTS)
    assert torch.equal(by_folder, by_file)
    by_other_file = HPSv2Reward.from_pretrained(files / "open_clip.pt", architecture=architecture)(frames, PROMPTS)
    assert torch.equal(by_folder, by_other_file)
    by_transformers = HPSv2Reward.from_pretrained(files / "transformers")(frames, PROMPTS)
    assert (by_transformers - by_folder).abs().max() > 1e-3  # other weights
    own_model = HPSv2Reward(tiny_clip_model(), clip_tokenizer())(frames, PROMPTS)
    assert torch.equal(by_transformers, own_model)


def test_the_two_versions_of_hps_are_not_confused(files: Path) -> None:
    assert (hps_v2(files).name, hps_v2(files, "2.1").name) == ("hps_v2", "hps_v2.1")
    with pytest.raises(ValueError, match="holds HPS v2.1, not v2.0: pass version='2.1'"):
        hps_v2(files, source="hps/HPS_v2.1_compressed.pt")
    with pytest.raises(ValueError, match="version must be one of 2.0, 2.1: got '3'"):
        hps_v2(files, version="3")


def test_weights_that_do_not_fit_are_named(files: Path, tmp_path: Path) -> None:
    weights = tiny_open_clip().state_dict()
    weights["visual.ln_post.gain"] = weights.pop("visual.ln_post.weight")
    weights["text_projection"] = torch.zeros(32, 40)
    torch.save({"state_dict": weights}, tmp_path / "HPS_v2_compressed.pt")
    with pytest.raises(ConversionError) as error:
        HPSv2Reward.from_pretrained(tmp_path, architecture=f"local-dir:{files / 'architecture'}")
    message = str(error.value)
    assert "missing (1):\n    visual.ln_post.weight (64,)" in message
    assert "unexpected (1):\n    visual.ln_post.gain (64,)" in message
    assert "text_projection: got (32, 40), expected (32, 48)" in message


def test_a_pickle_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": tiny_open_clip()}, tmp_path / "HPS_v2_compressed.pt")
    with pytest.raises(ConversionError, match="A pickle that holds other classes is refused"):
        HPSv2Reward.from_pretrained(tmp_path)


def test_half_precision_weights_score_nearly_alike(files: Path) -> None:
    frames = smooth_frames(2, 2, 40, 60).requires_grad_()
    half = PickScoreReward.from_pretrained(files / "transformers", dtype=torch.bfloat16)
    full = PickScoreReward.from_pretrained(files / "transformers")
    rewards = half(frames, PROMPTS)
    assert rewards.dtype == torch.float32
    torch.testing.assert_close(rewards, full(frames, PROMPTS), rtol=0, atol=0.5)  # of +-14
    rewards.sum().backward()
    assert torch.isfinite(frames.grad).all() and frames.grad.abs().max() > 0


# --- As a reward ----------------------------------------------------------------------------------------------------


def test_weights_are_frozen_and_frames_are_not(files: Path) -> None:
    reward = hps_v2(files)
    frames = smooth_frames(2, 4, 40, 60).requires_grad_()
    reward(frames, PROMPTS).sum().backward()
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in reward.parameters())
    assert not reward.model.training
    assert (frames.grad.flatten(2).norm(dim=-1) > 0).all()


def test_each_prompt_is_encoded_once_for_all_its_frames(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = hps_v2(files)
    encoded: list[int] = []
    encode = reward.model.text_model.forward
    monkeypatch.setattr(
        reward.model.text_model,
        "forward",
        lambda **inputs: encoded.append(len(inputs["input_ids"])) or encode(**inputs),
    )
    frames = smooth_frames(3, 4, 40, 60)
    for _ in range(2):
        reward(frames, [PROMPTS[0], PROMPTS[1], PROMPTS[0]])
    assert encoded == [2]


def test_training_goes_on_after_scoring_in_inference_mode(files: Path) -> None:
    reward = hps_v2(files)
    frames = smooth_frames(2, 2, 40, 60)
    with torch.inference_mode():
        expected = reward(frames, PROMPTS)
    frames.requires_grad_()
    rewards = reward(frames, PROMPTS)
    torch.testing.assert_close(rewards, expected.clone(), rtol=0, atol=1e-6)
    rewards.sum().backward()
    assert frames.grad.abs().max() > 0


def test_chosen_frames_are_averaged(files: Path) -> None:
    reward = hps_v2(files)
    frames = smooth_frames(2, 4, 40, 60)
    chosen = FrameMean(reward, frames=[0, -1])
    assert chosen.name == "hps_v2"
    expected = torch.stack([reward(frames[:, [index]], PROMPTS) for index in (0, 3)]).mean(dim=0)
    torch.testing.assert_close(chosen(frames, PROMPTS), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(FrameMean(reward)(frames, PROMPTS), reward(frames, PROMPTS))


def test_wrong_input_is_an_error(files: Path) -> None:
    reward = hps_v2(files)
    frames = smooth_frames(2, 2, 40, 60)
    with pytest.raises(ValueError, match="must lie in \\[0, 1\\], got values from -0.* to 0.5"):
        reward(2 * frames - 1, PROMPTS)
    with pytest.raises(ValueError, match="must lie in \\[0, 1\\], got values from nan to nan"):
        reward(frames * float("nan"), PROMPTS)
    with pytest.raises(ValueError, match="got torch.uint8 of shape"):
        reward((255 * frames).to(torch.uint8), PROMPTS)
    with pytest.raises(ValueError, match="num_frames, 3, height, width.* got frames of shape \\(2, 2, 40, 60, 3\\)"):
        reward(frames.movedim(2, -1), PROMPTS)
    with pytest.raises(ValueError, match="and 1 prompts"):
        reward(frames, PROMPTS[:1])
