"""Sample videos: files that decode to the clips, the same noise each time, and what reaches the trackers."""

import io

import av
import numpy as np
import pytest
import torch
from PIL import Image

from draftv_trainer.draftv_trainer import DRaFTVTrainer
from draftv_trainer.rollout import noise_seed
from draftv_trainer.sampling import sample
from tests.draftv.factories import TINY_SIZE, redness, tiny_args, tiny_wan
from videorm_hf.videoprefer.video_io import encode_gif, write_video

DATA = ["a red dog runs", "a blue cat", "a green bird jumps"]


def gradient_clip(num_frames=5, side=32):
    """Smooth and moving, so that H.264 keeps it."""
    ramp = torch.linspace(0, 0.7, side)
    frames = torch.stack([torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side)])] * num_frames)
    blue = torch.linspace(0, 1, num_frames).view(num_frames, 1, 1, 1).expand(num_frames, 1, side, side)
    return torch.cat([frames, blue], dim=1)


def decode(path):
    with av.open(path) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) / 255, stream.average_rate


def run(tmp_path, train_dataset=DATA, **overrides):
    settings = {"max_steps": 2, "sample_steps": 1, "guard_tolerance": 100.0}
    trainer = DRaFTVTrainer(
        tiny_wan(), redness, tiny_args(tmp_path, **{**settings, **overrides}), train_dataset=train_dataset
    )
    trainer.train()
    return trainer


def test_mp4_decodes_to_the_frames(tmp_path):
    clip = gradient_clip()
    path = write_video(clip, tmp_path / "new" / "clip.mp4", fps=12)
    frames, rate = decode(path)
    assert frames.shape == clip.shape and rate == 12
    assert (frames - clip).abs().mean() < 0.03
    enlarged, _ = decode(write_video((clip * 255).byte(), tmp_path / "large.mp4", scale=3))
    assert enlarged.shape == (5, 3, 96, 96)


def test_gif_plays_the_frames():
    clip = gradient_clip()
    image = Image.open(io.BytesIO(encode_gif(clip, fps=5)))
    assert (image.n_frames, image.size, image.info["duration"], image.info["loop"]) == (5, (32, 32), 200, 0)
    image.seek(4)
    assert (np.asarray(image.convert("RGB"), dtype=float)[..., 2] / 255).mean() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (torch.zeros(3, 8, 8), r"shape \(num_frames, 3, height, width\): got \(3, 8, 8\)"),
        (torch.zeros(2, 4, 8, 8), r"got \(2, 4, 8, 8\)"),
        (torch.zeros(2, 3, 7, 8), "even sides: got 7x8"),
    ],
)
def test_wrong_frames(tmp_path, frames, message):
    with pytest.raises(ValueError, match=message):
        write_video(frames, tmp_path / "clip.mp4")


def test_videos_at_the_start_and_every_so_many_steps(tmp_path):
    prompts = ["a red dog runs", "Ein Bär: läuft, schnell?!", "..."]
    run(tmp_path, max_steps=3, sample_steps=2, sample_prompts=prompts, height=32, width=32, sample_fps=5)
    samples = tmp_path / "samples"
    assert sorted(path.name for path in samples.iterdir()) == ["step-0", "step-2"]
    names = ["00-a-red-dog-runs.mp4", "01-Ein-Bär-läuft-schnell.mp4", "02.mp4"]
    assert sorted(path.name for path in (samples / "step-2").iterdir()) == names
    generator = [torch.Generator().manual_seed(noise_seed(42, 0, 0))]
    size = {**TINY_SIZE, "height": 32, "width": 32}
    expected = sample(tiny_wan(), prompts[:1], num_inference_steps=3, generator=generator, **size)[0]
    frames, rate = decode(samples / "step-0" / names[0])
    assert rate == 5
    assert (frames - expected).abs().mean() < 0.5 * (expected - expected.mean()).abs().mean()
    before, after = (decode(samples / f"step-{step}" / names[0])[0] for step in (0, 2))
    assert not torch.equal(before, after)


def test_prompts_come_from_the_dataset_by_default(tmp_path):
    run(tmp_path, max_steps=1, train_dataset=[*DATA, "a circle", "a square"])
    assert len(list((tmp_path / "samples" / "step-1").iterdir())) == 4


def test_prompts_that_were_encoded_beforehand(tmp_path):
    run(tmp_path, max_steps=1, precompute_prompt_embeds=True, sample_prompts=["a circle", "a square"])
    assert len(list((tmp_path / "samples" / "step-1").iterdir())) == 2


def test_no_prompts_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="need prompts: got no dataset"):
        DRaFTVTrainer(tiny_wan(), redness, tiny_args(tmp_path, sample_steps=1))
    with pytest.raises(ValueError, match="at least one string"):
        run(tmp_path, sample_prompts=[])


def test_tensorboard_gets_animated_pictures(tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run(tmp_path, max_steps=1, report_to=["tensorboard"], sample_prompts=DATA[:1])
    events = loader.EventAccumulator(str(next((tmp_path / "runs").iterdir())), size_guidance={"images": 0})
    events.Reload()
    images = events.Images("samples/00-a-red-dog-runs")
    assert [image.step for image in images] == [0, 1]
    assert Image.open(io.BytesIO(images[1].encoded_image_string)).n_frames == 5


def test_wandb_gets_the_files(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    run(tmp_path, max_steps=1, report_to=["wandb"], sample_prompts=DATA[:1])
    wandb.finish()
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/videos/samples/*.mp4"))) == 2


def test_trackio_gets_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is first imported
    pytest.importorskip("trackio")
    run(tmp_path, max_steps=1, report_to=["trackio"], sample_prompts=DATA[:1])
    assert len(list((tmp_path / "trackio" / "media").rglob("*.mp4"))) == 2
