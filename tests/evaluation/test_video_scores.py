"""Videos to scores: the same as scoring files, each computed once, kept over runs, failures named."""

import linecache
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.video_factory import numbered_frames, write_sound, write_video
from videorm_hf.evaluation.robustness import altered_requests, judge_robustness
from videorm_hf.evaluation.score_store import Score, ScoreKey, ScoreStore
from videorm_hf.evaluation.video_scores import (
    ScoringSettings,
    VideoRequest,
    frames_for,
    reward_settings,
    score_requests,
)
from videorm_hf.rewards import FrameMean, VideoRMReward, load_reward
from videorm_hf.scoring import score_videos

SETTINGS = ScoringSettings(batch_size=2, num_workers=0, device="cpu", progress=False)
PROMPTS = ("a cat", "a dog")


class CountingReward(FrameMean):
    """A reward of the mean brightness that counts the videos it is shown."""

    def __init__(self) -> None:
        super().__init__(lambda images, prompts: images.mean(dim=(1, 2, 3)))
        self.num_videos = 0

    def forward(self, frames: torch.Tensor, prompts: list[str], **columns: object) -> torch.Tensor:
        self.num_videos += len(frames)
        return super().forward(frames, prompts)


@pytest.fixture
def clips(tmp_path: Path) -> list[str]:
    """Three clips of two sizes."""
    for number, height in enumerate((48, 48, 32)):
        write_video(tmp_path / f"{number}.mp4", numbered_frames(10 + 5 * number, height=height))
    return [str(tmp_path / f"{number}.mp4") for number in range(3)]


def test_scores_are_those_of_scoring_files(clips: list[str], videorm_folder: Path) -> None:
    requests = [VideoRequest(clip, prompt) for clip in clips for prompt in PROMPTS]
    reward = VideoRMReward.from_pretrained(videorm_folder)
    found = score_requests(reward, requests, ScoreStore(None, {}), SETTINGS)
    expected = score_videos(
        str(videorm_folder), [r.video for r in requests], [r.prompt for r in requests], num_workers=0, progress=False
    )
    assert not found.failures and list(found.rewards) == requests
    # Not equal: files are resized as 8-bit images there, as floating-point frames here.
    assert list(found.rewards.values()) == pytest.approx([score.reward for score in expected], abs=2e-3)
    assert all(seconds > 0 for seconds in found.seconds.values())


@pytest.mark.slow
def test_decoding_in_processes_changes_nothing(clips: list[str]) -> None:
    requests = [VideoRequest(clip, "a cat") for clip in clips]
    alone, pooled = (
        score_requests(
            CountingReward(), requests, ScoreStore(None, {}), replace(SETTINGS, num_workers=workers)
        ).rewards
        for workers in (0, 1)
    )
    assert alone == pooled


def test_each_is_scored_once_and_kept(clips: list[str], tmp_path: Path) -> None:
    reward, path = CountingReward(), tmp_path / "scores.jsonl"
    requests = [VideoRequest(clip, prompt) for clip in clips for prompt in PROMPTS]
    score_requests(reward, requests[:3] * 2, ScoreStore(path, {}), SETTINGS)
    assert reward.num_videos == 3
    found = score_requests(reward, requests, ScoreStore(path, {}), SETTINGS)
    assert reward.num_videos == 6 and len(found.rewards) == 6
    # Kept scores are used as they stand.
    store = ScoreStore(path, {})
    key = next(iter(store.scores))
    store.add([(ScoreKey(key.video, "a bird"), Score(77.0, 1.0))])
    bird = VideoRequest(clips[0], "a bird")
    assert score_requests(reward, [bird], ScoreStore(path, {}), SETTINGS).rewards == {bird: 77.0}
    assert reward.num_videos == 6


def test_an_interrupted_run_goes_on(clips: list[str], tmp_path: Path) -> None:
    class Interrupted(CountingReward):
        def forward(self, frames: torch.Tensor, prompts: list[str], **columns: object) -> torch.Tensor:
            if self.num_videos >= 2:
                raise KeyboardInterrupt
            return super().forward(frames, prompts)

    requests = [VideoRequest(clip, prompt) for clip in clips for prompt in PROMPTS]
    with pytest.raises(KeyboardInterrupt):
        score_requests(Interrupted(), requests, ScoreStore(tmp_path / "a.jsonl", {}), SETTINGS)
    reward = CountingReward()
    found = score_requests(reward, requests, ScoreStore(tmp_path / "a.jsonl", {}), SETTINGS)
    assert reward.num_videos == 4 and len(found.rewards) == 6


