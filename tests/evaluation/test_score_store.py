"""Scores on disk: kept, continued after an interruption, refused for another reward."""

import json
from pathlib import Path

import pytest

from videorm_hf.evaluation.score_store import Score, ScoreKey, ScoreStore

SETTINGS = {"reward": "videorm:here", "weights": "abc", "num_frames": 8}
KEYS = [ScoreKey("00ff", 'a "dog", running\nfast', "original"), ScoreKey("00ff", "ein Mädchen", "reversed")]
SCORES = [(key, Score(0.1 * number, 0.5)) for number, key in enumerate(KEYS)]


def test_scores_are_kept_and_added_to(tmp_path: Path) -> None:
    store = ScoreStore(tmp_path / "scores" / "a.jsonl", SETTINGS)
    store.add(SCORES[:1])
    again = ScoreStore(tmp_path / "scores" / "a.jsonl", SETTINGS)
    assert again.scores == dict(SCORES[:1])
    again.add(SCORES[1:])
    assert ScoreStore(tmp_path / "scores" / "a.jsonl", SETTINGS).scores == dict(SCORES)


def test_a_torn_line_is_dropped_and_the_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    ScoreStore(path, SETTINGS).add(SCORES)
    content = path.read_bytes()
    for cut in range(len(content) - 40, len(content)):
        path.write_bytes(content[:cut])
        store = ScoreStore(path, SETTINGS)
        assert store.scores == dict(SCORES[:1])
        store.add(SCORES[1:])
        assert path.read_bytes() == content


def test_another_reward_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    ScoreStore(path, SETTINGS).add(SCORES)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="another reward or setting: weights was 'abc', is 'xyz'"):
        ScoreStore(path, SETTINGS | {"weights": "xyz"})
    with pytest.raises(ValueError, match="num_frames was 8, is None"):
        ScoreStore(path, {"reward": "videorm:here", "weights": "abc"})
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["hello\n", "[]\n", '{"a": 1}\n', '{"settings": 1'])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(ValueError, match="no score file"):
        ScoreStore(tmp_path / "a.jsonl", SETTINGS)
    assert (tmp_path / "a.jsonl").read_text() == content


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"settings": SETTINGS}) + '\n{"video": "00"}\n')
    with pytest.raises(ValueError, match="line 2 is no score"):
        ScoreStore(tmp_path / "a.jsonl", SETTINGS)


def test_an_empty_file_is_begun_anew_and_memory_needs_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    ScoreStore(tmp_path / "a.jsonl", SETTINGS).add(SCORES)
    assert ScoreStore(tmp_path / "a.jsonl", SETTINGS).scores == dict(SCORES)
    store = ScoreStore(None, SETTINGS)
    store.add(SCORES)
    assert store.scores == dict(SCORES)
