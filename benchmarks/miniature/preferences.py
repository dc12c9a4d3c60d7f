"""Preferences of the small world: prompts, four clips each, and the measuring judge's ratings.

Generated items have four clips of t2v-mini, at different guidance: only these show its own faults. Rendered items are
cheap, and show time in all its faults: one clip that shows the prompt, three with a fault each.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from diffusers import LattePipeline
from tqdm import tqdm

from benchmarks.studies.world import Sampling, sample_clips
from videorm_hf.miniature.clips import NUM_FRAMES, SIDE, render
from videorm_hf.miniature.faults import CONTENT_FAULTS, FAULTS, render_with_fault
from videorm_hf.miniature.judge import judge
from videorm_hf.miniature.scenes import random_scene, write_prompt
from videorm_hf.videoprefer.items import Candidate, Item, Judge

JUDGE = Judge("measuring-judge", num_frames=NUM_FRAMES, temperature=0.0)
GUIDANCE_SCALES = (1.0, 8.0)
LARGEST_SHIFT = 3  # pixels
_PROMPTS_AT_ONCE = 16


def make_items(pipe: LattePipeline, num_items: int, split: str, seed: int) -> list[Item]:
    """Make items of four of the generator's clips each, with their ratings.

    Args:
        pipe (`LattePipeline`): The generator.
        num_items (`int`): How many, rounded up to whole batches of 16.
        split (`str`): Of the scenes, one of `videorm_hf.miniature.scenes.SPLITS`.
        seed (`int`): Of scenes, prompts, guidance and noise.

    Returns:
        `list[Item]`: with the clips in memory, as bytes of shape `(num_frames, 32, 32, 3)`.
    """
    rng = np.random.default_rng(seed)
    items: list[Item] = []
    for _ in tqdm(range(-(-num_items // _PROMPTS_AT_ONCE)), desc=f"{split} items", mininterval=10):
        scenes = [random_scene(rng, 0.0, split) for _ in range(_PROMPTS_AT_ONCE)]
        prompts = [write_prompt(scene, rng) for scene in scenes]
        samplings = [Sampling(guidance_scale=float(rng.uniform(*GUIDANCE_SCALES))) for _ in range(4)]
        generated = [sample_clips(pipe, prompts, sampling, int(rng.integers(2**31))) for sampling in samplings]
        for number, prompt in enumerate(prompts):
            clips = {f"t2v-mini {place}": clips[number] for place, clips in enumerate(generated, start=1)}
            candidates = tuple(rated(name, clip, prompt) for name, clip in clips.items())
            items.append(Item(f"{split}-{seed}-{len(items)}", prompt, "miniature", candidates))
    return items


def shift_items(items: Sequence[Item], num_copies: int, seed: int) -> list[Item]:
    """Copy items with their clips moved a few pixels, all of an item alike, the border repeated; ratings stay.

    Args:
        items (`Sequence[Item]`): As of [`make_items`].
        num_copies (`int`): Copies of each.
        seed (`int`): Of the ways.

    Returns:
        `list[Item]`: the copies.
    """
    rng = np.random.default_rng([seed, 2])
    copies: list[Item] = []
    for number, item in itertools.product(range(num_copies), items):
        down, right = rng.integers(0, 2 * LARGEST_SHIFT + 1, 2)
        window = (slice(None), slice(down, down + SIDE), slice(right, right + SIDE))
        border = ((0, 0), (LARGEST_SHIFT, LARGEST_SHIFT), (LARGEST_SHIFT, LARGEST_SHIFT), (0, 0))
        candidates = tuple(
            replace(candidate, video=np.ascontiguousarray(np.pad(candidate.video, border, mode="edge")[window]))
            for candidate in item.candidates
        )
        copies.append(replace(item, item_id=f"{item.item_id}-shifted-{number}", candidates=candidates))
    return copies


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


def rated(name: str, frames_THWC: np.ndarray, prompt: str) -> Candidate:
    """Let the judge rate a clip, in whole numbers as any judge of VIDEOPREFER."""
    verdict = judge(frames_THWC, prompt)
    ratings = {"prompt_following": verdict.prompt_following, "video_quality": verdict.video_quality}
    whole = {dimension: float(round(rating)) for dimension, rating in ratings.items()}
    return Candidate(name, frames_THWC, name, is_real=name == "rendered", ratings=whole, judge=JUDGE)
