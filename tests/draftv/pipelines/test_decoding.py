"""Decoding for the reward: the frames the pipeline would decode, equal gradients, and nothing more than is read."""

import functools

import pytest
import torch
import torch.utils.checkpoint
from diffusers import AutoencoderKL, AutoencoderKLTemporalDecoder, DDPMPipeline, DDPMScheduler, UNet2DModel

from draftv_trainer.decoding import clip_length, reward_decoding, spread_frames, spread_indices
from draftv_trainer.sampling import sample, sample_with_grad
from tests.draftv.factories import PROMPTS
from tests.draftv.pipeline_factories import PIPELINES, tiny_pipeline
from tests.draftv.pipelines.test_sampling_pipelines import ROWS, arguments, gradients, lora_pipe, ordinary, score

# One frame or video at a time rounds differently from a batch of them.
ROUNDING = 5e-6


def wanted_of(name):
    return spread_indices(PIPELINES[name].num_frames, min(2, PIPELINES[name].num_frames))


def rewarded(frames, wanted):
    return frames[:, wanted]


def draw(pipe, name, **options):
    wanted = wanted_of(name)
    with reward_decoding(pipe, clip_length(pipe, arguments(name)), wanted, **options):
        return rewarded(sample_with_grad(pipe, PROMPTS, 1, **arguments(name)), wanted)


@ROWS
def test_frames_and_gradients_equal_the_pipelines_own_decoding(name):
    pipe, denoiser = lora_pipe(name)
    vae = pipe.vae
    own = rewarded(sample_with_grad(pipe, PROMPTS, 1, **arguments(name)), wanted_of(name))
    score(own).backward()
    expected = gradients(denoiser)
    frames = draw(pipe, name)
    assert pipe.vae is vae
    torch.testing.assert_close(frames, own, rtol=0, atol=ROUNDING)
    score(frames).backward()
    largest = max(gradient.abs().max() for gradient in expected.values())
    for key, gradient in gradients(denoiser).items():
        torch.testing.assert_close(gradient, expected[key], rtol=0, atol=1e-4 * largest.item())


@ROWS
def test_without_checkpointing_a_video_vae_decodes_in_the_pipelines_own_bits(name):
    pipe, _ = lora_pipe(name)
    own = rewarded(ordinary(pipe, name), wanted_of(name))
    exact = not PIPELINES[name].per_frame_vae
    torch.testing.assert_close(draw(pipe, name, checkpointing=False), own, rtol=0, atol=0 if exact else ROUNDING)


@ROWS
@pytest.mark.parametrize("checkpointing", [True, False])
def test_the_same_frames_with_and_without_a_graph(name, checkpointing):
    pipe, _ = lora_pipe(name)
    wanted = wanted_of(name)
    with reward_decoding(pipe, clip_length(pipe, arguments(name)), wanted, checkpointing=checkpointing):
        frames = sample(pipe, PROMPTS, **arguments(name))
    assert not frames.requires_grad
    assert torch.equal(rewarded(frames, wanted), draw(pipe, name, checkpointing=checkpointing))


@pytest.mark.parametrize("name", ["modelscope", "animatediff"])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_a_per_frame_vae_decodes_nothing_but_the_wanted_frames(name, checkpointing):
    pipe, _ = lora_pipe(name)
    decoded = []
    pipe.vae.decoder.register_forward_hook(lambda module, args, output: decoded.append(len(output)))
    with reward_decoding(pipe, 4, [1, 3], checkpointing=checkpointing):
        frames = sample(pipe, PROMPTS, **arguments(name))
    assert decoded == ([1] * 4 if checkpointing else [4])
    assert torch.isfinite(frames[:, [1, 3]]).all()
    assert torch.isnan(frames[:, [0, 2]]).all()


