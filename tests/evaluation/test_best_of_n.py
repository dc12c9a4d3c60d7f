"""Best-of-n against the enumeration of every draw."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.test_evaluator import item
from videorm_hf.evaluation.best_of_n import choice_probabilities, judge_best_of_n, people_choose, win_rates
from videorm_hf.evaluation.labels import human_ratings

VIDEOS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=2, max_size=7)  # (rating, score)


def enumerate_choices(scores: list[int], n: int) -> list[Fraction]:
    """Draw every subset of n; of equal highest scores each is chosen alike."""
    chosen = [Fraction(0)] * len(scores)
    draws = list(itertools.combinations(range(len(scores)), n))
    for draw in draws:
        best = [index for index in draw if scores[index] == max(scores[i] for i in draw)]
        for index in best:
            chosen[index] += Fraction(1, len(best) * len(draws))
    return chosen


@given(VIDEOS, st.data())
def test_probabilities_are_those_of_all_draws(videos: list[tuple[int, int]], data: st.DataObject) -> None:
    scores = [score for _, score in videos]
    n = data.draw(st.integers(1, len(videos)))
    expected = [float(probability) for probability in enumerate_choices(scores, n)]
    assert choice_probabilities(scores, n) == pytest.approx(expected)


@given(VIDEOS, st.data())
def test_rates_are_those_of_all_draws(videos: list[tuple[int, int]], data: st.DataObject) -> None:
    n = data.draw(st.integers(1, len(videos)))
    ratings, scores = zip(*videos, strict=True)
    one = item(0, *ratings)
    (result,) = judge_best_of_n(
        "r", [one], "quality", {("0", f"model{i}"): score for i, score in enumerate(scores)}, [n]
    )
    win = best = rating = Fraction(0)
    for index, probability in enumerate(enumerate_choices(list(scores), n)):
        others = [other for other in range(len(videos)) if other != index]
        beaten = sum(
            Fraction(1, 2) if ratings[other] == ratings[index] else Fraction(int(ratings[index] > ratings[other]))
            for other in others
        )
        win += probability * beaten / len(others)
        best += probability * (ratings[index] == max(ratings))
        rating += probability * ratings[index]
    assert (result.win_over_random, result.best_rate, result.rating) == pytest.approx(
        (float(win), float(best), float(rating))
    )
    assert result.win_over_best == pytest.approx(float(best) / 2)


@given(VIDEOS)
def test_one_of_one_is_no_choice(videos: list[tuple[int, int]]) -> None:
    ratings, scores = zip(*videos, strict=True)
    assert choice_probabilities(scores, 1) == pytest.approx([1 / len(videos)] * len(videos))
    assert win_rates(ratings).mean() == pytest.approx(0.5)


def test_people_choosing_never_get_worse_with_n_and_find_the_best() -> None:
    items = [item(0, 1, 3, 5, 2), item(1, 4, 4, 1, 2)]
    scored = {(one.item_id, name) for one in items for name in human_ratings(one, "quality")}
    scores = people_choose(items, "quality", scored)
    results = judge_best_of_n("people", items, "quality", scores)
    assert [result.n for result in results] == [1, 2, 4]  # no item has eight videos
    wins = [result.win_over_random for result in results]
    assert wins == sorted(wins) and wins[0] == pytest.approx(0.5)
    assert (results[-1].best_rate, results[-1].win_over_best) == (1, 0.5)


def test_items_with_too_few_videos_and_videos_without_scores_are_left_out() -> None:
    items = [item(0, 1, 3), item(1, 4, 1, 2), item(2, 5, 1)]
    scores = {(one.item_id, name): 0.0 for one in items for name in human_ratings(one, "quality")}
    del scores["2", "model0"]
    results = judge_best_of_n("r", items, "quality", scores, [1, 2, 3, 4])
    assert [(result.n, result.num_items) for result in results] == [(1, 2), (2, 2), (3, 1)]
    assert results[-1].interval is None


@pytest.mark.parametrize("n", [0, 4])
def test_n_must_fit(n: int) -> None:
    with pytest.raises(ValueError, match="between 1 and the number of videos, 3"):
        choice_probabilities([1, 2, 3], n)


def test_scores_must_be_finite_and_a_video_needs_another() -> None:
    with pytest.raises(ValueError, match="finite"):
        choice_probabilities([1, np.nan], 1)
    with pytest.raises(ValueError, match="needs another one"):
        win_rates([3])
