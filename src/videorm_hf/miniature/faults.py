"""Faults as generators make them, put into clips of the small world one at a time.

Faults of content show another scene than the prompt tells; the others leave the scene and spoil its look or its time.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from videorm_hf.miniature.clips import NUM_FRAMES, SIDE, Track, draw, plan, with_thing
from videorm_hf.miniature.scenes import COLORS, HORIZONTAL, MOTIONS, MOVING, SHAPES, VERTICAL, Scene

_OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}


def render_with_fault(
    scene: Scene, fault: str, strength: float, rng: np.random.Generator, num_frames: int = NUM_FRAMES, side: int = SIDE
) -> np.ndarray:
    """Draw a scene with one fault.

    Args:
        scene (`Scene`): Complete in every attribute.
        fault (`str`): One of `FAULTS`.
        strength (`float`): In [0, 1]; 0 is a clean clip, except for the faults of content and order, which are whole.
        rng (`np.random.Generator`): Draws the clip and the fault.
        num_frames (`int`, defaults to 8): Frames of the clip.
        side (`int`, defaults to 32): Height and width in pixels.

    Returns:
        `np.ndarray` of shape `(num_frames, side, side, 3)`: bytes.

    Raises:
        ValueError: If the fault is not known or the strength is out of range.
    """
    if fault not in FAULTS:
        raise ValueError(f"fault must be one of {', '.join(FAULTS)}: got {fault!r}.")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be between 0 and 1: got {strength}.")
    if fault in CONTENT_FAULTS:
        scene = CONTENT_FAULTS[fault](scene, rng)
    tracks = plan(scene, rng, num_frames)
    if fault == "jitter":
        tracks = [_jittered(track, strength, rng) for track in tracks]
    frames_THWC = draw(scene, tracks, rng, side)
    return LOOK_FAULTS[fault](frames_THWC, strength, rng) if fault in LOOK_FAULTS else frames_THWC


def _jittered(track: Track, strength: float, rng: np.random.Generator) -> Track:
    """Let a thing tremble: by normal noise of at most 0.07 of the side, drawn anew in every frame."""
    return Track(track.centers + strength * 0.07 * rng.standard_normal(track.centers.shape), track.areas)


def _other(values: Sequence[str], value: str | None, rng: np.random.Generator) -> str:
    return str(rng.choice([other for other in values if other != value]))


def _wrong_color(scene: Scene, rng: np.random.Generator) -> Scene:
    unused = [color for color in COLORS if color not in {thing.color for thing in scene.things}]
    return with_thing(scene, 0, color=str(rng.choice(unused)))


def _wrong_shape(scene: Scene, rng: np.random.Generator) -> Scene:
    return with_thing(scene, 0, shape=_other(list(SHAPES), scene.things[0].shape, rng))


def _wrong_motion(scene: Scene, rng: np.random.Generator) -> Scene:
    """Change the first thing's motion; of two things, to one that fits the room that they share."""
    others = {thing.motion for thing in scene.things[1:]}
    barred = {motion for axis, crossing in ((HORIZONTAL, VERTICAL), (VERTICAL, HORIZONTAL)) if others & set(axis)
              for motion in crossing}  # fmt: skip
    motion = _other([name for name in MOTIONS if name not in barred], scene.things[0].motion, rng)
    return with_thing(scene, 0, motion=motion, speed="slow" if motion in MOVING else None)


def _wrong_direction(scene: Scene, rng: np.random.Generator) -> Scene:
    """Turn the first thing that has a direction; a scene without one gets a wrong motion instead."""
    for number, thing in enumerate(scene.things):
        if thing.motion in _OPPOSITE:
            return with_thing(scene, number, motion=_OPPOSITE[thing.motion])
    return _wrong_motion(scene, rng)


def _flicker(frames_THWC: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    gain = 1.0 + strength * 0.45 * rng.uniform(-1.0, 1.0, (len(frames_THWC), 1, 1, 3))
    return _bytes(frames_THWC * gain)


def _shuffled(frames_THWC: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    order = rng.permutation(len(frames_THWC))
    while (order == np.arange(len(order))).all() or (order == np.arange(len(order))[::-1]).all():
        order = rng.permutation(len(frames_THWC))
    return frames_THWC[order]


def _frozen(frames_THWC: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Repeat one frame from the middle of the clip."""
    return np.repeat(frames_THWC[len(frames_THWC) // 2][None], len(frames_THWC), axis=0)


def _blur(frames_THWC: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    sigma = strength * frames_THWC.shape[1] / 14
    return _bytes(ndimage.gaussian_filter(frames_THWC.astype(np.float64), (0, sigma, sigma, 0), mode="nearest"))


def _noise(frames_THWC: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    return _bytes(frames_THWC + strength * 35.0 * rng.standard_normal(frames_THWC.shape))


def _bytes(frames_THWC: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(frames_THWC), 0, 255).astype(np.uint8)


CONTENT_FAULTS: dict[str, Callable[[Scene, np.random.Generator], Scene]] = {
    "wrong_color": _wrong_color,
    "wrong_shape": _wrong_shape,
    "wrong_motion": _wrong_motion,
    "wrong_direction": _wrong_direction,
}
LOOK_FAULTS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "flicker": _flicker,
    "shuffled": _shuffled,
    "frozen": _frozen,
    "blur": _blur,
    "noise": _noise,
}
FAULTS = (*CONTENT_FAULTS, "jitter", *LOOK_FAULTS)