def test_frames_are_found_again_in_a_pipeline_that_decodes_in_chunks():
    pipe, _ = lora_pipe("animatediff")
    own = ordinary(pipe, "animatediff")
    for chunk in (1, 3, 5):
        with reward_decoding(pipe, 4, [2]):
            frames = sample(pipe, PROMPTS, **arguments("animatediff", decode_chunk_size=chunk))
        torch.testing.assert_close(frames[:, 2], own[:, 2], rtol=0, atol=ROUNDING)


def saved_activations(pipe, name, **options):
    """Bytes that autograd keeps for the backward pass, weights apart, in the decoder alone: no denoiser trains."""
    weights = {p.untyped_storage().data_ptr() for part in (pipe.vae, denoiser_of(pipe)) for p in part.parameters()}
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        frames = draw(pipe, name, **options)
    assert frames.requires_grad
    return sum(num_bytes for pointer, num_bytes in kept.items() if pointer not in weights)


def denoiser_of(pipe):
    return pipe.components["unet"] if "unet" in pipe.components else pipe.components["transformer"]


@ROWS
def test_checkpointing_keeps_the_latents_not_the_activations_of_the_vae(name):
    pipe, denoiser = lora_pipe(name)
    # What the denoiser keeps is not the matter here.
    denoiser.forward = checkpointed(denoiser.forward)
    row = PIPELINES[name]
    frames = 4 * 2 * row.num_frames * 3 * row.size**2  # whose clamping to [0, 1] is the pipeline's
    checkpointed_bytes = saved_activations(pipe, name) - frames
    assert checkpointed_bytes < 0.1 * (saved_activations(pipe, name, checkpointing=False) - frames)


def checkpointed(function):
    @functools.wraps(function)
    def run(*args, **kwargs):
        return torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False, **kwargs)

    return run


@pytest.mark.parametrize("name", ["cogvideox", "ltx", "hunyuanvideo", "mochi", "hunyuanvideo15", "latte"])
def test_video_vaes_that_can_checkpoint_their_blocks_do(name):
    pipe, _ = lora_pipe(name)
    assert not pipe.vae.is_gradient_checkpointing
    draw(pipe, name)
    assert pipe.vae.is_gradient_checkpointing


def test_a_vae_that_hands_features_on_is_recomputed_call_by_call():
    pipe, _ = lora_pipe("wan")
    own_calls, calls = [], []
    pipe.vae.decoder.register_forward_hook(lambda module, args, output: own_calls.append(args[0].shape[2]))
    score(draw(pipe, "wan", checkpointing=False)).backward()
    pipe.vae.decoder.mid_block.register_forward_hook(lambda module, args, output: calls.append(args[0].shape[2]))
    frames = draw(pipe, "wan")
    num_videos, num_latent_frames = len(PROMPTS), 2
    assert calls == [1] * num_videos * num_latent_frames
    score(frames).backward()
    # Once forward, once with the video, once for its own activations.
    assert calls == [1] * 3 * num_videos * num_latent_frames
    assert own_calls == [1] * num_latent_frames + [1] * 2 * num_videos * num_latent_frames
    assert "forward" not in vars(pipe.vae.decoder)


# Tiles of one latent, so that a tiny clip has several of them.
SPATIAL_TILES = {f"tile_sample_{kind}_{side}": 8 for kind in ("min", "stride") for side in ("height", "width")}
TILES = {
    "modelscope": {"tile_latent_min_size": 1, "tile_sample_min_size": 8, "tile_overlap_factor": 0.0},
    "wan": SPATIAL_TILES,
    "hunyuanvideo": SPATIAL_TILES,
}


@pytest.mark.parametrize("name", TILES)
def test_tiles(name):
    pipe, denoiser = lora_pipe(name)
    vae, calls = pipe.vae, []
    whole = draw(pipe, name)
    for attribute, size in TILES[name].items():
        assert hasattr(vae, attribute)
        setattr(vae, attribute, size)
    vae.decoder.register_forward_hook(lambda module, args, output: calls.append(args[0].shape[-2:]))
    frames = draw(pipe, name, tiling=True)
    assert set(calls) == {(1, 1)}
    assert not vae.use_tiling
    assert frames.shape == whole.shape and not torch.equal(frames, whole)
    score(frames).backward()
    assert all(gradient.abs().max() > 0 for gradient in gradients(denoiser).values())


