"""Preferences of the small world: prompts, four clips each, and the measuring judge's ratings.

As in VIDEOPREFER the generator's own clips stand beside others: two of t2v-mini at different guidance, one clip that
shows the prompt, and one with a fault. Rendered clips are cheap: further items have these alone.
"""

import numpy as np
from diffusers import LattePipeline
from tqdm import tqdm

from benchmarks.studies.world import Sampling, sample_clips
from videorm_hf.miniature.clips import NUM_FRAMES, render
from videorm_hf.miniature.faults import CONTENT_FAULTS, FAULTS, render_with_fault
from videorm_hf.miniature.judge import judge
from videorm_hf.miniature.scenes import Scene, random_scene, write_prompt
from videorm_hf.videoprefer.items import Candidate, Item, Judge

JUDGE = Judge("measuring-judge", num_frames=NUM_FRAMES, temperature=0.0)
GUIDANCE_SCALES = (1.0, 8.0)
NUM_INFERENCE_STEPS = 10
_PROMPTS_AT_ONCE = 16


def make_items(pipe: LattePipeline, num_items: int, split: str, seed: int) -> list[Item]:
    """Make items with their ratings.

    Args:
        pipe (`LattePipeline`): The generator of two of each item's clips.
        num_items (`int`): How many, rounded up to whole batches of 16.
        split (`str`): Of the scenes, one of `videorm_hf.miniature.scenes.SPLITS`.
        seed (`int`): Of scenes, prompts, noise and faults.

    Returns:
        `list[Item]`: with the clips in memory, as bytes of shape `(num_frames, 32, 32, 3)`.
    """
    rng = np.random.default_rng(seed)
    items: list[Item] = []
    for _ in tqdm(range(-(-num_items // _PROMPTS_AT_ONCE)), desc=f"{split} items", mininterval=10):
        scenes = [random_scene(rng, 0.0, split) for _ in range(_PROMPTS_AT_ONCE)]
        prompts = [write_prompt(scene, rng) for scene in scenes]
        generated = [_generate(pipe, prompts, float(rng.uniform(*GUIDANCE_SCALES)), rng) for _ in range(2)]
        for number, (scene, prompt) in enumerate(zip(scenes, prompts, strict=True)):
            clips = {"t2v-mini 1": generated[0][number], "t2v-mini 2": generated[1][number], **_rendered(scene, rng)}
            candidates = tuple(rated(name, clip, prompt) for name, clip in clips.items())
            items.append(Item(f"{split}-{len(items)}", prompt, "miniature", candidates))
    return items


def make_rendered_items(num_items: int, split: str, seed: int) -> list[Item]:
    """Make items of rendered clips alone, which cost little: one that shows the prompt, three with a fault each.

    Args:
        num_items (`int`): How many.
        split (`str`): Of the scenes.
        seed (`int`): Of scenes, prompts and faults.

    Returns:
        `list[Item]`: as of [`make_items`].
    """
    rng = np.random.default_rng([seed, 1])
    items: list[Item] = []
    for number in tqdm(range(num_items), desc=f"{split} rendered items", mininterval=10):
        scene = random_scene(rng, 0.12, split)
        prompt = write_prompt(scene, rng)
        clips = {"rendered": render(scene, rng)}
        # One fault of time, of which the head knows nothing yet, one of content, of which it must forget nothing, and
        # any other. The order of frames is hardest to see and needs most examples.
        motion = "wrong_direction" if rng.random() < 0.6 else "wrong_motion"
        content = rng.choice(["wrong_color", "wrong_shape"])
        other = rng.choice([fault for fault in FAULTS if fault not in CONTENT_FAULTS])
        for fault in map(str, (motion, content, other)):
            strength = float(rng.uniform(0.2, 1.0))
            clips[f"rendered with {fault}"] = render_with_fault(scene, fault, strength, rng)
        candidates = tuple(rated(name, clip, prompt) for name, clip in clips.items())
        items.append(Item(f"{split}-rendered-{number}", prompt, "miniature", candidates))
    return items


def _generate(pipe: LattePipeline, prompts: list[str], guidance_scale: float, rng: np.random.Generator) -> np.ndarray:
    return sample_clips(pipe, prompts, Sampling(NUM_INFERENCE_STEPS, guidance_scale), seed=int(rng.integers(2**31)))


def _rendered(scene: Scene, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw a clip that shows the scene, and one with any of the faults."""
    fault = str(rng.choice(FAULTS))
    return {
        "rendered": render(scene, rng),
        f"rendered with {fault}": render_with_fault(scene, fault, float(rng.uniform(0.2, 1.0)), rng),
    }


def rated(name: str, frames_THWC: np.ndarray, prompt: str) -> Candidate:
    """Let the judge rate a clip, in whole numbers as any judge of VIDEOPREFER."""
    verdict = judge(frames_THWC, prompt)
    ratings = {"prompt_following": verdict.prompt_following, "video_quality": verdict.video_quality}
    whole = {dimension: float(round(rating)) for dimension, rating in ratings.items()}
    return Candidate(name, frames_THWC, name, is_real=name == "rendered", ratings=whole, judge=JUDGE)
