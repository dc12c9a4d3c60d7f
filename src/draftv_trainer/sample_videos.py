"""Sample videos of fixed prompts: files under the output folder, and the trackers that a run reports to."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from videorm_hf.videoprefer.video_io import encode_gif, write_video


@dataclass(frozen=True)
class SampleVideo:
    """A clip of one of the fixed prompts.

    Args:
        position (`int`):
            The prompt's place among the fixed ones.
        prompt (`str`):
            The text.
        frames_TCHW (`torch.Tensor` of shape `(num_frames, 3, height, width)`):
            Bytes.
    """

    position: int
    prompt: str
    frames_TCHW: torch.Tensor

    @property
    def name(self) -> str:
        """The file's name without ending: the place and the beginning of the prompt."""
        words = re.sub(r"\W+", "-", self.prompt)[:40].strip("-")
        return f"{self.position:02d}-{words}" if words else f"{self.position:02d}"


def write_samples(videos: Sequence[SampleVideo], folder: Path, fps: int) -> list[Path]:
    """Write each video as an MP4 file.

    Args:
        videos (`list[SampleVideo]`):
            The clips.
        folder (`Path`):
            Made if it does not exist.
        fps (`int`):
            Frames per second.

    Returns:
        `list[Path]`: one file per video, in the same order.
    """
    return [write_video(video.frames_TCHW, folder / f"{video.name}.mp4", fps) for video in videos]


def report_samples(
    videos: Sequence[SampleVideo],
    paths: Sequence[Path],
    callbacks: Sequence[TrainerCallback],
    step: int,
    fps: int,
) -> None:
    """Hand the videos to those trackers that a trainer reports to and that can show them.

    Args:
        videos (`list[SampleVideo]`):
            The clips.
        paths (`list[Path]`):
            Their files.
        callbacks (`list[TrainerCallback]`):
            The trainer's: TensorBoard's, W&B's and trackio's are served, others passed over.
        step (`int`):
            Optimisation step.
        fps (`int`):
            Frames per second.
    """
    tags = [f"samples/{video.name}" for video in videos]
    for callback in callbacks:
        if isinstance(callback, TensorBoardCallback):
            _report_to_tensorboard(callback, videos, tags, step, fps)
        elif isinstance(callback, WandbCallback):
            import wandb

            pairs = zip(tags, videos, paths, strict=True)
            media = {tag: wandb.Video(str(path), caption=video.prompt, format="mp4") for tag, video, path in pairs}
            # Their own step counts the calls: the trainer's charts are drawn over this metric.
            wandb.log({**media, "train/global_step": step})
        elif isinstance(callback, TrackioCallback):
            import trackio

            pairs = zip(tags, videos, paths, strict=True)
            media = {tag: trackio.Video(path, caption=video.prompt) for tag, video, path in pairs}
            trackio.log({**media, "train/global_step": step})


def _report_to_tensorboard(
    callback: TensorBoardCallback, videos: Sequence[SampleVideo], tags: Sequence[str], step: int, fps: int
) -> None:
    """Write animated pictures. `SummaryWriter.add_video` needs a package and fails with its present version."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    writer = callback.tb_writer
    if writer is None:
        return
    for video, tag in zip(videos, tags, strict=True):
        height, width = video.frames_TCHW.shape[-2:]
        image = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=encode_gif(video.frames_TCHW, fps)
        )
        writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
    writer.flush()