def test_a_vae_without_tiles_is_an_error():
    pipe = tiny_pipeline("stable_diffusion")
    pipe.vae = AutoencoderKLTemporalDecoder(block_out_channels=(32,), layers_per_block=1)
    with pytest.raises(ValueError, match="AutoencoderKLTemporalDecoder cannot decode in tiles: set vae_tiling=False"):
        with reward_decoding(pipe, tiling=True):
            pass


def test_a_vae_that_cannot_decode_a_batch_gets_one_video_at_a_time():
    pipe, _ = lora_pipe("hunyuanvideo15")
    sliced = draw(pipe, "hunyuanvideo15")
    pipe.vae.disable_slicing()
    with pytest.raises(RuntimeError, match="doesn't match the broadcast shape"):
        draw(pipe, "hunyuanvideo15", checkpointing=False)
    assert torch.equal(draw(pipe, "hunyuanvideo15"), sliced)


def test_a_vae_that_cuts_the_graph_is_named():
    class CuttingVAE(AutoencoderKL):
        @torch.no_grad()
        def decode(self, *args, **kwargs):
            return super().decode(*args, **kwargs)

    pipe, _ = lora_pipe("modelscope")
    pipe.vae.__class__ = CuttingVAE
    with pytest.raises(RuntimeError, match="The VAE CuttingVAE cuts the graph"):
        draw(pipe, "modelscope")


def test_the_vae_is_given_back_after_an_error():
    pipe, _ = lora_pipe("modelscope")
    vae = pipe.vae
    with pytest.raises(KeyError), reward_decoding(pipe):
        assert pipe.vae is not vae
        raise KeyError
    assert pipe.vae is vae


def test_images_that_are_not_whole_clips_are_an_error():
    pipe, _ = lora_pipe("animatediff")
    with pytest.raises(RuntimeError, match="decoded 8 images where clips of 3 frames were expected"):
        with reward_decoding(pipe, 3, [0]):
            sample(pipe, PROMPTS, **arguments("animatediff"))


def test_a_pipeline_without_a_vae_decodes_as_it_likes():
    unet = UNet2DModel(block_out_channels=(32,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",))
    pixels = DDPMPipeline(unet, DDPMScheduler())
    with reward_decoding(pixels, 4, [0]):
        assert "vae" not in pixels.components


def test_a_vae_that_mixes_the_frames_it_is_given_gets_them_all():
    pipe, _ = lora_pipe("latte")
    own = ordinary(pipe, "latte")
    decoded = []
    pipe.vae.decoder.register_forward_pre_hook(lambda module, args: decoded.append(len(args[0])))
    with reward_decoding(pipe, 4, [1]):
        frames = sample(pipe, PROMPTS, **arguments("latte"))
    assert decoded == [8]
    assert torch.equal(frames, own)


def test_clip_length():
    pipe = tiny_pipeline("modelscope")
    assert clip_length(pipe, {}) == 16
    assert clip_length(pipe, {"num_frames": 4}) == 4
    assert clip_length(tiny_pipeline("stable_diffusion"), {}) is None
    assert clip_length(tiny_pipeline("cogvideox"), {}) is None
    assert clip_length(tiny_pipeline("latte"), {"video_length": 4}) == 4
    assert clip_length(tiny_pipeline("latte"), {"num_frames": 4}) == 4


def test_spread_frames():
    clip = torch.arange(16.0).view(1, 16, 1, 1, 1)
    assert spread_frames(clip, 8).flatten().tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert spread_frames(clip, 3).flatten().tolist() == [2, 8, 13]
    assert spread_frames(clip, 1).flatten().tolist() == [8]
    assert spread_frames(clip, None).flatten().tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert spread_frames(clip[:, :5], None).flatten().tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="got 17 of 16"):
        spread_frames(clip, 17)
