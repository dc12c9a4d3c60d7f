"""What the tabs do, without a browser."""

import html
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from arena_tab import Arena
from compare_tab import make_comparison
from datasets import load_dataset
from score_tab import _REASONS, MAX_CLIPS, make_ranking
from transformers import AutoProcessor

from tests.video_factory import cut, numbered_frames, write_sound, write_video
from videorm_hf.models.videorm.video_decoding_videorm import DecodingFailure
from videorm_hf.rewards import VideoRMReward
from videorm_hf.scoring import score_videos
from videorm_hf.scoring.scorer import load_model


@pytest.fixture(scope="module")
def reward(space_files: Path) -> tuple[Any, Any]:
    return load_model(space_files / "reward"), AutoProcessor.from_pretrained(space_files / "reward")


@pytest.fixture(scope="module")
def rank(reward: tuple[Any, Any]) -> Any:
    return make_ranking(*reward)


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_clips_come_back_ranked_by_the_rewards_of_scoring(rank: Any, reward: Any, space_files: Path) -> None:
    clips = [space_files / "a.mp4", space_files / "b.mp4"]
    page = rank(list(map(str, clips)), "a dog runs")
    scores = score_videos(reward[0], clips, "a dog runs", processor=reward[1], num_workers=0, progress=False)
    best = sorted(scores, key=lambda score: -score.reward)
    assert re.findall(r'class="name">([^<]+)<', page) == [Path(score.video).name for score in best]
    assert re.findall(r'class="reward">([^<]+)<', page) == [f"{score.reward:+.4f}" for score in best]
    contributions = list(map(float, re.findall(r"<figcaption>([^<]+)<", page)))
    assert len(contributions) == 16
    assert sum(contributions[:8]) == pytest.approx(best[0].reward, abs=8 * 5e-5)
    assert page.count("data:image/jpeg") == 16


