"""What votes say: facts first, and Krippendorff's published example."""

import dataclasses

import numpy as np
import pytest

from tests.arena.factories import duel, vote
from videorm_hf.arena.results import compare_models, krippendorff_alpha, labelled_votes, measure_raters

DUELS = [duel(number) for number in range(4)]
BY_ID = {each.duel_id: each for each in DUELS}


@pytest.mark.parametrize("left", ["a", "b"])
def test_a_vote_means_the_same_on_either_side(left: str) -> None:
    votes = [vote(DUELS[0], "anna", winner, left) for winner in ("a", "b", None)]
    assert [(pair.human_a, pair.human_b) for pair in labelled_votes(votes, BY_ID)] == [(1, 0), (0, 1), (0.5, 0.5)]


def test_wins_are_those_of_the_second_model() -> None:
    votes = [vote(DUELS[0], "anna", "b"), vote(DUELS[1], "anna", "b", "b"), vote(DUELS[2], "anna", None)]
    votes += [vote(DUELS[3], "anna", "a"), vote(DUELS[0], "bert", "b")]
    (each,) = compare_models(votes, BY_ID)
    assert (each.model_a, each.model_b) == ("base", "tuned")
    assert (each.wins, each.ties, each.losses) == (3, 1, 1)
    assert (each.num_prompts, each.num_raters) == (4, 2)
    assert each.win_rate.value == pytest.approx(3.5 / 5)
    assert sum(estimate.value for estimate in each.shares.values()) == pytest.approx(1)
    assert all(low <= estimate.value <= high for estimate in each.shares.values() for low, high in [estimate.interval])
    # Prompts won, won, even, lost: two against one, p = 1.
    assert each.sign_test == 1.0


def test_one_prompt_has_no_interval_and_proves_nothing() -> None:
    votes = [vote(DUELS[0], str(number), "b") for number in range(30)]
    (each,) = compare_models(votes, BY_ID)
    assert each.wins == 30 and each.win_rate.interval is None and each.sign_test == 1.0


def test_ten_prompts_won_are_significant() -> None:
    duels = [duel(number) for number in range(10)]
    (each,) = compare_models([vote(d, "anna", "b") for d in duels], {d.duel_id: d for d in duels})
    assert each.sign_test == pytest.approx(2 / 2**10)


def test_a_prompt_of_several_items_is_one_unit() -> None:
    duels = [dataclasses.replace(duel(number), prompt="the same") for number in range(10)]
    by_id = {each.duel_id: each for each in duels}
    (each,) = compare_models([vote(d, "anna", "b") for d in duels], by_id)
    assert each.wins == 10 and each.num_prompts == 1
    assert each.win_rate.interval is None and each.sign_test == 1.0
    agreement = measure_raters([vote(d, rater, "b") for d in duels for rater in ("anna", "bert")], by_id)
    assert agreement.same_answer.value == 1.0 and agreement.same_answer.interval is None


def test_models_that_stand_in_either_order_are_compared_as_one() -> None:
    turned = duel(9, "tuned", "base")
    votes = [vote(DUELS[0], "anna", "b"), vote(turned, "anna", "a")]
    (each,) = compare_models(votes, {**BY_ID, turned.duel_id: turned})
    assert (each.model_b, each.wins, each.losses) == ("tuned", 2, 0)


def test_a_model_is_not_compared_with_itself() -> None:
    same = duel(8, "base", "base")
    assert compare_models([vote(same, "anna", "b")], {same.duel_id: same}) == []


def test_three_models_give_three_comparisons() -> None:
    duels = [duel(1, "x", "y"), duel(2, "x", "z"), duel(3, "y", "z")]
    found = compare_models([vote(each, "anna", "b") for each in duels], {each.duel_id: each for each in duels})
    assert [(each.model_a, each.model_b) for each in found] == [("x", "y"), ("x", "z"), ("y", "z")]


def test_raters_who_say_the_same_agree_fully() -> None:
    votes = [vote(each, rater, w) for rater in ("anna", "bert") for each, w in zip(DUELS, "abab", strict=True)]
    found = measure_raters(votes, BY_ID)
    assert (found.num_raters, found.num_shared, found.same_answer.value, found.alpha) == (2, 4, 1.0, 1.0)
    assert found.by_rater["anna"].accuracy.value == 1.0


def test_raters_who_say_the_opposite_agree_never() -> None:
    votes = [vote(each, "anna", w) for each, w in zip(DUELS, "abab", strict=True)]
    votes += [vote(each, "bert", w) for each, w in zip(DUELS, "baba", strict=True)]
    found = measure_raters(votes, BY_ID)
    assert found.same_answer.value == 0.0
    assert found.alpha is not None and found.alpha < 0
    assert found.by_rater["anna"].accuracy.value == 0.0
    assert found.left_share == 0.5


def test_without_shared_duels_nothing_is_said_about_agreement() -> None:
    found = measure_raters([vote(DUELS[0], "anna", "a"), vote(DUELS[1], "bert", None)], BY_ID)
    assert found.num_shared == 0
    assert found.same_answer.value is None and found.alpha is None
    assert found.by_rater == {"anna": None, "bert": None}
    assert found.left_share == 1.0


def test_the_others_ties_are_left_out() -> None:
    votes = [vote(DUELS[0], "anna", "a"), vote(DUELS[0], "bert", None)]
    found = measure_raters(votes, BY_ID)
    assert found.by_rater["anna"] is None  # bert sees no difference
    assert found.by_rater["bert"].accuracy.value == 0.5  # anna does, and a tie counts one half


def test_alpha_of_krippendorffs_example() -> None:
    """Krippendorff 2011, C: four observers, twelve units, missing answers; alpha for nominal data is 0.743."""
    nan = np.nan
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ]
    units = [[value for value in unit if not np.isnan(value)] for unit in zip(*observers, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_of_random_answers_is_about_zero() -> None:
    units = np.random.default_rng(0).integers(3, size=(4000, 3)).tolist()
    assert krippendorff_alpha(units) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("units", [[], [[1.0], [0.0]], [[1.0, 1.0], [1.0, 1.0]]])
def test_alpha_is_not_defined_without_difference(units: list[list[float]]) -> None:
    assert krippendorff_alpha(units) is None


def test_one_prompt_of_several_duels_gives_no_interval_of_agreement() -> None:
    same = [dataclasses.replace(each, prompt="one prompt") for each in DUELS]
    votes = [vote(each, rater, w) for rater in ("anna", "bert") for each, w in zip(same, "abab", strict=True)]
    found = measure_raters(votes, {each.duel_id: each for each in same}).by_rater["anna"]
    assert found.num_pairs == 4 and found.accuracy.value == 1.0 and found.accuracy.interval is None
    votes = [vote(each, rater, w) for rater in ("anna", "bert") for each, w in zip(DUELS, "abab", strict=True)]
    spread = measure_raters(votes, BY_ID).by_rater["anna"]
    assert spread.accuracy.interval is not None
