"""Metrics as facts: what ties, swaps and monotone maps do, and the published metrics of TVGE to the digit."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.real_data import real_data
from videorm_hf.benchmarks import get_benchmark
from videorm_hf.evaluation.metrics import (
    PairwiseAccuracy,
    fit_tie_threshold,
    kendall_tau_b,
    mean_interval,
    pair_credit,
    pairwise_accuracy,
    spearman,
    three_way_accuracy,
)

# Few values, so that ties of people and of scores are frequent.
PAIRS = st.lists(st.tuples(*[st.integers(1, 5)] * 2, *[st.integers(-3, 3)] * 2), min_size=1, max_size=30)


def columns(pairs: list[tuple[int, int, int, int]]) -> list[np.ndarray]:
    return [np.array(column, dtype=float) for column in zip(*pairs, strict=True)]


def test_ties_are_counted_as_the_rule_says() -> None:
    arrays = ([5, 3, 2, 4], [1, 3, 4, 1], [0.9, 0.1, 0.5, 0.1], [0.2, 0.8, 0.5, 0.3])  # right, human tie, tied, wrong
    assert pairwise_accuracy(*arrays) == PairwiseAccuracy(0.5, 3, 1, 1)
    assert pairwise_accuracy(*arrays, score_ties="wrong") == PairwiseAccuracy(1 / 3, 3, 1, 1)
    assert pairwise_accuracy(*arrays, score_ties="drop") == PairwiseAccuracy(0.5, 2, 1, 1)


@given(PAIRS)
def test_it_is_what_counting_one_by_one_gives(pairs: list[tuple[int, int, int, int]]) -> None:
    untied = [pair for pair in pairs if pair[0] != pair[1]]
    assume(untied)
    credit = [0.5 if c == d else float((a > b) == (c > d)) for a, b, c, d in untied]
    ties = sum(c == d for _, _, c, d in untied)
    expected = PairwiseAccuracy(pytest.approx(sum(credit) / len(credit)), len(untied), len(pairs) - len(untied), ties)
    assert pairwise_accuracy(*columns(pairs)) == expected


@given(PAIRS)
def test_swapping_both_changes_nothing_and_swapping_one_turns_it_over(pairs: list[tuple[int, int, int, int]]) -> None:
    human_a, human_b, score_a, score_b = columns(pairs)
    assume((human_a != human_b).any())
    result = pairwise_accuracy(human_a, human_b, score_a, score_b)
    assert pairwise_accuracy(human_b, human_a, score_b, score_a) == result
    turned = pairwise_accuracy(human_a, human_b, score_b, score_a)
    assert turned.accuracy == pytest.approx(1 - result.accuracy)
    assert pairwise_accuracy(human_b, human_a, score_a, score_b) == turned


@given(PAIRS)
def test_monotone_maps_of_ratings_and_scores_change_nothing(pairs: list[tuple[int, int, int, int]]) -> None:
    human_a, human_b, score_a, score_b = columns(pairs)
    assume((human_a != human_b).any())
    mapped = pairwise_accuracy(10 * human_a - 3, 10 * human_b - 3, np.exp(score_a), np.exp(score_b))
    assert mapped == pairwise_accuracy(human_a, human_b, score_a, score_b)


def test_means_that_differ_in_the_last_bit_are_tied() -> None:
    a, b = (0.1 + 0.2) * 10, 3.0
    assert a != b
    with pytest.raises(ValueError, match="None of 1 pairs can be counted"):
        pairwise_accuracy([a], [b], [1], [0])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (([1, 2], [2, 1], [0.1, float("nan")], [0, 0]), "score_a holds nan at position 1"),
        (([1], [float("inf")], [0], [0]), "human_b holds inf"),
        (([1, 2], [2, 1], [0.1], [0, 0]), "one length, got human_a 2, human_b 2, score_a 1"),
        (([[1]], [[2]], [[0]], [[1]]), "one dimension"),
        (([3], [3], [0], [1]), "people see a difference in 0"),
        (([], [], [], []), "None of 0 pairs"),
    ],
)
def test_what_cannot_be_judged_is_an_error(arrays: tuple[list[float], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pairwise_accuracy(*arrays)


def test_an_unknown_tie_rule_is_an_error() -> None:
    with pytest.raises(ValueError, match="half, wrong, drop, got 'keep'"):
        pairwise_accuracy([1], [2], [0], [1], score_ties="keep")


@given(PAIRS)
def test_the_fitted_threshold_is_the_best_there_is(pairs: list[tuple[int, int, int, int]]) -> None:
    human_a, human_b, score_a, score_b = columns(pairs)
    human, size = np.sign(human_a - human_b), np.abs(score_a - score_b)
    tried = [
        (float((np.where(size <= t, 0, np.sign(score_a - score_b)) == human).mean()), -t) for t in [0.0, *set(size)]
    ]
    best, threshold = max(tried)
    assert fit_tie_threshold(human_a, human_b, score_a, score_b) == -threshold
    result = three_way_accuracy(human_a, human_b, score_a, score_b)
    assert (result.accuracy, result.threshold, result.num_pairs) == (pytest.approx(best), -threshold, len(pairs))
    assert result.num_human_ties == int((human == 0).sum())


def test_three_ways_with_a_given_threshold() -> None:
    arrays = ([5, 3, 1], [1, 3, 5], [1.0, 0.4, 0.4], [0.0, 0.3, 0.3])
    assert three_way_accuracy(*arrays, threshold=0.2).accuracy == pytest.approx(2 / 3)
    assert three_way_accuracy(*arrays, threshold=0.0).accuracy == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="at least 0"):
        three_way_accuracy(*arrays, threshold=-1)
    with pytest.raises(ValueError, match="at least one pair"):
        three_way_accuracy([], [], [], [])


def test_rank_correlations() -> None:
    assert kendall_tau_b([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert kendall_tau_b([1, 2, 3], [5, 5, 5]) is None and spearman([2, 2], [1, 3]) is None
    # One tied score of three pairs: (2 - 0) / sqrt(3 * 2).
    assert kendall_tau_b([1, 2, 3], [1, 2, 2]) == pytest.approx(2 / 6**0.5)
    with pytest.raises(ValueError, match="one score a rating"):
        spearman([1, 2], [1])


def test_the_interval_is_seeded_and_holds_the_mean() -> None:
    values = np.random.default_rng(0).random(200)
    clusters = [str(number // 4) for number in range(200)]
    low, high = mean_interval(values, clusters)
    assert low < values.mean() < high
    assert mean_interval(values, clusters) == (low, high) != mean_interval(values, clusters, seed=1)
    narrow = mean_interval(values, clusters, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_copies_within_a_prompt_make_no_interval_narrower() -> None:
    values, prompts = np.random.default_rng(1).integers(0, 2, 60), list(range(60))
    once = mean_interval(values, prompts)
    assert mean_interval(np.repeat(values, 9), list(np.repeat(prompts, 9))) == pytest.approx(once)
    as_if_independent = mean_interval(np.repeat(values, 9), list(range(540)))
    assert as_if_independent[1] - as_if_independent[0] < 0.5 * (once[1] - once[0])


def test_an_interval_needs_two_clusters() -> None:
    assert mean_interval([0.0, 1.0], ["a", "a"]) is None
    with pytest.raises(ValueError, match="one cluster a value"):
        mean_interval([0.0], [])


@pytest.mark.parametrize(
    ("metric", "half", "wrong"),
    [
        ("CLIP Score", 62.80, 62.80),
        ("X-CLIP Score", 61.33, 61.33),
        ("BLIP-BLEU", 55.40, 50.84),
        ("T2VScore-A (GPT-4V)", 60.85, 40.20),
    ],
)
def test_the_published_metrics_of_tvge(metric: str, half: float, wrong: float) -> None:
    tvge = get_benchmark("tvge", real_data("tables"))
    pairs, scores = tvge.pairs("alignment"), tvge.metrics[metric]
    arrays = (
        [pair.human_a for pair in pairs],
        [pair.human_b for pair in pairs],
        [scores[pair.item_id, pair.a_id] for pair in pairs],
        [scores[pair.item_id, pair.b_id] for pair in pairs],
    )
    result = pairwise_accuracy(*arrays)
    assert (round(100 * result.accuracy, 2), result.num_pairs, result.num_human_ties) == (half, 1898, 122)
    assert round(100 * pairwise_accuracy(*arrays, score_ties="wrong").accuracy, 2) == wrong
    assert pair_credit(*arrays).mean() == result.accuracy
