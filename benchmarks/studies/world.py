"""What the studies are made of: test scenes, sampled clips, and the truth about them.

Layouts: frames_THWC and clips_NTHWC are bytes, as the judge takes them; frames_BTCHW are floats in [0, 1], as rewards
take them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from tqdm import tqdm

from draftv_trainer import sample
from draftv_trainer.demo.miniature import GUIDANCE_SCALE, NUM_INFERENCE_STEPS, PIPELINE_KWARGS, PIXEL_SCALE, SIZE
from draftv_trainer.guard import mean_motion
from draftv_trainer.rollout import noise_seed
from videorm_hf.miniature.clips import NUM_FRAMES, render
from videorm_hf.miniature.faults import FAULTS, render_with_fault
from videorm_hf.miniature.judge import judge
from videorm_hf.miniature.scenes import Scene, distinct_prompts
from videorm_hf.rewards import Reward
from videorm_hf.videoprefer.video_io import to_bytes, write_video

_BATCH = 8


@dataclass(frozen=True)
class Truth:
    """What the measuring judge says of a clip.

    Args:
        prompt_following (`float`): From 1 to 5, not rounded.
        video_quality (`float`): From 1 to 5, not rounded.
        mean (`float`): Of the two, which decides as in the paper.
        motion (`float`): Share of the prompt's claims about motion and speed that hold.
        looks (`float`): Share of its other claims that hold.
    """

    prompt_following: float
    video_quality: float
    mean: float
    motion: float
    looks: float


TRUTHS = tuple(Truth.__dataclass_fields__)


@dataclass(frozen=True)
class Sampling:
    """How the pipeline is called.

    Args:
        num_inference_steps (`int`): Steps.
        guidance_scale (`float`): Of classifier-free guidance.
    """

    num_inference_steps: int = NUM_INFERENCE_STEPS
    guidance_scale: float = GUIDANCE_SCALE

    def call(self) -> dict[str, Any]:
        """Return the arguments of the pipeline's call, without its number of steps."""
        return {"guidance_scale": self.guidance_scale, **SIZE, **PIPELINE_KWARGS}


def held_out_prompts(number: int, seed: int, two_things: float = 0.0, split: str = "test") -> list[str]:
    """Draw distinct prompts of a split, always the same ones for a seed.

    Args:
        number (`int`): How many.
        seed (`int`): Of the draw.
        two_things (`float`, defaults to 0.0): Share with two things; the pipeline has learned from clips of one thing.
        split (`str`, defaults to `"test"`): Which split.

    Returns:
        `list[str]`
    """
    return distinct_prompts(number, np.random.default_rng([seed, 7]), two_things, split)


def tell_truth(frames_THWC: np.ndarray, prompt: str) -> Truth:
    """Rate a clip by its pixels.

    Args:
        frames_THWC (`np.ndarray` of shape `(num_frames, 32, 32, 3)`): Bytes.
        prompt (`str`): Of the small world.

    Returns:
        [`Truth`]
    """
    verdict = judge(frames_THWC, prompt)
    moving = [holds for claim, holds in verdict.claims.items() if " motion=" in claim or " speed=" in claim]
    others = [holds for claim, holds in verdict.claims.items() if not (" motion=" in claim or " speed=" in claim)]
    mean = (verdict.prompt_following + verdict.video_quality) / 2
    shares = [float(np.mean(claims)) for claims in (moving, others)]
    return Truth(verdict.prompt_following, verdict.video_quality, mean, *shares)


def load_generator(folder: Path) -> DiffusionPipeline:
    """Load the pipeline, its own progress bar off."""
    pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sample_clips(
    pipe: DiffusionPipeline, prompts: Sequence[str], sampling: Sampling, seed: int, repeats: int = 1
) -> np.ndarray:
    """Sample clips without a gradient, each from noise that depends on the seed and its place alone.

    Args:
        pipe (`DiffusionPipeline`): The pipeline.
        prompts (`Sequence[str]`): One clip, or `repeats` clips, for each.
        sampling ([`Sampling`]): How.
        seed (`int`): Of the noise.
        repeats (`int`, defaults to 1): Clips of each prompt, one after the other.

    Returns:
        `np.ndarray` of shape `(num_prompts * repeats, num_frames, height, width, 3)`: bytes.
    """
    texts = [prompt for prompt in prompts for _ in range(repeats)]
    clips = []
    with tqdm(total=len(texts), desc="sampling", unit="clip", leave=False) as bar:
        for start in range(0, len(texts), _BATCH):
            batch = texts[start : start + _BATCH]
            places = range(start, start + len(batch))
            frames_BTCHW = sample(
                pipe,
                batch,
                num_inference_steps=sampling.num_inference_steps,
                generator=[torch.Generator("cpu").manual_seed(noise_seed(seed, 0, place)) for place in places],
                **sampling.call(),
            )
            clips.append(to_bytes(frames_BTCHW).permute(0, 1, 3, 4, 2).cpu().numpy())
            bar.update(len(batch))
    return np.concatenate(clips)


@torch.no_grad()
def score_clips(reward: Reward, clips_NTHWC: np.ndarray, prompts: Sequence[str], batch_size: int = 32) -> list[float]:
    """Score clips by a reward.

    Args:
        reward ([`Reward`]): The reward.
        clips_NTHWC (`np.ndarray` of shape `(num_clips, num_frames, height, width, 3)`): Bytes.
        prompts (`Sequence[str]`): One a clip.
        batch_size (`int`, defaults to 32): Clips at once.

    Returns:
        `list[float]`: one a clip.
    """
    scores: list[float] = []
    for start in range(0, len(prompts), batch_size):
        frames_BTCHW = torch.from_numpy(clips_NTHWC[start : start + batch_size]).permute(0, 1, 4, 2, 3).float() / 255
        scores += reward(frames_BTCHW, list(prompts[start : start + batch_size])).tolist()
    return scores


def motion_of(clips_NTHWC: np.ndarray) -> list[float]:
    """Return how much moves in each clip, as the guard measures it."""
    return mean_motion(torch.from_numpy(clips_NTHWC).permute(0, 1, 4, 2, 3).float() / 255).tolist()


def truths_of(clips_NTHWC: np.ndarray, prompts: Sequence[str]) -> dict[str, list[float]]:
    """Return the truth about clips, by name."""
    rows = [
        asdict(tell_truth(frames_THWC, prompt))
        for frames_THWC, prompt in tqdm(
            zip(clips_NTHWC, prompts, strict=True), total=len(prompts), desc="judging", unit="clip", leave=False
        )
    ]
    return {name: [row[name] for row in rows] for name in TRUTHS}


def faulty_clip(scene: Scene, rng: np.random.Generator, num_frames: int = NUM_FRAMES) -> tuple[str, np.ndarray]:
    """Draw a fault, or none, and the clip that has it.

    Returns:
        `tuple[str, np.ndarray]`: the fault, `"clean"` in one of eleven, and frames_THWC.
    """
    fault = str(rng.choice(["clean", *FAULTS]))
    if fault == "clean":
        return fault, render(scene, rng, num_frames)
    return fault, render_with_fault(scene, fault, float(rng.uniform(0.2, 1.0)), rng, num_frames)


def save_clip(frames_THWC: np.ndarray, path: Path) -> Path:
    """Write a clip, enlarged so that H.264 keeps its colours."""
    return write_video(torch.from_numpy(frames_THWC).permute(0, 3, 1, 2), path, scale=PIXEL_SCALE)
