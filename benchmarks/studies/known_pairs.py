"""Pairs of clips of which the better one is known: a true clip against one with a fault, or against itself backwards.

Scenes are of one split, by default the test split. Faults of time are put where something moves, for a still thing
shows none of them.
"""

from dataclasses import dataclass

import numpy as np

from videorm_hf.miniature.clips import render
from videorm_hf.miniature.faults import render_with_fault
from videorm_hf.miniature.scenes import MOVING, Scene, random_scene, write_prompt

# What is tested: each fault, and whether seeing it needs more than single frames.
PROMPT_FOLLOWING = ("wrong_color", "wrong_shape")
MOTION = ("wrong_direction", "wrong_motion", "backwards", "shuffled", "frozen")
STEADINESS = ("flicker", "jitter")
LOOK = ("blur", "noise")
GROUPS = {
    "prompt following": PROMPT_FOLLOWING,
    "motion and order": MOTION,
    "steadiness": STEADINESS,
    "look": LOOK,
}
TIME_MATTERS = (*MOTION, *STEADINESS)
TIME_DOES_NOT = (*PROMPT_FOLLOWING, *LOOK)
_STRENGTHS = (0.4, 1.0)


@dataclass(frozen=True)
class KnownPairs:
    """Pairs with one kind of fault.

    Args:
        prompts (`list[str]`): One a pair.
        better (`np.ndarray` of shape `(num_pairs, 8, 32, 32, 3)`): Bytes.
        worse (`np.ndarray` of shape `(num_pairs, 8, 32, 32, 3)`): Bytes.
    """

    prompts: list[str]
    better: np.ndarray
    worse: np.ndarray


def make_pairs(fault: str, number: int, seed: int, split: str = "test") -> KnownPairs:
    """Draw pairs with one kind of fault.

    Args:
        fault (`str`): One of the faults above.
        number (`int`): How many pairs.
        seed (`int`): Of the draw.
        split (`str`, defaults to `"test"`): Which scenes.

    Returns:
        [`KnownPairs`]
    """
    rng = np.random.default_rng([seed, *fault.encode()])
    rows = [_pair(fault, _scene(fault, rng, split), rng) for _ in range(number)]
    prompts, better, worse = zip(*rows, strict=True)
    return KnownPairs(list(prompts), np.stack(better), np.stack(worse))


def _scene(fault: str, rng: np.random.Generator, split: str) -> Scene:
    """Draw a scene that shows the fault."""
    while True:
        scene = random_scene(rng, 0.25, split)
        motions = {thing.motion for thing in scene.things}
        directed = bool(motions & set(MOVING))
        if fault in ("wrong_direction", "backwards", "shuffled") and not directed:
            continue
        if fault == "frozen" and motions == {"still"}:
            continue
        return scene


def _pair(fault: str, scene: Scene, rng: np.random.Generator) -> tuple[str, np.ndarray, np.ndarray]:
    prompt, better = write_prompt(scene, rng), render(scene, rng)
    if fault == "backwards":
        return prompt, better, better[::-1]
    return prompt, better, render_with_fault(scene, fault, float(rng.uniform(*_STRENGTHS)), rng)
