"""Scenes of the small world, the prompts that name some of what is in them, and what a prompt claims.

A scene is one or two flat shapes on a plain background, each with one motion. A prompt never tells all; what it tells
can be read back from its words alone ([`parse_prompt`]), so that a judge needs no recipe.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

# Each attribute's values, and the words that name them in prompts; the first value of SIZES and SPEEDS is the smaller.
SHAPES: Mapping[str, Sequence[str]] = {
    "circle": ("circle", "disc", "ball"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
}
COLORS: Mapping[str, Sequence[str]] = {
    "red": ("red",),
    "green": ("green",),
    "blue": ("blue",),
    "yellow": ("yellow",),
}
SIZES: Mapping[str, Sequence[str]] = {"small": ("small", "little", "tiny"), "large": ("large", "big")}
BACKGROUNDS: Mapping[str, Sequence[str]] = {
    "black": ("black",),
    "grey": ("grey", "gray"),
    "white": ("white",),
}
MOTIONS: Mapping[str, Sequence[str]] = {
    "left": ("moves left", "moves to the left", "drifts left", "slides to the left"),
    "right": ("moves right", "moves to the right", "drifts right", "slides to the right"),
    "up": ("moves up", "rises", "floats upwards"),
    "down": ("moves down", "falls", "sinks downwards"),
    "circling": ("moves in a circle", "circles around", "goes round and round"),
    "bouncing": ("bounces", "bounces up and down", "hops up and down"),
    "growing": ("grows", "gets bigger", "swells"),
    "still": ("stands still", "does not move", "rests"),
}
SPEEDS: Mapping[str, Sequence[str]] = {"slow": ("slowly",), "fast": ("quickly", "fast")}
HORIZONTAL, VERTICAL = ("left", "right"), ("up", "down")
# Motions that have a speed.
MOVING = (*HORIZONTAL, *VERTICAL)
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Thing:
    """One shape and what it does; in a claim, `None` is what the prompt does not say.

    Args:
        shape (`str`, *optional*): One of `SHAPES`.
        color (`str`, *optional*): One of `COLORS`.
        size (`str`, *optional*): One of `SIZES`.
        motion (`str`, *optional*): One of `MOTIONS`.
        speed (`str`, *optional*): One of `SPEEDS`, for motions that have one.
    """

    shape: str | None = None
    color: str | None = None
    size: str | None = None
    motion: str | None = None
    speed: str | None = None

    def said(self) -> dict[str, str]:
        """Return what is not `None`, by attribute."""
        values = {item.name: self.__dict__[item.name] for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Scene:
    """One or two things on a background; as a claim, what a prompt says of them.

    Args:
        things (`tuple[Thing, ...]`): One or two.
        background (`str`, *optional*): One of `BACKGROUNDS`.
    """

    things: tuple[Thing, ...]
    background: str | None = None


def split_of(thing: Thing) -> str:
    """Tell to which split a combination of colour, shape and motion belongs.

    The training split has every value of each attribute and every pair of values of two attributes: what is new in
    the others is the combination of three.

    Args:
        thing (`Thing`): With colour, shape and motion.

    Returns:
        `str`: one of `SPLITS`. Of the 96 combinations 69 are in `"train"`, 14 in `"validation"`, 13 in `"test"`.
    """
    places = (list(COLORS).index(str(thing.color)), list(SHAPES).index(str(thing.shape)))
    rest = (places[0] + 2 * places[1] + 3 * list(MOTIONS).index(str(thing.motion))) % 7
    return {0: "validation", 1: "test"}.get(rest, "train")


def random_scene(rng: np.random.Generator, two_things: float = 0.25, split: str | None = None) -> Scene:
    """Draw a scene, complete in every attribute.

    Args:
        rng (`np.random.Generator`): Source of the draw.
        two_things (`float`, defaults to 0.25): Probability of a second thing, of another colour.
        split (`str`, *optional*): Draw until every thing's combination is of this split ([`split_of`]).

    Returns:
        `Scene`: with one or two things. Two things are small, so that each has room to move.

    Raises:
        ValueError: If the split is not one of `SPLITS`.
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}: got {split!r}.")
    number = 2 if rng.random() < two_things else 1
    while True:
        scene = _any_scene(rng, number)
        if split is None or all(split_of(thing) == split for thing in scene.things):
            return scene


