"""Scores of files equal the model's own rewards; each video and prompt is encoded once; failures stay rows."""

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoProcessor, CLIPConfig, CLIPModel

from tests.factories import tiny_processor, tiny_videorm
from tests.video_factory import numbered_frames, write_video
from videorm_hf import VideoRMModel, VideoRMVideoProcessor
from videorm_hf.scoring import ScoringStats, iter_scores, score_videos


def test_scores_are_the_models_rewards(videorm_folder: Path, real_clips: list[Path]) -> None:
    videos = [real_clips[0], "absent.mp4", real_clips[1], real_clips[0], real_clips[2]]
    prompts = ["a rabbit", "a rabbit", "bikes in a city", "a city", "a rabbit"]
    stats = ScoringStats()
    scores = score_videos(
        videorm_folder, videos, prompts, batch_size=2, num_workers=1, stats=stats, device="cpu", progress=False
    )
    assert [score.error for score in scores] == [None, "missing", None, None, None]
    assert [(score.video, score.prompt) for score in scores] == list(zip(videos, prompts, strict=True))

    readable = [index for index, score in enumerate(scores) if score.error is None]
    model, processor = AutoModel.from_pretrained(videorm_folder), AutoProcessor.from_pretrained(videorm_folder)
    inputs = processor(text=[prompts[i] for i in readable], videos=[str(videos[i]) for i in readable])
    with torch.no_grad():
        expected = model(**inputs).rewards
    assert torch.tensor([scores[i].reward for i in readable]).tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    assert scores[1].reward is None and "absent.mp4" in scores[1].message
    assert 0 < stats.decode_wait_s < stats.total_s and 0 < stats.model_s < stats.total_s


class CountingVideoProcessor(VideoRMVideoProcessor):
    """Counts how often each file is read."""

    counts: Counter[str] = Counter()

    def preprocess(self, videos: Any, **kwargs: Any) -> Any:
        self.counts.update(video for video in videos if isinstance(video, str))
        return super().preprocess(videos, **kwargs)


class CountingVideoRM(VideoRMModel):
    """Counts how many prompts are encoded."""

    num_prompts = 0

    def get_text_embeds(self, input_ids: Any, attention_mask: Any = None) -> Any:
        self.num_prompts += len(input_ids)
        return super().get_text_embeds(input_ids, attention_mask)


def test_each_video_and_prompt_is_encoded_once(tmp_path: Path) -> None:
    videos = [str(tmp_path / f"{n}.mp4") for n in range(5)]
    for n, video in enumerate(videos):
        write_video(video, numbered_frames(8 + n))
    model = tiny_videorm()
    model.__class__ = CountingVideoRM
    processor = tiny_processor()
    processor.video_processor = CountingVideoProcessor()
    rows = [(video, prompt) for prompt in ("a cat", "a dog", "a cow") for video in videos]
    scores = list(
        iter_scores(model, *map(list, zip(*rows, strict=True)), processor=processor, batch_size=2, num_workers=0)
    )
    assert [(score.video, score.prompt) for score in scores] == rows
    assert CountingVideoProcessor.counts == dict.fromkeys(videos, 1)
    assert model.num_prompts == 3
    again = list(iter_scores(model, [rows[7][0]], rows[7][1], processor=processor, num_workers=0))
    assert scores[7].reward == pytest.approx(again[0].reward, abs=1e-6)


def test_decoded_clips_can_be_scored() -> None:
    clips = [numbered_frames(8), torch.rand(8, 3, 32, 48), np.zeros((2, 2))]
    scores = list(iter_scores(tiny_videorm(), clips, "a cat", processor=tiny_processor(), num_workers=0))
    assert [score.error for score in scores] == [None, None, "decode_error"]
    for clip, score in zip(clips[:2], scores, strict=False):
        with torch.no_grad():
            expected = tiny_videorm()(**tiny_processor()(text=["a cat"], videos=[clip])).rewards
        assert score.reward == pytest.approx(expected.item(), abs=1e-6)


def test_a_tensor_of_clips_is_scored_clip_by_clip() -> None:
    clips = torch.rand(8, 4, 3, 32, 32)  # makes a new object of each clip at every look

    def rewards(videos: Any) -> list[float | None]:
        scores = iter_scores(tiny_videorm(), videos, "a cat", processor=tiny_processor(), num_workers=0)
        return [score.reward for score in scores]

    assert rewards(clips) == rewards(list(clips)) and len(set(rewards(clips))) == 8


class CrashingVideoProcessor(VideoRMVideoProcessor):
    """Dies, as a decoder can, on one file."""

    def preprocess(self, videos: Any, **kwargs: Any) -> Any:
        if isinstance(videos[0], str) and "crash" in videos[0]:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().preprocess(videos, **kwargs)


def test_a_decoder_that_crashes_costs_one_row(real_clips: list[Path]) -> None:
    processor = tiny_processor()
    processor.video_processor = CrashingVideoProcessor()
    videos = [str(real_clips[1]), "crash.mp4", str(real_clips[2]), str(real_clips[3])]
    scores = list(iter_scores(tiny_videorm(), videos, "a cat", processor=processor, num_workers=2))
    assert [score.error for score in scores] == [None, "decoder_crashed", None, None]


def test_a_reward_that_is_not_a_number_is_an_error(real_clips: list[Path]) -> None:
    model = tiny_videorm()
    torch.nn.init.constant_(model.visual_projection.weight, float("nan"))
    (score,) = iter_scores(model, real_clips[:1], "a cat", processor=tiny_processor(), num_workers=0)
    assert (score.reward, score.error) == (None, "not_finite")


def test_num_frames_and_dtype_reach_the_model(real_clips: list[Path]) -> None:
    processor, videos = tiny_processor(), [real_clips[1]]

    def reward(**settings: Any) -> float:
        model = tiny_videorm(open_gate=True)
        (score,) = iter_scores(model, videos, "a cat", processor=processor, num_workers=0, **settings)
        assert score.reward is not None
        return score.reward

    assert reward(num_frames=1) != reward()
    assert reward(dtype="bfloat16") == pytest.approx(reward(), abs=0.03)


def test_wrong_arguments(videorm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 2 for 1"):
        score_videos(videorm_folder, ["a.mp4"], ["a", "b"])
    with pytest.raises(ValueError, match="max_frames=32, got 33"):
        iter_scores(tiny_videorm(), ["a.mp4"], "a", processor=tiny_processor(), num_frames=33)  # none is drawn
    with pytest.raises(ValueError, match="processor must be given"):
        score_videos(tiny_videorm(), ["a.mp4"], "a")
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    CLIPModel(CLIPConfig(text_config=tower, vision_config=tower, projection_dim=32)).save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a CLIPModel"):
        score_videos(tmp_path, ["a.mp4"], "a")


def test_one_video_is_not_taken_for_a_list(videorm_folder: Path) -> None:
    with pytest.raises(TypeError, match=r"videos must be a list of videos, got one: write \['a.mp4'\]"):
        score_videos(videorm_folder, "a.mp4", "a cat")
    with pytest.raises(TypeError, match="prompts must be a text for all videos, or a list"):
        score_videos(videorm_folder, ["a.mp4"], None)  # type: ignore[arg-type]


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    model = tiny_videorm()
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "visual_projection.weight"}
    model.save_pretrained(tmp_path, state_dict=weights)
    tiny_processor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="visual_projection.weight"):
        score_videos(tmp_path, ["a.mp4"], "a")
