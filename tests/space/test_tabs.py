"""What the tabs do, without a browser."""

import dataclasses
import html
import logging
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import av
import miniature_data
import pytest
import torch
from arena_tab import Arena
from compare_tab import make_comparison
from datasets import load_dataset
from diffusers import DiffusionPipeline
from score_tab import _REASONS, MAX_CLIPS, make_ranking
from transformers import AutoProcessor

from tests.arena.test_duels import working_folder
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
    assert "A single pair may go either way" in " ".join(summary.split())
    assert re.findall(r"<td>([^<]+)</td>", equal)[2] in ("+0.0000", "-0.0000")
    other, *_ = compare("a red dog runs", 4, 0.0)
    assert Path(other).read_bytes() != Path(base).read_bytes()


def test_the_pipeline_computes_in_the_type_asked_for(
    reward: Any, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, load = [], DiffusionPipeline.from_pretrained
    monkeypatch.setattr(
        DiffusionPipeline, "from_pretrained", lambda *a, **k: loaded.append(load(*a, **k)) or loaded[0]
    )
    compare = make_comparison(VideoRMReward(*reward), dataclasses.replace(options, dtype=torch.bfloat16))
    _, _, summary = compare("a red dog runs", 3, 1.0)
    assert len(re.findall(r"<td>([^<]+)</td>", summary)) == 3
    assert loaded[0].transformer.dtype == torch.bfloat16


def test_what_was_made_by_another_recipe_is_not_taken(monkeypatch: pytest.MonkeyPatch, space_files: Path) -> None:
    before = miniature_data.fingerprint(space_files / "tuned")
    assert miniature_data.fingerprint(space_files / "tuned") == before
    for name in ("UPDATES", "NUM_PROMPTS"):
        with monkeypatch.context() as patch:
            patch.setattr(miniature_data, name, 5)
            assert miniature_data.fingerprint(space_files / "tuned") != before


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


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "is_copied"),
    [
        ("clip.mp4", "libx264", "yuv420p", True),
        ("clip.webm", "libvpx-vp9", "yuv420p", True),
        ("clip.mp4", "libsvtav1", "yuv420p", True),
        ("clip.mkv", "libx264", "yuv420p", False),
        ("clip.avi", "mpeg4", "yuv420p", False),
        ("clip.mp4", "mpeg4", "yuv420p", False),
        ("clip.mp4", "libx264", "yuv444p", False),
    ],
)
def test_what_browsers_do_not_play_is_served_as_h264(
    options: Any, tmp_path: Path, name: str, codec: str, pix_fmt: str, is_copied: bool
) -> None:
    video = tmp_path / name
    write_video(video, numbered_frames(5, 64, 64), codec=codec, pix_fmt=pix_fmt)
    address = Arena(dataclasses.replace(options, data=tmp_path / "data #1")).serve(video)
    ending = video.suffix if is_copied else ".mp4"
    assert re.fullmatch(rf"gradio_api/file=.*/data%20%231/served/arena/[0-9a-f]{{24}}\{ending}", address)
    served = Path(unquote(address.removeprefix("gradio_api/file=")))
    assert (served.read_bytes() == video.read_bytes()) == is_copied
    with av.open(str(served)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.pix_fmt == "yuv420p" and len(list(container.decode(stream))) == 5
        assert is_copied or stream.codec_context.name == "h264"


def test_a_pair_that_cannot_be_shown_is_left_out_and_holds_nobody_up(
    options: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = working_folder(tmp_path / "pairs", num_items=4)
    (pairs / "videos" / "0-1.mp4").write_bytes(b"no video at all")
    (pairs / "videos" / "1-0.mp4").write_bytes(
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n2-0.mp4\n#EXT-X-ENDLIST\n"
    )
    cut(pairs / "videos" / "2-0.mp4", pairs / "videos" / "2-0.mp4", 0.5)
    with caplog.at_level(logging.WARNING):
        arena = Arena(dataclasses.replace(options, pairs=pairs))
    assert [duel.item_id for duel in arena.store.duels.values()] == ["i3"]
    assert "prompt 0" in caplog.text and "is not a video" in caplog.text and "ends before its container" in caplog.text
    arena.store.min_seconds = 0.0
    assert "Thank you" in vote_on_everything(arena, "anna")[3]


def test_without_a_pair_that_can_be_shown_there_is_no_arena(options: Any, tmp_path: Path) -> None:
    pairs = working_folder(tmp_path / "pairs", num_items=1)
    (pairs / "videos" / "0-1.mp4").write_bytes(b"no video at all")
    with pytest.raises(ValueError, match="no pair both of whose videos can be shown"):
        Arena(dataclasses.replace(options, pairs=pairs))
    assert not (options.data / "votes").exists()
