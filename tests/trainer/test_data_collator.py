"""Groups to batches."""

import numpy as np
import pytest
import torch

from tests.trainer.factories import coloured_clip, preference_rows, rated_items, small_processor
from tests.video_factory import cut, numbered_frames, read_numbers, write_video
from videorm_hf.trainer.data_collator import IDENTICAL, PreferenceCollator
from videorm_hf.trainer.preference_groups import PreferenceGroup, PreferenceGroups

PROCESSOR = small_processor()


def collate(rows, **settings):
    collator = PreferenceCollator(PROCESSOR, 4, **settings)
    groups = PreferenceGroups(rows, "set")
    return collator([groups[i] for i in range(len(groups))])


def test_videos_stand_once_in_the_batch_and_pairs_point_at_them():
    batch = collate(rated_items(2))
    assert batch["pixel_values_videos"].shape == (8, 4, 3, 32, 32)
    assert batch["input_ids"].shape == (2, 77)
    assert batch["prompt_index"].tolist() == [0] * 4 + [1] * 4
    assert batch["num_pairs"].tolist() == [6, 6]
    assert batch["pairs"][:6].tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert batch["pairs"][6:].tolist() == (batch["pairs"][:6] + 4).tolist()
    assert batch["bad_clips"] == []


def test_a_video_is_prepared_as_for_scoring():
    rows = preference_rows(1)
    expected = PROCESSOR(text=[rows[0]["prompt"]], videos=[rows[0]["chosen"], rows[0]["rejected"]])
    batch = collate(rows)
    for name in ("pixel_values_videos", "input_ids", "attention_mask"):
        assert torch.equal(batch[name], expected[name])


@pytest.fixture
def unreadable(tmp_path):
    write_video(tmp_path / "good.mp4", numbered_frames(20))
    return str(cut(tmp_path / "good.mp4", tmp_path / "bad.mp4", 0.6))


def test_an_unreadable_clip_takes_its_pairs_with_it_and_no_others(unreadable):
    rows = rated_items(2)
    rows[0]["candidates"][1]["video"] = unreadable
    batch = collate(rows)
    assert batch["num_pairs"].tolist() == [3, 6]
    assert not (batch["pairs"] == 1).any()
    assert [(clip.name, clip.reason) for clip in batch["bad_clips"]] == [("item-0-0/c1", "truncated")]
    assert batch["pixel_values_videos"].isfinite().all()


def test_a_batch_of_nothing_but_unreadable_clips_has_no_pair(unreadable):
    rows = preference_rows(1)
    rows[0]["chosen"], rows[0]["rejected"] = unreadable, unreadable + ".none"
    batch = collate(rows)
    assert batch["pairs"].shape == (0, 2) and batch["num_pairs"].tolist() == [0]
    assert [clip.reason for clip in batch["bad_clips"]] == ["truncated", "missing"]


def test_clips_that_look_the_same_are_found_though_they_are_different_files(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, numbered_frames(8), codec="mpeg4")
    rows = preference_rows(2)
    rows[0]["chosen"], rows[0]["rejected"] = (str(tmp_path / name) for name in ("a.mp4", "b.mp4"))
    batch = collate(rows)
    assert batch["num_pairs"].tolist() == [0, 1]
    assert [(clip.name, clip.reason) for clip in batch["bad_clips"]] == [("item-0-0/a = item-0-0/b", IDENTICAL)]


def frame_numbers(draw, seed=0, sampling="random"):
    """Which of 64 frames a draw takes."""
    collator = PreferenceCollator(PROCESSOR, 4, sampling, seed)
    clip = collator.read(numbered_frames(64), "clip", (draw, 0))
    scaled = torch.nn.functional.interpolate(clip.float(), (48, 64)).permute(0, 2, 3, 1).numpy()
    return read_numbers(scaled[:, 12:36])


def test_random_frames_lie_each_in_its_part_of_the_clip_and_change_with_the_draw():
    assert frame_numbers(0, sampling="uniform") == [8, 24, 40, 56]
    draws = [frame_numbers(draw) for draw in range(12)]
    assert all(16 * part <= number < 16 * (part + 1) for numbers in draws for part, number in enumerate(numbers))
    assert {numbers[0] for numbers in draws} == {2, 6, 10, 14}
    assert frame_numbers(3) == frame_numbers(3)
    assert frame_numbers(3) != frame_numbers(3, seed=1)


def test_the_clips_of_a_group_draw_their_own_frames():
    clip = numbered_frames(64)
    groups = [
        PreferenceGroup("a number", (clip, clip.copy()), ("a", "b"), ((0, 1),), (1.0,), draw) for draw in range(4)
    ]
    pixels = PreferenceCollator(PROCESSOR, 4, "random")(groups)["pixel_values_videos"].unflatten(0, (4, 2))
    assert not torch.equal(pixels[:, 0], pixels[:, 1])


def test_a_longer_clip_of_another_size_fits_the_same_batch():
    rows = preference_rows(1)
    rows[0]["rejected"] = np.concatenate([coloured_clip("red", 5)] * 3)[:, :12]
    assert collate(rows)["pixel_values_videos"].shape == (2, 4, 3, 32, 32)