def test_a_moved_video_is_known_and_a_changed_one_is_not(clips: list[str], tmp_path: Path) -> None:
    reward, path = CountingReward(), tmp_path / "scores.jsonl"
    score_requests(reward, [VideoRequest(clips[0], "a cat")], ScoreStore(path, {}), SETTINGS)
    moved = shutil.copy(clips[0], tmp_path / "moved.mp4")
    score_requests(reward, [VideoRequest(str(moved), "a cat")], ScoreStore(path, {}), SETTINGS)
    assert reward.num_videos == 1
    shutil.copy(clips[1], moved)
    score_requests(reward, [VideoRequest(str(moved), "a cat")], ScoreStore(path, {}), SETTINGS)
    assert reward.num_videos == 2


def test_failures_have_reasons_and_are_tried_again(clips: list[str], tmp_path: Path) -> None:
    write_sound(tmp_path / "sound.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    videos = [clips[0], str(tmp_path / "sound.mp4"), str(tmp_path / "text.mp4"), str(tmp_path / "absent.mp4"), None]
    requests = [VideoRequest(video, "a cat") for video in videos]
    found = score_requests(CountingReward(), requests, ScoreStore(tmp_path / "a.jsonl", {}), SETTINGS)
    assert list(found.rewards) == requests[:1]
    reasons = [found.failures[request].reason for request in requests[1:]]
    assert reasons == ["no_video_stream", "not_a_video", "missing", "missing"]
    os.replace(clips[1], tmp_path / "text.mp4")
    again = score_requests(CountingReward(), requests, ScoreStore(tmp_path / "a.jsonl", {}), SETTINGS)
    assert list(again.rewards) == [requests[0], requests[2]]


def test_a_score_that_is_no_number_is_a_failure(clips: list[str]) -> None:
    reward = FrameMean(lambda images, prompts: images.mean(dim=(1, 2, 3)) / torch.zeros(len(images)))
    request = VideoRequest(clips[0], "a cat")
    found = score_requests(reward, [request], ScoreStore(None, {}), SETTINGS)
    assert found.failures[request].reason == "not_finite" and not found.rewards


def test_settings_tell_rewards_apart(videorm_folder: Path) -> None:
    reward = VideoRMReward.from_pretrained(videorm_folder)
    same, fewer = reward_settings(reward, "a", 8), VideoRMReward.from_pretrained(videorm_folder, num_frames=4)
    assert same == reward_settings(VideoRMReward.from_pretrained(videorm_folder), "a", 8)
    assert reward_settings(fewer, "a", 8)["configuration"] != same["configuration"]
    with torch.no_grad():
        reward.model.temporal_head.gate.add_(1)
    assert reward_settings(reward, "a", 8)["weights"] != same["weights"]


def test_number_of_frames(videorm_folder: Path) -> None:
    reward = VideoRMReward.from_pretrained(videorm_folder, num_frames=4)
    assert (frames_for(reward), frames_for(reward, 12), frames_for(CountingReward())) == (4, 12, 8)
    with pytest.raises(ValueError, match="looks at 4 frames and would be given num_frames=2"):
        frames_for(reward, 2)
    for wrong in ({"batch_size": 0}, {"num_frames": 0}, {"num_workers": -1}):
        with pytest.raises(ValueError, match="must be at least"):
            ScoringSettings(**wrong)


def robustness_of(reward: FrameMean, clips: list[str]) -> dict[str, object]:
    requests = [VideoRequest(clip, f"prompt {number}") for number, clip in enumerate(clips)]
    plans = altered_requests(requests)
    wanted = [*requests, *(new for plan in plans.values() for new in plan.values())]
    found = score_requests(reward, wanted, ScoreStore(None, {}), SETTINGS)
    return {result.check: result for result in judge_robustness(plans, found.rewards, [requests])}


def test_a_reward_of_brightness_is_blind_to_prompt_and_time(clips: list[str]) -> None:
    results = robustness_of(CountingReward(), clips)
    for check in ("other_prompt", "reversed", "shuffled"):
        assert (results[check].original_wins, results[check].flipped) == (0.5, 0)
        assert results[check].drift == pytest.approx(0, abs=1e-5)
        assert results[check].should == "heed" and results[check].num_videos == 3
    for check in ("fps_doubled", "container"):
        assert (results[check].drift, results[check].flipped, results[check].should) == (0, 0, "ignore")
    assert results["resolution"].drift < 0.1


def test_a_reward_of_the_right_prompt_and_order_heeds_them(clips: list[str]) -> None:
    class Attentive(FrameMean):
        def forward(self, frames: torch.Tensor, prompts: list[str], **columns: object) -> torch.Tensor:
            # The clips' bars count upwards, so that the next frame's number is larger, read as a binary one.
            bars = frames[:, :, 0].mean(dim=2).unflatten(-1, (8, -1)).mean(dim=-1) > 0.5
            numbers = (bars * 2 ** torch.arange(8)).sum(dim=-1).float()
            grows = (numbers.diff(dim=1) > 0).float().mean(dim=1)
            length = numbers.amax(dim=1)
            right = torch.tensor([int(prompt[-1]) for prompt in prompts]) == ((length - 8) / 5).round()
            return grows + right + length / 100

    results = robustness_of(Attentive(lambda images, prompts: images.mean(dim=(1, 2, 3))), clips)
    for check in ("other_prompt", "reversed", "shuffled", "frozen"):
        assert results[check].original_wins == 1, check
    assert results["fps_doubled"].drift == results["container"].drift == 0


def test_one_prompt_has_no_other(clips: list[str]) -> None:
    requests = [VideoRequest(clip, "a cat") for clip in clips]
    plans = altered_requests(requests)
    assert plans["other_prompt"] == {} and len(plans["reversed"]) == 3
    other, *_ = judge_robustness(plans, {request: 1.0 for request in requests}, [requests])
    assert (other.num_videos, other.original_wins, other.drift, other.flipped) == (0, None, None, None)


def test_every_prompt_gets_another() -> None:
    requests = [VideoRequest(str(number), f"prompt {number % 5}") for number in range(10)]
    plan = altered_requests(requests, seed=3)["other_prompt"]
    assert all(old.prompt != new.prompt and old.video == new.video for old, new in plan.items())
    assert {new.prompt for new in plan.values()} == {request.prompt for request in requests}


def test_flips_and_lost_orders() -> None:
    a, b, c = (VideoRequest(name, "p") for name in "abc")
    plans = {"reversed": {request: request._replace(variant="reversed") for request in (a, b, c)}}
    before, after = {a: 1.0, b: 2.0, c: 3.0}, {a: 2.0, b: 1.0, c: 2.0}
    rewards = before | {plans["reversed"][request]: value for request, value in after.items()}
    (result,) = judge_robustness(plans, rewards, [[a, b, c]])
    assert (result.flipped, result.num_pairs) == (pytest.approx(1.5 / 3), 3)  # ab flipped, ac lost, bc kept
    assert result.original_wins == pytest.approx(2 / 3) and result.drift == pytest.approx(1 / (2 / 3) ** 0.5)


def test_scores_of_a_reward_of_ones_own_depend_on_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, sign in (("own_plus", "+"), ("own_minus", "-")):
        (tmp_path / f"{name}.py").write_text(
            f"def light(frames, prompts):\n    return {sign}frames.mean((1, 2, 3, 4))\n"
        )
    plus, minus = (reward_settings(load_reward(f"{name}:light"), "light", 8) for name in ("own_plus", "own_minus"))
    assert {key for key in plus if plus[key] != minus[key]} == {"configuration"}


def test_a_mixture_that_is_written_in_a_module_of_ones_own_is_told_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
from videorm_hf.rewards import FrameMean, MixtureReward
red = FrameMean(lambda images, prompts: images[:, 0].mean(dim=(1, 2)))
mix = MixtureReward({"red": red}, {"red": WEIGHT})
"""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = []
    for weight in ("1.0", "2.00"):
        (tmp_path / "my_mixture.py").write_text(source.replace("WEIGHT", weight))
        sys.modules.pop("my_mixture", None)
        linecache.checkcache()
        settings.append(reward_settings(load_reward("my_mixture:mix"), "my_mixture:mix", 8))
    assert settings[0]["configuration"] != settings[1]["configuration"]
