"""The judge finds in pixels what was drawn, gives clean clips 5 and 5, and takes points for what is spoilt."""

from pathlib import Path

import numpy as np
import pytest
import torch

from videorm_hf.miniature.clips import SIDE, plan, render
from videorm_hf.miniature.faults import CONTENT_FAULTS, FAULTS, render_with_fault
from videorm_hf.miniature.judge import _motion, judge, measure
from videorm_hf.miniature.scenes import Scene, Thing, random_scene, write_prompt
from videorm_hf.models.videorm.video_decoding_videorm import read_frames
from videorm_hf.videoprefer.video_io import write_video


def scenes(number: int, seed: int) -> list[tuple[Scene, str, np.random.Generator]]:
    rng = np.random.default_rng(seed)
    return [(scene := random_scene(rng), write_prompt(scene, rng), rng) for _ in range(number)]


def test_clean_clips_are_measured_as_they_were_drawn() -> None:
    for scene, prompt, rng in scenes(60, seed=1):
        frames = render(scene, rng)
        measured = measure(frames)
        found = {item.thing for item in measured.things}
        drawn = {thing for thing in scene.things}
        assert {(thing.shape, thing.color, thing.motion, thing.speed) for thing in found} == {
            (thing.shape, thing.color, thing.motion, thing.speed) for thing in drawn
        }
        assert measured.background == scene.background
        verdict = judge(frames, prompt)
        assert verdict.prompt_following == 5.0 and verdict.video_quality > 4.9


def test_a_clip_read_from_its_file_is_rated_the_same(tmp_path: Path) -> None:
    for scene, prompt, rng in scenes(12, seed=2):
        frames = render(scene, rng)
        file = write_video(torch.from_numpy(frames).permute(0, 3, 1, 2), tmp_path / "clip.mp4", scale=4)
        verdict = judge(read_frames(file, len(frames)).frames, prompt)
        assert verdict.prompt_following == 5.0 and verdict.video_quality > 4.9


@pytest.mark.parametrize("fault", CONTENT_FAULTS)
def test_another_content_breaks_its_claim_and_nothing_else(fault: str) -> None:
    attribute = {"wrong_color": "color", "wrong_shape": "shape"}.get(fault, "motion")
    for scene, prompt, rng in scenes(40, seed=3):
        verdict = judge(render_with_fault(scene, fault, 1.0, rng), prompt)
        wrong = [claim for claim, holds in verdict.claims.items() if not holds]
        assert any(attribute in claim for claim in wrong)
        assert all(attribute in claim or "speed" in claim for claim in wrong)
        assert verdict.prompt_following < 5.0 and verdict.video_quality > 4.9


@pytest.mark.parametrize("fault", ["jitter", "flicker", "blur", "noise"])
def test_quality_falls_with_the_strength_of_a_fault(fault: str) -> None:
    means = []
    for strength in (0.0, 0.4, 1.0):
        ratings = [
            judge(render_with_fault(scene, fault, strength, rng), prompt).video_quality
            for scene, prompt, rng in scenes(25, seed=4)
        ]
        means.append(np.mean(ratings))
        assert all(1.0 <= rating <= 5.0 for rating in ratings)
    assert means[0] > 4.9 and means[0] > means[1] + 0.15 and means[1] > means[2] + 0.15


def test_shuffled_frames_lose_quality_where_something_moves() -> None:
    moving = [item for item in scenes(80, seed=5) if item[0].things[0].speed == "fast"]
    ratings = [judge(render_with_fault(scene, "shuffled", 1.0, rng), prompt) for scene, prompt, rng in moving]
    assert np.mean([rating.video_quality for rating in ratings]) < 2.5


def test_a_frozen_clip_follows_only_prompts_about_rest() -> None:
    for scene, prompt, rng in scenes(40, seed=6):
        verdict = judge(render_with_fault(scene, "frozen", 1.0, rng), prompt)
        still = all(thing.motion == "still" for thing in scene.things)
        assert (verdict.prompt_following == 5.0) == still


def test_an_empty_clip_and_a_thing_too_many() -> None:
    empty = np.full((8, SIDE, SIDE, 3), 128, np.uint8)
    verdict = judge(empty, "a red ball falls")
    assert (verdict.prompt_following, verdict.video_quality) == (1.0, 1.0)
    rng = np.random.default_rng(0)
    two = Scene((Thing("circle", "red", "small", "still"), Thing("square", "blue", "small", "still")), "black")
    claims = judge(render(two, rng), "a red ball rests").claims
    assert claims.pop("number of things") is False and all(claims.values())


def test_areas_without_any_trend_are_no_growth() -> None:
    # Of a real clip: the same areas backwards, so their trend is zero to the last bit.
    half = np.array([0.08813728787973976, 0.08818961444023286, 0.08820133951632043, 0.09047008720402636])
    areas = np.concatenate([half, half[::-1]])
    time = np.arange(len(areas)) / (len(areas) - 1)
    assert _motion(time, np.full((len(areas), 2), 0.5), areas)[:2] == ("still", None)


def test_noise_without_anything_is_rated_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3), dtype=np.uint8)
    assert 1.0 <= judge(noise, "a red ball falls").video_quality < 2.0
    assert not recwarn.list


def test_things_stay_within_the_frame_and_their_half() -> None:
    for scene, _, rng in scenes(200, seed=7):
        for thing, track in zip(scene.things, plan(scene, rng), strict=True):
            reach = 0.5 * np.sqrt(track.areas)[:, None]
            assert (track.centers - reach >= 0).all() and (track.centers + reach <= 1).all(), thing


@pytest.mark.parametrize(
    ("frames", "prompt", "message"),
    [
        (np.zeros((8, 32, 16, 3), np.uint8), "a red ball falls", "square frames"),
        (np.zeros((1, 32, 32, 3), np.uint8), "a red ball falls", "at least two frames"),
        (np.zeros((8, 32, 32, 3)), "a red ball falls", "frames of bytes"),
        (np.zeros((8, 32, 32, 3), np.uint8), "a dog on a skateboard", "names nothing in it"),
    ],
)
def test_what_cannot_be_judged(frames: np.ndarray, prompt: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(frames, prompt)


def test_wrong_faults_and_strengths() -> None:
    scene, _, rng = scenes(1, seed=8)[0]
    with pytest.raises(ValueError, match="fault must be one of wrong_color"):
        render_with_fault(scene, "ugly", 1.0, rng)
    with pytest.raises(ValueError, match="strength must be between 0 and 1: got 2"):
        render_with_fault(scene, FAULTS[0], 2.0, rng)
