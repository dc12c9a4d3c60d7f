"""Scenes drawn as clips: antialiased flat shapes whose centres and areas follow their motion.

Layout: frames_THWC, uint8. Places are fractions of the frame's side, from the upper left corner; y points downwards.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from videorm_hf.miniature.scenes import HORIZONTAL, VERTICAL, Scene, Thing

NUM_FRAMES = 8
SIDE = 32
COLOR_VALUES = {"red": (215, 40, 40), "green": (40, 165, 60), "blue": (50, 75, 215), "yellow": (225, 195, 40)}
BACKGROUND_VALUES = {"black": 20, "grey": 128, "white": 235}
# Area as a fraction of the frame; the same for every shape, so that size is one thing to see.
AREAS = {"small": 0.035, "large": 0.09}
# Way over a clip, as a fraction of the side.
WAYS = {"slow": 0.22, "fast": 0.5}
BOUNCE_HEIGHT, CIRCLE_RADIUS, GROWTH = 0.2, 0.14, 3.0
_MARGIN, _OVERSAMPLING = 0.03, 4


@dataclass(frozen=True)
class Track:
    """What a thing does on the screen.

    Args:
        centers (`np.ndarray` of shape `(num_frames, 2)`): x and y of its centroid.
        areas (`np.ndarray` of shape `(num_frames,)`): Its area, as a fraction of the frame.
    """

    centers: np.ndarray
    areas: np.ndarray


def render(scene: Scene, rng: np.random.Generator, num_frames: int = NUM_FRAMES, side: int = SIDE) -> np.ndarray:
    """Draw a scene from a random start.

    Args:
        scene (`Scene`): Complete in every attribute.
        rng (`np.random.Generator`): Draws where things start and how bright they are.
        num_frames (`int`, defaults to 8): Frames of the clip, at least 2.
        side (`int`, defaults to 32): Height and width in pixels.

    Returns:
        `np.ndarray` of shape `(num_frames, side, side, 3)`: bytes.
    """
    return draw(scene, plan(scene, rng, num_frames), rng, side)


def plan(scene: Scene, rng: np.random.Generator, num_frames: int = NUM_FRAMES) -> list[Track]:
    """Place the things of a scene and let them move.

    Args:
        scene (`Scene`): Complete in every attribute.
        rng (`np.random.Generator`): Draws where things start.
        num_frames (`int`, defaults to 8): Frames of the clip, at least 2.

    Returns:
        `list[Track]`: one for each thing. They stay within the frame and, of two, each in its own half.

    Raises:
        ValueError: If `num_frames` is below 2.
    """
    if num_frames < 2:
        raise ValueError(f"A clip of the small world needs at least 2 frames to show motion, got {num_frames}.")
    rooms = _rooms(scene, rng)
    return [_plan_thing(thing, room, rng, num_frames) for thing, room in zip(scene.things, rooms, strict=True)]


def draw(scene: Scene, tracks: list[Track], rng: np.random.Generator, side: int = SIDE) -> np.ndarray:
    """Draw things where their tracks say.

    Args:
        scene (`Scene`): What they look like.
        tracks (`list[Track]`): One for each thing.
        rng (`np.random.Generator`): Draws small differences of brightness, the same for all frames.
        side (`int`, defaults to 32): Height and width in pixels.

    Returns:
        `np.ndarray` of shape `(num_frames, side, side, 3)`: bytes.
    """
    level = BACKGROUND_VALUES[str(scene.background)] + rng.uniform(-12, 12)
    frames_THWC = np.full((len(tracks[0].areas), side, side, 3), level)
    for thing, track in zip(scene.things, tracks, strict=True):
        color = np.array(COLOR_VALUES[str(thing.color)]) * rng.uniform(0.9, 1.05)
        for frame, center, area in zip(frames_THWC, track.centers, track.areas, strict=True):
            coverage = shape_coverage(str(thing.shape), center, area, side)[..., None]
            frame += coverage * (color - frame)
    return np.clip(np.rint(frames_THWC), 0, 255).astype(np.uint8)


def shape_coverage(shape: str, center: np.ndarray, area: float, side: int) -> np.ndarray:
    """Say how much of each pixel a shape covers.

    Args:
        shape (`str`): One of `SHAPES`. Triangles stand on a side.
        center (`np.ndarray` of shape `(2,)`): x and y of its centroid.
        area (`float`): Its area, as a fraction of the frame.
        side (`int`): Height and width of the frame in pixels.

    Returns:
        `np.ndarray` of shape `(side, side)`: values in [0, 1].
    """
    fine = (np.arange(side * _OVERSAMPLING) + 0.5) / (side * _OVERSAMPLING)
    x, y = fine[None, :] - center[0], fine[:, None] - center[1]
    if shape == "circle":
        inside = x**2 + y**2 <= area / math.pi
    elif shape == "square":
        half = math.sqrt(area) / 2
        inside = (abs(x) <= half) & (abs(y) <= half)
    else:  # equilateral: the centroid lies a third of the height above the base
        height = math.sqrt(area * math.sqrt(3))
        inside = (y <= height / 3) & (y + 2 * height / 3 >= math.sqrt(3) * abs(x))
    return inside.reshape(side, _OVERSAMPLING, side, _OVERSAMPLING).mean(axis=(1, 3))


def _rooms(scene: Scene, rng: np.random.Generator) -> list[tuple[float, float, float, float]]:
    """Return the room of each thing, as left, top, right, bottom."""
    if len(scene.things) == 1:
        return [(0.0, 0.0, 1.0, 1.0)]
    motions = {thing.motion for thing in scene.things}
    if motions & set(HORIZONTAL) or (not motions & set(VERTICAL) and rng.random() < 0.5):
        rooms = [(0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0)]
    else:
        rooms = [(0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)]
    return rooms if rng.random() < 0.5 else rooms[::-1]


def _plan_thing(
    thing: Thing, room: tuple[float, float, float, float], rng: np.random.Generator, num_frames: int
) -> Track:
    """Draw where in its room a thing starts, such that all of its way lies there."""
    time = np.linspace(0.0, 1.0, num_frames)
    areas = np.full(num_frames, AREAS[str(thing.size)])
    if thing.motion == "growing":
        areas = areas * np.interp(time, [0, 1], [1 / math.sqrt(GROWTH), math.sqrt(GROWTH)])
    way = _way(thing, time, rng)
    reach = 0.88 * math.sqrt(areas.max()) + _MARGIN  # of a triangle, whose top is farthest from its centroid
    lows = np.array(room[:2]) + reach - way.min(axis=0)
    highs = np.array(room[2:]) - reach - way.max(axis=0)
    middle = (lows + highs) / 2
    start = rng.uniform(np.minimum(lows, middle), np.maximum(highs, middle))
    return Track(start + way, areas)


def _way(thing: Thing, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the way from the start, of shape `(num_frames, 2)`."""
    still = np.zeros_like(time)
    if thing.motion == "bouncing":
        return np.stack([still, -BOUNCE_HEIGHT * abs(np.sin(2 * math.pi * time))], axis=1)
    if thing.motion == "circling":
        angle = 2 * math.pi * (time * rng.choice([-1, 1]) + rng.random())
        return CIRCLE_RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    direction = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(str(thing.motion), (0, 0))
    length = WAYS[thing.speed] if thing.speed is not None else 0.0
    return length * time[:, None] * np.array(direction)


def with_thing(scene: Scene, number: int, **changes: str | None) -> Scene:
    """Return the scene with one of its things changed.

    Args:
        scene (`Scene`): The scene.
        number (`int`): Which thing, from 0.
        changes (`str`): Attributes of [`Thing`].

    Returns:
        `Scene`: a new one.
    """
    things = list(scene.things)
    things[number] = dataclasses.replace(things[number], **changes)
    return dataclasses.replace(scene, things=tuple(things))