def _any_scene(rng: np.random.Generator, number: int) -> Scene:
    colors = rng.permutation(list(COLORS))
    things: list[Thing] = []
    for color in colors[:number]:
        # Two things share the room in rows or in columns, so they cannot cross it along different axes.
        across = {axis for axis in (HORIZONTAL, VERTICAL) for thing in things if thing.motion in axis}
        barred = {motion for axis in (HORIZONTAL, VERTICAL) if across and axis not in across for motion in axis}
        motion = str(rng.choice([motion for motion in MOTIONS if motion not in barred]))
        size = "small" if number == 2 else str(rng.choice(list(SIZES)))
        speed = str(rng.choice(list(SPEEDS))) if motion in MOVING else None
        things.append(Thing(str(rng.choice(list(SHAPES))), str(color), size, motion, speed))
    return Scene(tuple(things), str(rng.choice(list(BACKGROUNDS))))


def write_prompt(scene: Scene, rng: np.random.Generator) -> str:
    """Word a prompt for a scene: always colour, shape and motion, of the rest only some.

    Args:
        scene (`Scene`): A complete scene.
        rng (`np.random.Generator`): Draws what is said, and in which words.

    Returns:
        `str`: such as `"a small red ball moves to the left, on a white background"`.
    """
    parts = []
    for thing in scene.things:
        size = f"{_word(SIZES, thing.size, rng)} " if rng.random() < 0.4 else ""
        noun = f"a {size}{_word(COLORS, thing.color, rng)} {_word(SHAPES, thing.shape, rng)}"
        speed = f" {_word(SPEEDS, thing.speed, rng)}" if thing.speed is not None and rng.random() < 0.4 else ""
        parts.append(f"{noun} {_word(MOTIONS, thing.motion, rng)}{speed}")
    prompt = str(rng.choice([" and ", ", while "])).join(parts)
    if rng.random() < 0.4:
        prompt += f", on a {_word(BACKGROUNDS, scene.background, rng)} background"
    return prompt


def distinct_prompts(
    number: int, rng: np.random.Generator, two_things: float = 0.25, split: str | None = None
) -> list[str]:
    """Word prompts of random scenes until there are enough different ones.

    Args:
        number (`int`): How many.
        rng (`np.random.Generator`): Draws scenes and words.
        two_things (`float`, defaults to 0.25): As in [`random_scene`].
        split (`str`, *optional*): As in [`random_scene`].

    Returns:
        `list[str]`: in the order drawn.
    """
    prompts: dict[str, None] = {}
    while len(prompts) < number:
        prompts[write_prompt(random_scene(rng, two_things, split), rng)] = None
    return list(prompts)


def prompt_words() -> list[str]:
    """Return every word that prompts are made of, in alphabetical order."""
    groups = (SHAPES, COLORS, SIZES, BACKGROUNDS, MOTIONS, SPEEDS)
    phrases = [phrase for group in groups for words in group.values() for phrase in words]
    return sorted({word for phrase in phrases for word in phrase.split()} | {"a", "and", "background", "on", "while"})


def parse_prompt(prompt: str) -> Scene:
    """Read what a prompt claims.

    Args:
        prompt (`str`): Of [`write_prompt`], or in its words.

    Returns:
        `Scene`: what is said; `None` where nothing is. `Scene(())` where no thing is named.
    """
    text = prompt.lower()
    background = None
    for name, words in BACKGROUNDS.items():
        if re.search(rf"{_any_of(words)} background\b", text):
            background = name
    things = []
    for part in re.split(r", while | and (?=an? )", text):
        motion = _find(MOTIONS, part)
        # Without the motion's words: what moves in a circle need not be one.
        noun = re.sub(_any_of(MOTIONS[motion]), " ", part) if motion is not None else part
        shape = _find(SHAPES, noun)
        if shape is not None:
            things.append(Thing(shape, _find(COLORS, noun), _find(SIZES, noun), motion, _find(SPEEDS, part)))
    return Scene(tuple(things), background)


def _word(words: Mapping[str, Sequence[str]], value: str | None, rng: np.random.Generator) -> str:
    if value is None:
        raise ValueError("A prompt is written about a complete scene, got one with an attribute of None.")
    return str(rng.choice(list(words[value])))


def _find(words: Mapping[str, Sequence[str]], text: str) -> str | None:
    """Return the value that the text names first."""
    places = [(match.start(), name) for name, group in words.items() if (match := re.search(_any_of(group), text))]
    return min(places)[1] if places else None


def _any_of(words: Sequence[str]) -> str:
    return rf"\b(?:{'|'.join(sorted(words, key=len, reverse=True))})\b"
