"""What a prompt says of a scene can be read back from its words, and nothing more."""

import itertools
import re

import numpy as np
import pytest

from videorm_hf.miniature.scenes import (
    BACKGROUNDS,
    COLORS,
    MOTIONS,
    MOVING,
    SHAPES,
    SPLITS,
    Scene,
    Thing,
    parse_prompt,
    prompt_words,
    random_scene,
    split_of,
    write_prompt,
)


def test_every_prompt_claims_what_is_true_of_its_scene() -> None:
    rng = np.random.default_rng(0)
    said = set()
    for _ in range(3000):
        scene = random_scene(rng)
        claims = parse_prompt(write_prompt(scene, rng))
        assert len(claims.things) == len(scene.things)
        assert claims.background in (None, scene.background)
        for claim, thing in zip(claims.things, scene.things, strict=True):
            assert {"shape", "color", "motion"} <= claim.said().keys()
            assert claim.said().items() <= thing.said().items()
            said |= {(name, value) for name, value in claim.said().items()}
    assert {value for name, value in said if name == "motion"} == set(MOTIONS)
    assert {value for name, value in said if name == "shape"} == set(SHAPES)
    assert {name for name, _ in said} == {"shape", "color", "size", "motion", "speed"}


def test_scenes_are_complete_and_their_things_differ_in_color() -> None:
    rng = np.random.default_rng(1)
    scenes = [random_scene(rng) for _ in range(500)]
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert {thing.color for scene in scenes for thing in scene.things} == set(COLORS)
    assert 0.15 < np.mean([len(scene.things) == 2 for scene in scenes]) < 0.35
    for scene in scenes:
        assert len({thing.color for thing in scene.things}) == len(scene.things)
        assert all((thing.speed is not None) == (thing.motion in MOVING) for thing in scene.things)


@pytest.mark.parametrize(
    ("prompt", "claims"),
    [
        ("a red box moves in a circle", Scene((Thing("square", "red", motion="circling"),))),
        ("A BIG blue ball gets bigger", Scene((Thing("circle", "blue", "large", "growing"),))),
        (
            "a tiny green disc goes round and round and a yellow square rests, on a gray background",
            Scene((Thing("circle", "green", "small", "circling"), Thing("square", "yellow", motion="still")), "grey"),
        ),
        (
            "a blue triangle falls quickly, while a red ball bounces up and down",
            Scene((Thing("triangle", "blue", motion="down", speed="fast"), Thing("circle", "red", motion="bouncing"))),
        ),
        ("a dog runs on grass", Scene(())),
    ],
)
def test_known_prompts(prompt: str, claims: Scene) -> None:
    assert parse_prompt(prompt) == claims


def test_a_prompt_needs_a_complete_scene() -> None:
    with pytest.raises(ValueError, match="complete scene"):
        write_prompt(Scene((Thing("circle", "red"),), "black"), np.random.default_rng(0))


def test_splits_differ_in_combinations_and_share_every_pair_of_values() -> None:
    combinations = [(color, shape, motion) for color in COLORS for shape in SHAPES for motion in MOTIONS]
    by_split: dict[str, list[tuple[str, str, str]]] = {split: [] for split in SPLITS}
    for color, shape, motion in combinations:
        by_split[split_of(Thing(shape, color, motion=motion))].append((color, shape, motion))
    assert {split: len(rows) for split, rows in by_split.items()} == {"train": 69, "validation": 14, "test": 13}
    values = (COLORS, SHAPES, MOTIONS)
    for places in ([0], [1], [2], [0, 1], [0, 2], [1, 2]):
        every = set(itertools.product(*(values[place] for place in places)))
        assert {tuple(row[place] for place in places) for row in by_split["train"]} == every
    for split in SPLITS:
        assert all({row[place] for row in by_split[split]} == set(values[place]) for place in range(3))


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_of_a_split_are_of_that_split_alone(split: str) -> None:
    rng = np.random.default_rng(3)
    scenes = [random_scene(rng, 0.5, split) for _ in range(200)]
    assert {split_of(thing) for scene in scenes for thing in scene.things} == {split}
    assert {len(scene.things) for scene in scenes} == {1, 2}


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split must be one of train, validation, test: got 'dev'"):
        random_scene(np.random.default_rng(0), split="dev")


def test_prompts_have_no_other_words() -> None:
    rng = np.random.default_rng(4)
    words = {word for _ in range(3000) for word in re.findall("[a-z]+", write_prompt(random_scene(rng), rng))}
    assert words == set(prompt_words())