def test_what_cannot_be_scored_is_said_in_words_beside_what_can(rank: Any, space_files: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all")
    write_sound(tmp_path / "sound.avi")
    cut(space_files / "b.mp4", tmp_path / "cut.mp4", 0.5)
    page = rank([*map(str, sorted(tmp_path.iterdir())), str(space_files / "a.mp4")], "a dog")
    said = dict(re.findall(r"<b>([^<]+)</b> has no reward: ([^<]+)\.</p>", html.unescape(page)))
    assert said == {
        "empty.mp4": _REASONS["empty"],
        "text.mp4": _REASONS["not_a_video"],
        "sound.avi": _REASONS["no_video_stream"],
        "cut.mp4": _REASONS["truncated"],
    }
    assert 'class="name">a.mp4<' in page


def test_every_reason_has_words() -> None:
    assert _REASONS.keys() == {*DecodingFailure.__args__, "not_finite"}


def test_an_uploaded_pickle_is_not_unpickled(rank: Any, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert "this is not a video" in rank([str(tmp_path / "clip.mp4")], "a dog")
    assert not (tmp_path / "sprung").exists()


def test_names_and_prompts_are_shown_and_not_obeyed(rank: Any, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>"
    write_video(tmp_path / f"{evil}.mp4", numbered_frames(8))
    (tmp_path / f"{evil}2.mp4").write_text("no video")
    page = rank([str(path) for path in tmp_path.iterdir()], f"<script>alert(2)</script>{evil}")
    assert "<script" not in page and "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") == 3


def test_what_is_missing_is_said(rank: Any, space_files: Path) -> None:
    clip = str(space_files / "a.mp4")
    assert "There is no clip yet" in rank(None, "a dog")
    assert "There is no prompt yet" in rank([clip], "  ")
    assert f"At most {MAX_CLIPS} clips" in rank([clip] * (MAX_CLIPS + 1), "a dog")


def test_both_pipelines_start_from_the_same_noise(reward: Any, options: Any) -> None:
    compare = make_comparison(VideoRMReward(*reward), options)
    base, tuned, summary = compare("a red dog runs", 3, 1.0)
    assert Path(base).read_bytes() != Path(tuned).read_bytes()
    again, untouched, equal = compare("a red dog runs", 3, 0.0)
    assert Path(again).read_bytes() == Path(untouched).read_bytes() == Path(base).read_bytes()
    before, after, difference = map(float, re.findall(r"<td>([^<]+)</td>", summary))
    assert difference == pytest.approx(after - before, abs=2e-4)
    assert re.findall(r"<td>([^<]+)</td>", equal)[2] in ("+0.0000", "-0.0000")
    other, *_ = compare("a red dog runs", 4, 0.0)
    assert Path(other).read_bytes() != Path(base).read_bytes()


@pytest.mark.parametrize(
    ("prompt", "seed", "scale", "words"),
    [
        (" ", 0, 1, "prompt of 1 to"),
        ("x" * 501, 0, 1, "prompt of 1 to"),
        ("a dog", -1, 1, "whole number"),
        ("a dog", 0.5, 1, "whole number"),
        ("a dog", None, 1, "whole number"),
        ("a dog", 0, 2, "strength"),
    ],
)
def test_what_cannot_be_sampled_is_said(
    reward: Any, options: Any, prompt: str, seed: Any, scale: float, words: str
) -> None:
    base, tuned, said = make_comparison(VideoRMReward(*reward), options)(prompt, seed, scale)
    assert (base, tuned) == (None, None) and words in said


@pytest.fixture
def arena(options: Any) -> Arena:
    arena = Arena(options)
    arena.store.min_seconds = 0.0
    return arena


def test_a_rater_is_shown_a_pair_and_after_a_reload_the_same(arena: Arena, options: Any) -> None:
    rater, name, duel_id, clips, *_ = arena.enter("Anna")
    assert (rater, name) == ("anna", "anna")
    assert Arena(options).enter(rater)[2:4] == (duel_id, clips)
    assert clips.count("<video") == 2 and "prompt " in clips


def test_the_page_does_not_tell_which_model_made_what(arena: Arena) -> None:
    shown = arena.enter("anna")
    assert not re.search(r"base|tuned|\d-\d\.mp4", "".join(map(str, shown[2:5])))


def test_a_vote_leads_to_the_next_pair_and_counts_once(arena: Arena) -> None:
    _, _, first, *_ = arena.enter("anna")
    _, _, second, _, status, *_ = arena.vote("left", "anna", first)
    assert second != first and "counted" in status and "1 of 4" in " ".join(status.split())
    _, _, still, _, status, *_ = arena.vote("right", "anna", first)
    assert still == second and "counted before" in status
    assert [vote.choice for vote in arena.store.votes()] == ["left"]


def test_the_second_click_of_a_double_click_does_not_vote_on_the_next_pair(options: Any) -> None:
    arena = Arena(options)
    now = [0.0]
    arena.store.clock = lambda: now[0]
    _, _, first, *_ = arena.enter("anna")
    now[0] = 5.0
    _, _, second, *_ = arena.vote("left", "anna", first)
    now[0] = 5.2
    _, _, still, _, status, *_ = arena.vote("left", "anna", second)
    assert still == second and "quicker than anybody can look" in status
    assert len(arena.store.votes()) == 1


def test_who_has_no_name_gets_one_and_bad_names_are_refused(arena: Arena) -> None:
    assert re.fullmatch("anon-[0-9a-f]{6}", arena.enter("")[0])
    assert "1 to 40 characters" in arena.enter("x" * 50)[4]
    status = arena.enter("<b onclick=x>")[4]
    assert "&lt;b onclick=x&gt;" in status


def test_a_vote_on_what_was_not_shown_is_refused_in_words(arena: Arena) -> None:
    assert "was not shown" in html.unescape(arena.vote("left", "anna", "nonsense")[4])
    assert arena.store.votes() == []


def vote_on_everything(arena: Arena, rater: str) -> Any:
    shown = arena.enter(rater)
    while shown[2]:
        shown = arena.vote("left", rater, shown[2])
    return shown


def test_whoever_has_voted_on_everything_is_thanked(arena: Arena) -> None:
    shown = vote_on_everything(arena, "anna")
    assert "Thank you" in shown[3]
    assert all(button.interactive is False for button in shown[5:])


def test_results_show_intervals_and_agreement(arena: Arena) -> None:
    assert "not one vote" in arena.results()
    for rater in ("anna", "bert"):
        vote_on_everything(arena, rater)
    text = arena.results()
    assert "tuned against base" in text and "data:image/png" in text
    assert "anna against all others" in text and "two raters say the same" in text
    assert "take them as a hint" in text  # four prompts are few


def test_the_export_is_what_load_dataset_reads(arena: Arena, tmp_path: Path) -> None:
    assert "vote on more" in arena.export()[1]
    vote_on_everything(arena, "anna")
    archive, said = arena.export()
    with zipfile.ZipFile(archive.value["path"] if isinstance(archive.value, dict) else archive.value) as file:
        file.extractall(tmp_path / "votes")
    rows = load_dataset(str(tmp_path / "votes"), "preference", split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == 4 and rows.column_names[:3] == ["prompt", "chosen", "rejected"]
    assert "4 pairs" in said


def test_files_that_browsers_do_not_play_are_served_as_mp4(arena: Arena, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.avi", numbered_frames(5), codec="mpeg4")
    address = arena.serve(tmp_path / "clip.avi")
    assert re.fullmatch(r"gradio_api/file=.*/served/arena/[0-9a-f]{24}\.mp4", address)
    assert Path(address.removeprefix("gradio_api/file=")).is_file()
