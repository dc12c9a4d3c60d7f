"""The measuring judge: reads pixels, not recipes, and rates from 1 to 5 as a person with a ruler would.

It finds saturated things on a neutral background, fits shape, place and area in every frame, and asks which motion
explains the places best. Prompt following is the share of a prompt's claims that hold; video quality falls with what
no clean clip shows: unsteady places, areas, colours and background, and pixels that no flat shape explains.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage, optimize

from videorm_hf.miniature.clips import AREAS, BACKGROUND_VALUES, COLOR_VALUES, GROWTH, SIDE, WAYS, shape_coverage
from videorm_hf.miniature.scenes import SHAPES, Scene, Thing, parse_prompt
from videorm_hf.videoprefer.video_io import to_bytes

# A pixel is part of a thing where its channels differ by more than this, of 255; backgrounds are neutral.
_SATURATION = 40.0
# Smallest thing that counts, as a fraction of the frame.
_SMALLEST_AREA = 0.006
# Below this way over the clip, as a fraction of the side, a thing stands still.
_STILL = 0.06
_BETWEEN_SIZES = math.sqrt(AREAS["small"] * AREAS["large"])
_BETWEEN_SPEEDS = math.sqrt(WAYS["slow"] * WAYS["fast"])


@dataclass(frozen=True)
class Measured:
    """One thing as it was measured over a clip.

    Args:
        thing (`Thing`): Its attributes.
        shown (`float`): Share of the frames that show it, in [0, 1].
        unsteady (`float`): Root mean square distance of its centroid from what the motion explains, as a fraction of
            the side.
        area_noise (`float`): Root mean square deviation of its area from steady change, as a fraction of its area.
        flicker (`float`): Standard deviation over time of its colour, of 255.
        misshapen (`float`): Mean difference in coverage from the best flat shape, as a fraction of its area.
    """

    thing: Thing
    shown: float
    unsteady: float
    area_noise: float
    flicker: float
    misshapen: float


@dataclass(frozen=True)
class Measurement:
    """A clip as it was measured.

    Args:
        things (`tuple[Measured, ...]`): Found things, those that most frames show first.
        background (`str`): Nearest of `BACKGROUNDS`.
        background_flicker (`float`): Standard deviation over time of the background's level, of 255.
        noise (`float`): Root mean square deviation of the background's pixels from its level, of 255.
    """

    things: tuple[Measured, ...]
    background: str
    background_flicker: float
    noise: float


@dataclass(frozen=True)
class Verdict:
    """Ratings of one clip.

    Args:
        prompt_following (`float`): From 1 (no claim holds) to 5 (all do).
        video_quality (`float`): From 1 to 5 (as a clean clip).
        claims (`dict[str, bool]`): Each claim of the prompt, such as `"thing 1 color=red"`, and whether it holds.
    """

    prompt_following: float
    video_quality: float
    claims: dict[str, bool]


def judge(frames_THWC: np.ndarray, prompt: str) -> Verdict:
    """Rate a clip for a prompt.

    Args:
        frames_THWC (`np.ndarray` of shape `(num_frames, height, width, 3)`): Bytes, square frames, at least two.
        prompt (`str`): In the words of [`~videorm_hf.miniature.scenes.write_prompt`].

    Returns:
        `Verdict`: ratings without rounding.

    Raises:
        ValueError: If the prompt names no thing of the small world.
    """
    claimed = parse_prompt(prompt)
    if not claimed.things:
        raise ValueError(f"The judge knows the small world only, and this prompt names nothing in it: {prompt!r}.")
    measured = measure(frames_THWC)
    claims = check_claims(claimed, measured)
    return Verdict(1.0 + 4.0 * float(np.mean(list(claims.values()))), video_quality(measured), claims)


def rate_frames(frames_BTCHW: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
    """Rate clips in the form of a reward, such as for the monitors of `DRaFTVTrainer`; no gradient comes of it.

    Args:
        frames_BTCHW (`torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`): Values in [0, 1].
        prompts (`Sequence[str]`): One a clip.

    Returns:
        `torch.Tensor` of shape `(batch_size,)`: mean of both ratings, from 1 to 5.
    """
    frames_BTHWC = to_bytes(frames_BTCHW).permute(0, 1, 3, 4, 2).cpu().numpy()
    verdicts = [judge(frames, prompt) for frames, prompt in zip(frames_BTHWC, prompts, strict=True)]
    return torch.tensor([(verdict.prompt_following + verdict.video_quality) / 2 for verdict in verdicts])


def check_claims(claimed: Scene, measured: Measurement) -> dict[str, bool]:
    """Compare what a prompt claims with what was measured.

    Things are matched so that most claims hold. A thing too many, or too few, breaks the claim of their number.

    Args:
        claimed (`Scene`): What the prompt says.
        measured (`Measurement`): What was measured.

    Returns:
        `dict[str, bool]`: each claim, and whether it holds.
    """
    found = [item.thing for item in measured.things]
    padded = found + [Thing()] * max(0, len(claimed.things) - len(found))
    options = [_thing_claims(claimed.things, chosen) for chosen in itertools.permutations(padded, len(claimed.things))]
    claims = max(options, key=lambda option: sum(option.values()))
    claims["number of things"] = len(found) == len(claimed.things)
    if claimed.background is not None:
        claims[f"background={claimed.background}"] = measured.background == claimed.background
    return claims


def video_quality(measured: Measurement) -> float:
    """Rate how much a clip looks like a clean one, from 1 to 5.

    Each fault is measured against the amount that costs all: 4 points at that amount, less in proportion.

    Args:
        measured (`Measurement`): What was measured.

    Returns:
        `float`: 5 without a fault, 1 where faults add up to 4 points or nothing is shown.
    """
    if not measured.things:
        return 1.0
    faults = [measured.background_flicker / 40.0, measured.noise / 40.0]
    worst = {
        "hidden": max(1.0 - item.shown for item in measured.things) / 0.5,
        "unsteady": max(max(0.0, item.unsteady - 0.012) for item in measured.things) / 0.10,
        "area": max(max(0.0, item.area_noise - 0.04) for item in measured.things) / 0.4,
        "flicker": max(max(0.0, item.flicker - 4.0) for item in measured.things) / 50.0,
        "misshapen": max(max(0.0, item.misshapen - 0.15) for item in measured.things) / 0.45,
    }
    return 5.0 - 4.0 * min(1.0, sum(faults) + sum(worst.values()))


def measure(frames_THWC: np.ndarray) -> Measurement:
    """Find the things of a clip and follow them.

    Args:
        frames_THWC (`np.ndarray` of shape `(num_frames, height, width, 3)`): Bytes, square frames, at least two; those
            of a whole multiple of 32 pixels are shrunk to 32.

    Returns:
        `Measurement`: what is to be seen.

    Raises:
        ValueError: If the clip has another layout.
    """
    if frames_THWC.ndim != 4 or frames_THWC.shape[-1] != 3 or frames_THWC.shape[1] != frames_THWC.shape[2]:
        raise ValueError(f"Expected square frames (num_frames, side, side, 3), got shape {frames_THWC.shape}.")
    if frames_THWC.dtype != np.uint8 or len(frames_THWC) < 2:
        raise ValueError(f"Expected at least two frames of bytes, got {len(frames_THWC)} of {frames_THWC.dtype}.")
    pixels = _at_own_side(frames_THWC.astype(np.float64))
    # A little softer than the clip: what stands out of it is a thing, not a noisy pixel.
    soft = ndimage.gaussian_filter(pixels, (0, 0.7, 0.7, 0), mode="nearest")
    saturation_THW = soft.max(axis=-1) - soft.min(axis=-1)
    neutral_THW = saturation_THW < _SATURATION / 2
    levels = np.array([
        np.median(frame[neutral]) if neutral.any() else np.median(frame)
        for frame, neutral in zip(pixels.mean(axis=-1), neutral_THW, strict=True)
    ])  # fmt: skip
    calm_THW = ndimage.binary_erosion(neutral_THW, np.ones((1, 3, 3)), border_value=1)
    deviation = (pixels.mean(axis=-1) - levels[:, None, None])[calm_THW]
    nearest_THW = _nearest_colors(soft, levels)
    masks = [(saturation_THW > _SATURATION) & (nearest_THW == number) for number in range(len(COLOR_VALUES))]
    things = [_follow(pixels, levels, mask, color) for color, mask in zip(COLOR_VALUES, masks, strict=True)]
    return Measurement(
        tuple(sorted((item for item in things if item is not None), key=lambda item: -item.shown)),
        min(BACKGROUND_VALUES, key=lambda name: abs(BACKGROUND_VALUES[name] - float(np.median(levels)))),
        float(levels.std()),
        float(np.sqrt(np.mean(deviation**2))) if deviation.size else 0.0,
    )


def _at_own_side(pixels: np.ndarray) -> np.ndarray:
    """Shrink frames that were enlarged a whole number of times for their file."""
    factor, rest = divmod(pixels.shape[1], SIDE)
    if factor < 2 or rest:
        return pixels
    return pixels.reshape(len(pixels), SIDE, factor, SIDE, factor, 3).mean(axis=(2, 4))


def _follow(pixels: np.ndarray, levels: np.ndarray, mask_THW: np.ndarray, color: str) -> Measured | None:
    """Measure the thing of one colour; None where there is none in at least half of the frames."""
    places: list[np.ndarray | None] = []
    areas, colors, shapes = [], [], []
    side = pixels.shape[1]
    for frame, level, mask in zip(pixels, levels, mask_THW, strict=True):
        found = _largest(mask)
        if found is None or found.sum() < _SMALLEST_AREA * side**2:
            places.append(None)
            continue
        coverage, mean = _coverage(frame, level, found)
        place, area = _moments(coverage)
        places.append(place)
        areas.append(area)
        colors.append(mean)
        shapes.append(
            {shape: abs(shape_coverage(shape, place, area, side) - coverage).mean() / area for shape in SHAPES}
        )
    if len(areas) * 2 < len(pixels) or len(areas) < 2:
        return None
    time = np.array([number for number, place in enumerate(places) if place is not None]) / (len(places) - 1)
    path = np.array([place for place in places if place is not None])
    misfit = {shape: float(np.mean([fits[shape] for fits in shapes])) for shape in SHAPES}
    shape = min(misfit, key=lambda name: misfit[name])
    motion, speed, unsteady = _motion(time, path, np.array(areas))
    slope = np.polynomial.Polynomial.fit(time, areas, 1)
    thing = Thing(shape, color, "large" if np.mean(areas) > _BETWEEN_SIZES else "small", motion, speed)
    return Measured(
        thing=thing,
        shown=len(areas) / len(pixels),
        unsteady=unsteady,
        area_noise=float(np.sqrt(np.mean((areas - slope(time)) ** 2)) / np.mean(areas)),
        flicker=float(np.std(colors, axis=0).max()),
        misshapen=misfit[shape],
    )


def _nearest_colors(pixels: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return for each pixel the colour whose mixture with the background is nearest in direction."""
    offset = pixels - levels[:, None, None, None]
    similarity = []
    for value in COLOR_VALUES.values():
        direction = np.array(value, dtype=np.float64) - levels[:, None]
        direction = direction - direction.mean(axis=1, keepdims=True)
        direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        similarity.append(np.einsum("thwc,tc->thw", offset - offset.mean(axis=-1, keepdims=True), direction))
    return np.argmax(similarity, axis=0)


