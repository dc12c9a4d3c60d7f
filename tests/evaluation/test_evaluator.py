"""Scores against labels: perfect, opposite and missing scores; source models; ties."""

import pytest

from videorm_hf.evaluation.evaluator import Bootstrap, judge_dimension, judge_models
from videorm_hf.evaluation.labels import LabelledPair, human_ratings, pairs_of_items
from videorm_hf.videoprefer.items import Candidate, Item


def item(number: int, *ratings: float, name: str = "quality") -> Item:
    candidates = tuple(
        Candidate(f"model{index}", None, f"model{index}", ratings={name: rating})
        for index, rating in enumerate(ratings)
    )
    return Item(str(number), f"prompt {number}", "test", candidates)


ITEMS = [item(0, 1, 3, 5), item(1, 2, 2, 4), item(2, 5, 4, 1)]
PAIRS = pairs_of_items(ITEMS, "quality")
PERFECT = {(one.item_id, name): rating for one in ITEMS for name, rating in human_ratings(one, "quality").items()}


def test_pairs_of_items_are_all_pairs_with_ties() -> None:
    assert len(PAIRS) == 9
    assert [(pair.a_id, pair.b_id, pair.human_a, pair.human_b) for pair in PAIRS[3:5]] == [
        ("model0", "model1", 2, 2),
        ("model0", "model2", 2, 4),
    ]


def test_the_mean_needs_all_dimensions_that_the_item_is_rated_in() -> None:
    full = Candidate("a", None, "m", ratings={"x": 2, "y": 5})
    half = Candidate("b", None, "m", ratings={"x": 4})
    both = Item("0", "p", "test", (full, half))
    assert human_ratings(both) == {"a": 3.5}
    assert human_ratings(both, "x") == {"a": 2, "b": 4}
    assert human_ratings(Item("0", "p", "test", (Candidate("c", None, "m"),))) == {}


def test_perfect_scores() -> None:
    result = judge_dimension("quality", PAIRS, PERFECT, ITEMS)
    assert (result.accuracy, result.three_way_accuracy, result.three_way_held_out) == (1, 1, 1)
    assert (result.kendall, result.spearman) == (pytest.approx(1), pytest.approx(1))
    assert (result.num_pairs, result.num_human_ties, result.num_score_ties, result.num_left_out) == (8, 1, 0, 0)
    assert result.interval == (1, 1) and result.tie_threshold == 0


def test_opposite_and_constant_scores() -> None:
    opposite = judge_dimension("quality", PAIRS, {key: -value for key, value in PERFECT.items()}, ITEMS)
    assert (opposite.accuracy, opposite.kendall) == (0, pytest.approx(-1))
    constant = judge_dimension("quality", PAIRS, dict.fromkeys(PERFECT, 0.5), ITEMS)
    assert (constant.accuracy, constant.accuracy_ties_wrong, constant.num_score_ties) == (0.5, 0, 8)
    assert constant.three_way_accuracy == pytest.approx(1 / 9) and constant.kendall is None


def test_pairs_without_scores_are_left_out_and_counted() -> None:
    some = {key: value for key, value in PERFECT.items() if key != ("0", "model0")}
    result = judge_dimension("quality", PAIRS, some, ITEMS)
    assert (result.num_left_out, result.num_pairs, result.accuracy) == (2, 6, 1)
    nothing = judge_dimension("quality", PAIRS, {}, ITEMS)
    assert (nothing.num_left_out, nothing.num_pairs) == (9, 0)
    assert nothing.accuracy is nothing.interval is nothing.three_way_accuracy is nothing.kendall is None


def test_only_human_ties_have_no_accuracy() -> None:
    items = [item(0, 3, 3)]
    result = judge_dimension("quality", pairs_of_items(items, "quality"), {("0", "model0"): 0, ("0", "model1"): 1})
    assert (result.accuracy, result.num_human_ties, result.num_pairs) == (None, 1, 0)
    assert result.three_way_accuracy == 1 and result.tie_threshold == 1  # "tie" up to the difference there is


def test_votes_have_no_rank_correlation() -> None:
    votes = [LabelledPair("0", "p", "overall", "a", "b", 1, 0), LabelledPair("1", "q", "overall", "a", "b", 0, 1)]
    scores = {("0", "a"): 2.0, ("0", "b"): 1.0, ("1", "a"): 2.0, ("1", "b"): 1.0}
    result = judge_dimension("overall", votes, scores)
    assert (result.accuracy, result.kendall, result.spearman) == (0.5, None, None)


def test_source_models() -> None:
    models = {(one.item_id, video.candidate_id): video.model for one in ITEMS for video in one.candidates}
    scores = {key: -value for key, value in PERFECT.items()}
    first, second, third = judge_models("quality", PAIRS, scores, models)
    assert (first.model, first.num_pairs) == ("model0", 6)
    assert first.human_win_rate == pytest.approx(2.5 / 6) and first.score_win_rate == pytest.approx(3.5 / 6)
    assert first.mean_score == pytest.approx(-8 / 3)
    assert (first.accuracy, second.accuracy, third.accuracy) == (0, 0, 0)
    same = dict.fromkeys(models, "one")
    assert judge_models("quality", PAIRS, scores, same) == []


@pytest.mark.parametrize("arguments", [{"confidence": 1.0}, {"num_resamples": 0}])
def test_bad_bootstrap(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Bootstrap(**arguments)
