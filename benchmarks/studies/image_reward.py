"""The same image-text towers with time and without it: VIDEORM, and the image reward that it was made of.

The image reward is VIDEORM without its temporal shift and head (`temporal_head="mean"` has no weights), given frames
one by one and averaged over them, as the paper applies HPS v2 to videos and as DRaFT-H is trained.
"""

from pathlib import Path

import torch
from transformers import AutoProcessor

from benchmarks.miniature.reward import build_image_reward
from benchmarks.studies.study import Work
from videorm_hf.rewards import FrameMean, Reward, VideoRMReward
from videorm_hf.trainer.reward_models import load_reward_model

IMAGE, VIDEORM, ONE_FRAME = "image reward, mean over frames", "VIDEORM", "image reward, middle frame"
CLIP_LIKE = "CLIP-like, mean over frames"
WITHOUT_TIME = {"temporal_head": "mean", "temporal_shift": "none"}


def load_videorm(folder: Path) -> VideoRMReward:
    """Load a VIDEORM as a reward."""
    return VideoRMReward.from_pretrained(folder)


def load_image_reward(folder: Path, num_segments: int | None = None, attenuation: float = 0.0) -> FrameMean:
    """Load the towers of a VIDEORM as an image reward over frames.

    Args:
        folder (`Path`): A VIDEORM.
        num_segments (`int`, *optional*): As for `FrameMean`: 4 for InstructVideo, 1 for the middle frame alone.
        attenuation (`float`, defaults to 0.0): As for `FrameMean`: 1 for InstructVideo.

    Returns:
        [`~videorm_hf.rewards.FrameMean`]: frozen.
    """
    model = load_reward_model(folder, WITHOUT_TIME)
    single = VideoRMReward(model, AutoProcessor.from_pretrained(folder), num_frames=1)

    def score_images(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        return single(images[:, None], prompts)

    return FrameMean(score_images, num_segments=num_segments, attenuation=attenuation, name="image_reward")


def load_rewards(folder: Path) -> dict[str, Reward]:
    """Load three ways to score a clip, by the names that tables use."""
    return {
        ONE_FRAME: load_image_reward(folder, num_segments=1),
        IMAGE: load_image_reward(folder),
        VIDEORM: load_videorm(folder),
    }


def load_clip_like(work: Work, steps: int, seed: int = 0) -> FrameMean:
    """Train towers like the image reward's, but without preferences, as CLIP's are; once for each number of steps.

    Args:
        work ([`Work`]): Where they are kept, for all studies together.
        steps (`int`): Steps of 32 prompts and images.
        seed (`int`, defaults to 0): Of weights and images.
    """
    folder = Work(work.folder.parent, work.weights).place("clip-like", {"steps": steps, "seed": seed})
    if not (folder / "processor_config.json").exists():
        build_image_reward(folder, steps, seed, preferences=False)
    return load_image_reward(folder)