def _largest(mask: np.ndarray) -> np.ndarray | None:
    """Return the largest connected part of a mask, a pixel wider for its soft edge."""
    labels, number = ndimage.label(mask, np.ones((3, 3)))
    if number == 0:
        return None
    largest = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    return ndimage.binary_dilation(largest, np.ones((3, 3))) if largest.any() else None


def _coverage(frame: np.ndarray, level: float, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how much of each pixel the thing covers, and its colour."""
    inside = ndimage.binary_erosion(found, np.ones((3, 3)), iterations=2, border_value=1)
    inside = inside if inside.any() else ndimage.binary_erosion(found, np.ones((3, 3)), border_value=1)
    color = np.median(frame[inside], axis=0)
    direction = color - level
    coverage = (frame - level) @ direction / (direction @ direction)
    return np.where(found, np.clip(coverage, 0.0, 1.0), 0.0), color


def _moments(coverage: np.ndarray) -> tuple[np.ndarray, float]:
    """Return centroid (x, y) and area of a coverage map, as fractions of the side and of the frame."""
    side = len(coverage)
    middles = (np.arange(side) + 0.5) / side
    total = coverage.sum()
    place = np.array([coverage.sum(axis=0) @ middles, coverage.sum(axis=1) @ middles]) / total
    return place, float(total / side**2)


def _motion(time: np.ndarray, path: np.ndarray, areas: np.ndarray) -> tuple[str, str | None, float]:
    """Return the motion that explains a path best, its speed where it has one, and what is left unexplained."""
    rest = _residual(path, [np.ones_like(time)])
    straight, (slope_x, slope_y) = _line(time, path)
    around, radius = min(_circle(time, path), key=lambda fit: fit[0])
    bounce, height = _bounce(time, path)
    way = math.hypot(slope_x, slope_y)
    explained: list[tuple[float, str, str | None]] = []
    if way > _STILL:
        horizontal = abs(slope_x) >= abs(slope_y)
        direction = ("left" if slope_x < 0 else "right") if horizontal else ("up" if slope_y < 0 else "down")
        explained.append((straight, direction, "fast" if way > _BETWEEN_SPEEDS else "slow"))
    if radius > _STILL:
        explained.append((around, "circling", None))
    if height > _STILL:
        explained.append((bounce, "bouncing", None))
    best = min(explained, default=(math.inf, "still", None))
    growth = float(np.exp(np.polyfit(time, np.log(areas), 1)[0]))
    # A motion must explain most of what a thing does; else it stands, or trembles, where it is.
    if rest < _STILL / 2 or best[0] > 0.5 * rest:
        return ("growing" if growth > math.sqrt(GROWTH) else "still"), None, rest
    return best[1], best[2], best[0]


def _line(time: np.ndarray, path: np.ndarray) -> tuple[float, np.ndarray]:
    basis = [np.ones_like(time), time]
    return _residual(path, basis), _coefficients(path, basis)[1]


def _circle(time: np.ndarray, path: np.ndarray) -> list[tuple[float, float]]:
    """Fit one turn in each sense of rotation; return what is left and the radius."""
    fits = []
    for sense in (-1.0, 1.0):
        angle = 2 * math.pi * sense * time
        ones, none = np.ones_like(time), np.zeros_like(time)
        # x = a + p cos - q sin, y = b + p sin + q cos: one radius for both axes.
        left = np.block([
            [ones[:, None], none[:, None], np.cos(angle)[:, None], -np.sin(angle)[:, None]],
            [none[:, None], ones[:, None], np.sin(angle)[:, None], np.cos(angle)[:, None]],
        ])  # fmt: skip
        right = np.concatenate([path[:, 0], path[:, 1]])
        solution = np.linalg.lstsq(left, right, rcond=None)[0]
        fits.append((_root_mean_square((left @ solution - right).reshape(2, -1).T), float(np.hypot(*solution[2:]))))
    return fits


def _bounce(time: np.ndarray, path: np.ndarray) -> tuple[float, float]:
    """Fit two hops in whatever phase; return what is left and the height."""

    def fit(phase: float) -> tuple[float, float]:
        hops = abs(np.sin(2 * math.pi * (time + phase)))
        basis = [np.ones_like(time), hops]
        x_left = path[:, :1] - path[:, :1].mean()
        left = path[:, 1:] - np.stack(basis, axis=1) @ _coefficients(path[:, 1:], basis)
        return _root_mean_square(np.concatenate([x_left, left], axis=1)), -float(
            _coefficients(path[:, 1:], basis)[1, 0]
        )

    phase = optimize.brute(lambda phases: fit(float(phases[0]))[0], [slice(0.0, 0.5, 0.05)], finish=None)
    return fit(float(phase))


def _coefficients(values: np.ndarray, basis: Sequence[np.ndarray]) -> np.ndarray:
    return np.linalg.lstsq(np.stack(basis, axis=1), values, rcond=None)[0]


def _residual(path: np.ndarray, basis: Sequence[np.ndarray]) -> float:
    return _root_mean_square(path - np.stack(basis, axis=1) @ _coefficients(path, basis))


def _root_mean_square(rows: np.ndarray) -> float:
    """Return the root of the mean squared length of rows."""
    return float(np.sqrt((rows**2).sum(axis=1).mean()))


def _thing_claims(claimed: Sequence[Thing], found: Sequence[Thing]) -> dict[str, bool]:
    return {
        f"thing {number} {name}={value}": thing.said().get(name) == value
        for number, (claim, thing) in enumerate(zip(claimed, found, strict=True), start=1)
        for name, value in claim.said().items()
    }
