"""`make miniature` in a few steps of everything: real networks, real training, real files."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from benchmarks.miniature import build as miniature
from benchmarks.miniature.generator import (
    NUM_MOTION_CHANNELS,
    NUM_PICTURE_CHANNELS,
    GeneratorSettings,
    build_pipeline,
    encode_clips,
    encode_prompts,
    imperfect_clip,
    pixels,
    standardize_latents,
    train_autoencoder,
    what_moves,
)
from benchmarks.miniature.preferences import make_rendered_items, shift_items
from videorm_hf import VideoRMModel
from videorm_hf.miniature.clips import WAYS, render
from videorm_hf.miniature.scenes import Scene, Thing


def test_prompts_are_encoded_as_the_pipeline_encodes_them() -> None:
    pipe = build_pipeline(seed=0)
    prompts = ["a red ball moves left", "a small green box grows, on a white background"]
    with torch.no_grad():
        padded, _ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, device="cpu")
        single, _ = pipe.encode_prompt(prompts[0], do_classifier_free_guidance=False, device="cpu")
        torch.testing.assert_close(encode_prompts(pipe, prompts, pad=True), padded)
        torch.testing.assert_close(encode_prompts(pipe, prompts[:1], pad=False), single)


def move_of(motion: str, speed: str | None = None) -> np.ndarray:
    """Return speeds and growth in the latents of a clip, weighted by where its thing is, of shape `(3, 8)`."""
    scene = Scene((Thing("square", "blue", "small", motion, speed),), "white")
    places, *changes = what_moves(render(scene, np.random.default_rng(0)))
    return np.stack([change.sum((1, 2)) / places.sum((1, 2)) for change in changes])


@pytest.mark.parametrize("speed", ["slow", "fast"])
def test_directions_are_read_off_as_speeds(speed: str) -> None:
    way = WAYS[speed] / 7  # a frame
    np.testing.assert_allclose(move_of("right", speed), np.full((3, 8), [[way], [0], [0]]), atol=0.03)
    np.testing.assert_allclose(move_of("up", speed), np.full((3, 8), [[0], [-way], [0]]), atol=0.03)


def test_growth_and_stillness_are_read_off() -> None:
    assert (move_of("growing")[2] > 0.05).all() and abs(move_of("growing")[:2]).max() < 0.01
    assert abs(move_of("still")).max() < 0.03


def test_latents_are_standard_and_decoding_ignores_what_moves() -> None:
    rng = np.random.default_rng(0)
    clips = np.stack([imperfect_clip(rng)[0] for _ in range(64)])
    vae = build_pipeline(seed=0).vae
    train_autoencoder(vae, clips, GeneratorSettings(autoencoder_steps=3))
    latents = encode_clips(vae, clips)
    assert latents.shape == (64, NUM_PICTURE_CHANNELS + NUM_MOTION_CHANNELS, 8, 8, 8)
    torch.testing.assert_close(latents.std((0, 2, 3, 4)), torch.ones(latents.shape[1]), atol=0.1, rtol=0)
    still = latents[:2].transpose(1, 2).flatten(0, 1)
    moved = torch.cat([still[:, :NUM_PICTURE_CHANNELS], still[:, NUM_PICTURE_CHANNELS:] + 3], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(vae.decode(moved).sample, vae.decode(still).sample)
        means = vae.encode(pixels(clips[0])).latent_dist.mean
    assert means[:, NUM_PICTURE_CHANNELS:].eq(0).all()


def test_standard_latents_decode_to_the_same_frames() -> None:
    vae = build_pipeline(seed=0).vae
    frames = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        vae.post_quant_conv.weight[:, NUM_PICTURE_CHANNELS:] = 0
        before = vae.decode(vae.encode(frames).latent_dist.mean).sample
        standardize_latents(vae, torch.randn(12), torch.rand(12) + 0.5)
        after = vae.decode(vae.encode(frames).latent_dist.mean).sample
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_shifted_items_keep_ratings_and_move_all_clips_of_an_item_alike() -> None:
    items = make_rendered_items(6, "train", seed=0)
    shifted = shift_items(items, num_copies=2, seed=0)
    assert len({item.item_id for item in [*items, *shifted]}) == 18
    moves = set()
    for before, after in zip([*items, *items], shifted, strict=True):
        pairs = list(zip(before.candidates, after.candidates, strict=True))
        assert all(one.ratings == other.ratings and one.video.shape == other.video.shape for one, other in pairs)
        fitting = [
            (down, right)
            for down, right in itertools.product(range(-3, 4), repeat=2)
            if all(
                np.array_equal(np.roll(one.video, (down, right), (1, 2))[:, 3:-3, 3:-3], other.video[:, 3:-3, 3:-3])
                for one, other in pairs
            )
        ]
        assert len(fitting) == 1
        moves.update(fitting)
    assert len(moves) > 3


def is_same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Compare weights in half precision, as final ones are saved."""
    return all(torch.equal(a.half(), b.half()) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.slow
def test_everything_is_built_and_measured_and_goes_on_where_it_was(tmp_path: Path) -> None:
    result = miniature.build(tmp_path, miniature.SMOKE)
    assert set(result["tables"]) == {
        *("videorm_mini", "videorm_mini_clips", "image_reward_mini", "image_reward_mini_clips"),
        *("t2v_mini", "t2v_mini_train"),
    }
    assert result["tables"]["t2v_mini"]["rows"]["mean"]["n"] == miniature.SMOKE.num_prompts
    assert len(result["log"]["temporal-head"]["loss"]) == miniature.SMOKE.epochs
    VideoRMModel.from_pretrained(tmp_path / "videorm-mini")
    final, early = (
        DiffusionPipeline.from_pretrained(folder) for folder in (tmp_path / "t2v-mini", tmp_path / "t2v-mini-early")
    )
    assert is_same(early.vae, final.vae) and not is_same(early.transformer, final.transformer)
    weights = tmp_path / "t2v-mini" / "transformer" / "diffusion_pytorch_model.safetensors"
    written = weights.stat().st_mtime_ns
    assert miniature.build(tmp_path, miniature.SMOKE)["tables"] == result["tables"]
    assert weights.stat().st_mtime_ns == written
    other = miniature.Settings(GeneratorSettings(num_clips=65))
    with pytest.raises(ValueError, match="begun with other settings"):
        miniature.build(tmp_path, other)
