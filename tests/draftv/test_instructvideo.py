"""InstructVideo against its formula: noise a real clip, denoise it, follow the gradient through the last step."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from diffusers import CogVideoXDDIMScheduler

from draftv_trainer import DRaFTVConfig
from draftv_trainer.instructvideo import (
    InstructVideoConfig,
    InstructVideoRollout,
    InstructVideoTrainer,
    encode_clips,
    read_clip,
    starting_late,
)
from draftv_trainer.lora import add_lora
from draftv_trainer.reward_terms import make_reward_terms
from draftv_trainer.rollout import RewardRollout, noise_seed
from tests.draftv.factories import PROMPTS, motion, redness, tiny_wan
from tests.draftv.pipeline_factories import tiny_pipeline
from tests.video_factory import numbered_frames, write_video
from videorm_hf.rewards.frames import FrameMean

SIZE = {"num_frames": 4, "height": 32, "width": 32}
GUIDANCE_SCALE = 9.0
SEEDS = [3, 4]


def red_images(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    return (images[:, 0] - images[:, 2] ** 2).mean(dim=(1, 2))


def config(folder, **overrides) -> InstructVideoConfig:
    settings = {
        **SIZE,
        "guidance_scale": GUIDANCE_SCALE,
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "max_steps": 1,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return InstructVideoConfig(output_dir=str(folder), **{**settings, **overrides})


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("clips")
    generator = np.random.default_rng(0)
    paths = [folder / "first.mp4", folder / "second.mp4"]
    for path in paths:
        coarse = generator.integers(0, 255, (8, 3, 4, 3), dtype=np.uint8)
        write_video(path, coarse.repeat(16, axis=1).repeat(16, axis=2))
    return [str(path) for path in paths]


def lora_pipe():
    """A tiny ModelScope whose LoRA does not start at zero, so that every LoRA weight has a gradient."""
    pipe = tiny_pipeline("modelscope")
    denoiser = add_lora(pipe)
    generator = torch.Generator().manual_seed(1)
    for parameter in denoiser.parameters():
        if parameter.requires_grad:
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return pipe


def gradients(pipe, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    pipe.unet.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in pipe.unet.named_parameters() if p.requires_grad}


def edited_frames(pipe, clips: list[str]) -> torch.Tensor:
    """The method written out: q(x_551 | x_0), DDIM from 551 to 1, the last step with a graph, all frames decoded."""
    alphas, scale = pipe.scheduler.alphas_cumprod, pipe.vae.config.scaling_factor
    with torch.no_grad():
        frames = torch.stack([read_clip(clip, *SIZE.values()) for clip in clips])
        latents = scale * pipe.vae.encode(2 * frames.flatten(0, 1) - 1).latent_dist.mean
        x = latents.unflatten(0, (2, 4)).transpose(1, 2)
        drawn = [torch.Generator().manual_seed(noise_seed(seed, 0, 0)) for seed in SEEDS]
        noise = torch.stack([torch.randn(x[0].shape, generator=generator) for generator in drawn])
        x = alphas[551].sqrt() * x + (1 - alphas[551]).sqrt() * noise
        text, empty = pipe.encode_prompt(PROMPTS, "cpu", 1, True)
    for t in range(551, 0, -50):
        with torch.set_grad_enabled(t == 1):
            with_text, without = (pipe.unet(x, t, encoder_hidden_states=e).sample for e in (text, empty))
            noise = without + GUIDANCE_SCALE * (with_text - without)
            clean = (x - (1 - alphas[t]).sqrt() * noise) / alphas[t].sqrt()
            alpha = alphas[t - 50] if t > 1 else pipe.scheduler.final_alpha_cumprod
            x = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    images = pipe.vae.decode(x.transpose(1, 2).flatten(0, 1) / scale).sample
    return (images / 2 + 0.5).clamp(0, 1).unflatten(0, (2, 4))


REWARDS = {
    "instructvideo": FrameMean(red_images, num_segments=4, attenuation=1.0),
    "instructvideo-v": motion,
}


def written_out(kind: str, frames: torch.Tensor) -> torch.Tensor:
    """The loss mean(1 - reward); with 4 frames in 4 segments, SegVR has but one choice."""
    if kind == "instructvideo-v":
        return (1 - motion(frames, PROMPTS)).mean()
    rewards = red_images(frames.flatten(0, 1), []).view(2, 4)
    attenuation = torch.tensor([-2.0, -1.0, 0.0, -1.0]).exp()
    return (1 - (attenuation * rewards).mean(dim=1)).mean()


@pytest.mark.parametrize("kind", REWARDS)
def test_equals_the_method_written_out(kind, clips, tmp_path):
    pipe = lora_pipe()
    loss = written_out(kind, edited_frames(pipe, clips))
    expected = gradients(pipe, loss)
    terms = make_reward_terms([REWARDS[kind]])
    rollout = InstructVideoRollout(pipe, pipe.unet, terms, config(tmp_path).sampling_settings(), num_edit_steps=12)
    outputs = rollout.train()(PROMPTS, {"video": clips}, SEEDS)
    assert 1 + outputs["loss"].item() == pytest.approx(loss.item(), abs=1e-6)
    got = gradients(pipe, outputs["loss"])
    assert got.keys() == expected.keys()
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-4 * largest, msg=name)


def test_the_clip_matters_and_12_of_20_steps_are_taken_one_with_a_graph(clips, tmp_path, monkeypatch):
    pipe = lora_pipe()
    calls = []
    forward = pipe.unet.forward

    def counted(sample, timestep, *args, **kwargs):
        calls.append((int(timestep), torch.is_grad_enabled()))
        return forward(sample, timestep, *args, **kwargs)

    monkeypatch.setattr(pipe.unet, "forward", counted)
    settings = config(tmp_path).sampling_settings()
    rollout = InstructVideoRollout(pipe, pipe.unet, make_reward_terms([redness]), settings, num_edit_steps=12)
    scheduler = pipe.scheduler
    first = rollout.train()(PROMPTS, {"video": clips}, SEEDS)["total"]
    assert calls == [(t, t == 1) for t in range(551, 0, -50)]
    assert not torch.equal(rollout(PROMPTS, {"video": clips[::-1]}, SEEDS)["total"], first)
    assert torch.equal(rollout(PROMPTS, {"video": clips}, SEEDS)["total"], first)
    assert pipe.scheduler is scheduler and rollout.settings is settings


def test_evaluation_samples_from_pure_noise(clips, tmp_path):
    pipe = lora_pipe()
    settings = config(tmp_path).sampling_settings()
    terms = make_reward_terms([redness])
    edit = InstructVideoRollout(pipe, pipe.unet, terms, settings, num_edit_steps=12).train(False)
    plain = RewardRollout(pipe, pipe.unet, terms, settings).train(False)
    assert torch.equal(
        edit(PROMPTS, {"video": clips}, SEEDS)["total"], plain(PROMPTS, {"video": clips}, SEEDS)["total"]
    )


def test_the_trainer_moves_the_lora_alone(clips, tmp_path):
    rows = Dataset.from_dict({"prompt": PROMPTS, "video": clips})
    pipe = tiny_pipeline("modelscope")
    run = InstructVideoTrainer(pipe, REWARDS["instructvideo"], config(tmp_path), rows, eval_dataset=rows)
    before = {name: weight.detach().clone() for name, weight in pipe.unet.named_parameters()}
    run.train()
    moved = {name for name, weight in pipe.unet.named_parameters() if not torch.equal(weight, before[name])}
    # LoRA starts at B = 0, where the gradient to A is 0.
    assert moved == {name for name in before if ".lora_B." in name}
    assert np.isfinite(run.state.log_history[0]["rewards/frame_mean"])


def test_the_papers_settings_are_the_defaults():
    settings = InstructVideoConfig(output_dir="unused", use_cpu=True)
    assert (settings.num_inference_steps, settings.num_edit_steps, settings.num_backprop_steps) == (20, 12, 1)
    assert (settings.num_frames, settings.height, settings.width, settings.reward_num_frames) == (16, 256, 256, 16)
    pipe = tiny_pipeline("modelscope")
    with starting_late(pipe, settings.num_edit_steps) as scheduler:
        scheduler.set_timesteps(settings.num_inference_steps)
        assert scheduler.timesteps.tolist() == list(range(551, 0, -50))


def test_cogvideox_scheduler_keeps_its_shifted_schedule_and_is_put_back():
    pipe = tiny_pipeline("modelscope")
    pipe.scheduler = own = CogVideoXDDIMScheduler(snr_shift_scale=2.0, timestep_spacing="trailing")
    with starting_late(pipe, 3) as scheduler:
        assert isinstance(pipe.scheduler, CogVideoXDDIMScheduler)
        torch.testing.assert_close(scheduler.alphas_cumprod, own.alphas_cumprod)
        scheduler.set_timesteps(10)
        assert scheduler.timesteps.tolist() == [299, 199, 99]
    assert pipe.scheduler is own


def test_clips_are_spread_scaled_and_cropped(tmp_path):
    frames = numbered_frames(12, height=48, width=64)
    frames[:, :, :8], frames[:, :, -8:] = 255, 255  # cropped away where the clip becomes a square
    path = tmp_path / "clip.mp4"
    write_video(path, frames)
    clip = read_clip(str(path), 4, 24, 24)
    assert clip.shape == (4, 3, 24, 24)
    assert 0.0 <= clip.min() and clip.max() <= 1.0
    whole = torch.from_numpy(frames[[1, 4, 7, 10], :, 8:-8]).permute(0, 3, 1, 2) / 255
    small = torch.nn.functional.interpolate(whole, (24, 24), mode="bilinear", antialias=True)
    assert (clip - small)[..., 2:-2].abs().mean() < 0.03
    assert torch.equal(read_clip({"path": None, "bytes": path.read_bytes()}, 4, 24, 24), clip)
    assert read_clip(str(path), 2, 40, 100).shape == (2, 3, 40, 100)


def test_encoding_inverts_the_scaling_of_decoding():
    vae = tiny_pipeline("modelscope").vae
    frames = torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    latents = encode_clips(vae, frames)
    assert latents.shape == (2, 4, 3, 2, 2)
    one = vae.encode(2 * frames[1, 2:3] - 1).latent_dist.mean * vae.config.scaling_factor
    torch.testing.assert_close(latents[1, :, 2], one[0], rtol=0, atol=1e-6)


def test_what_does_not_fit_is_an_error(clips, tmp_path):
    pipe = tiny_pipeline("modelscope")
    with pytest.raises(ValueError, match="num_edit_steps must be between 1 and num_inference_steps=20: got 21"):
        config(tmp_path, num_edit_steps=21)
    with pytest.raises(ValueError, match="num_backprop_steps must be at most num_edit_steps=12, .*: got 13"):
        config(tmp_path, num_backprop_steps=13)
    with pytest.raises(ValueError, match="lv_samples or backprop"):
        config(tmp_path, lv_samples=2)
    with pytest.raises(TypeError, match="args must be an InstructVideoConfig: got DRaFTVConfig"):
        InstructVideoTrainer(pipe, redness, DRaFTVConfig(output_dir=str(tmp_path), use_cpu=True), PROMPTS)
    settings = config(tmp_path, num_frames=5).sampling_settings()
    wan = tiny_wan()
    with pytest.raises(
        ValueError, match="needs a DDIMScheduler or CogVideoXDDIMScheduler as the pipeline's scheduler: got UniPC"
    ):
        InstructVideoRollout(wan, wan.transformer, make_reward_terms([redness]), settings, 12)
    pipe = lora_pipe()
    rollout = InstructVideoRollout(pipe, pipe.unet, make_reward_terms([redness]), settings, 12)
    with pytest.raises(ValueError, match="needs a column `video` beside `prompt`"):
        rollout.train()(PROMPTS, {}, SEEDS)
    with pytest.raises(ValueError, match="needs num_inference_steps, num_frames, height, width: got 20 and"):
        sizeless = config(tmp_path, height=None).sampling_settings()
        InstructVideoRollout(pipe, pipe.unet, make_reward_terms([redness]), sizeless, 12)


def test_every_choice_of_steps_can_be_named_alone():
    assert InstructVideoConfig(output_dir="unused", use_cpu=True, backprop="all").num_backprop_steps is None
    assert InstructVideoConfig(output_dir="unused", use_cpu=True).num_backprop_steps == 1
