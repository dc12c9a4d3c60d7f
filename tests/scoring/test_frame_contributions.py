"""Each frame's contribution: exact, for every temporal head."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.factories import tiny_processor, tiny_videorm
from tests.video_factory import cut, numbered_frames, write_video
from videorm_hf.scoring import score_videos
from videorm_hf.scoring.frame_contributions import explain_videos, frame_contributions

PROMPT = "a dog runs"


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / f"{number}.mp4" for number in range(2)]
    for number, path in enumerate(paths):
        write_video(path, numbered_frames(12 + 5 * number))
    return paths


@pytest.mark.parametrize("head", ["transformer", "conv1d", "lstm", "mean"])
def test_contributions_add_up_to_the_reward_that_scoring_gives(head: str, clips: list[Path]) -> None:
    model = tiny_videorm(open_gate=head != "mean", temporal_head=head)
    processor = tiny_processor()
    explained = explain_videos(model, processor, clips, PROMPT, num_workers=0)
    scores = score_videos(model, clips, PROMPT, processor=processor, num_workers=0, progress=False)
    for each, score in zip(explained, scores, strict=True):
        assert len(each.contributions) == model.config.num_frames
        assert each.score.reward == pytest.approx(score.reward, abs=1e-6)
        assert sum(each.contributions) == each.score.reward
        assert np.ptp(each.contributions) > 1e-6  # frames differ, and so does what they give


def test_frames_of_a_still_clip_contribute_the_same(tmp_path: Path) -> None:
    frames = np.broadcast_to(numbered_frames(100)[77], (10, 48, 64, 3))
    write_video(tmp_path / "still.mp4", frames, options={"qp": "0"})
    model = tiny_videorm(temporal_head="mean")
    (explained,) = explain_videos(model, tiny_processor(), [tmp_path / "still.mp4"], PROMPT, num_workers=0)
    assert explained.contributions == pytest.approx([explained.score.reward / 8] * 8, abs=1e-7)


def test_a_frame_that_shows_the_prompt_contributes_more() -> None:
    """With frame features that are the text itself, or opposed to it, contributions are known."""
    model = tiny_videorm(temporal_head="mean")
    text = torch.nn.functional.normalize(torch.randn(1, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
    frames = torch.cat([text, text, text, -text])[None]
    assert frame_contributions(model.temporal_head, frames, text)[0].tolist() == pytest.approx([0.5, 0.5, 0.5, -0.5])


def test_frames_are_those_that_the_model_sees(clips: list[Path]) -> None:
    (explained,) = explain_videos(tiny_videorm(), tiny_processor(), clips[:1], PROMPT, num_workers=0)
    assert explained.frames_THWC.shape == (8, 224, 224, 3)
    assert explained.frames_THWC.dtype == np.uint8


def test_a_file_that_cannot_be_read_has_a_reason_and_the_others_a_reward(clips: list[Path], tmp_path: Path) -> None:
    broken = cut(clips[0], tmp_path / "broken.mp4", 0.5)
    explained = explain_videos(tiny_videorm(), tiny_processor(), [broken, clips[1]], PROMPT, num_workers=0)
    assert (explained[0].score.reward, explained[0].score.error) == (None, "truncated")
    assert explained[0].contributions == () and len(explained[0].frames_THWC) == 0
    assert explained[1].score.reward is not None


def test_a_reward_that_is_not_a_number_is_an_error(clips: list[Path]) -> None:
    model = tiny_videorm()
    torch.nn.init.constant_(model.visual_projection.weight, float("nan"))
    (explained,) = explain_videos(model, tiny_processor(), clips[:1], PROMPT, num_workers=0)
    assert (explained.score.reward, explained.score.error, explained.contributions) == (None, "not_finite", ())
