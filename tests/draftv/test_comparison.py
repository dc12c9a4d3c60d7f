"""Win, tie and lose, and what the numbers beside them mean."""

import math

import pytest

from draftv_trainer.comparison import compare_rewards, judge, sign_test

PROMPTS = [f"prompt {number}" for number in range(8)]
A = [0.1, 0.4, 0.2, 0.5, 0.3, 0.3, 0.2, 0.1]
B = [0.3, 0.4, 0.6, 0.4, 0.9, 0.8, 0.7, 0.5]


def test_ties_are_what_differs_by_no_more_than_the_margin() -> None:
    assert [judge(difference) for difference in (-0.1, 0.0, 0.1)] == ["lose", "tie", "win"]
    assert [judge(difference, 0.25) for difference in (-0.5, -0.25, 0.25, 0.5)] == ["lose", "tie", "tie", "win"]


def test_counts_and_means() -> None:
    result = compare_rewards("r", A, B, PROMPTS)
    assert (result.wins, result.ties, result.losses) == (6, 1, 1)
    assert result.win_rate == pytest.approx(6.5 / 8)
    assert result.difference == pytest.approx(result.mean_b - result.mean_a) == pytest.approx(2.5 / 8)
    low, high = result.difference_interval
    assert low < result.difference < high
    assert (result.num_pairs, result.num_prompts) == (8, 8)


def test_swapping_the_sides_mirrors_everything() -> None:
    result, mirrored = compare_rewards("r", A, B, PROMPTS), compare_rewards("r", B, A, PROMPTS)
    assert (mirrored.wins, mirrored.ties, mirrored.losses) == (result.losses, result.ties, result.wins)
    assert mirrored.win_rate == pytest.approx(1 - result.win_rate)
    assert mirrored.sign_test == result.sign_test
    low, high = result.difference_interval
    assert mirrored.difference_interval == pytest.approx((-high, -low))


def test_a_side_against_itself_is_all_ties() -> None:
    result = compare_rewards("r", A, A, PROMPTS)
    assert (result.wins, result.ties, result.losses) == (0, 8, 0)
    assert result.win_rate == 0.5 and result.win_rate_interval == (0.5, 0.5)
    assert result.difference_interval == (0.0, 0.0) and result.sign_test == 1.0


@pytest.mark.parametrize(
    ("wins", "losses", "expected"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (0, 5, 2 / 32),
        (6, 1, 2 * (1 + 7) / 128),
        (3, 3, 1.0),
        (9, 1, 22 / 1024),
    ],
)
def test_the_sign_test_is_exact(wins: int, losses: int, expected: float) -> None:
    assert sign_test(wins, losses) == expected


def test_the_sign_test_has_no_overflow() -> None:
    assert sign_test(1000, 1000) == 1.0
    assert 0.0 < sign_test(1200, 800) < 1e-15


def test_the_interval_of_the_mean_is_that_of_the_normal_theory() -> None:
    differences = [math.sin(number) for number in range(400)]
    result = compare_rewards("r", [0.0] * 400, differences, [str(number) for number in range(400)])
    mean = sum(differences) / 400
    error = math.sqrt(sum((value - mean) ** 2 for value in differences) / 400 / 400)
    low, high = result.difference_interval
    assert low == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.1 * error)


def test_a_repeated_prompt_is_one_vote_and_one_unit_of_the_bootstrap() -> None:
    repeated = compare_rewards("r", [0.0] * 10, [1.0] * 9 + [-1.0], ["a"] * 9 + ["b"])
    assert (repeated.num_pairs, repeated.num_prompts) == (10, 2)
    assert repeated.sign_test == 1.0  # one prompt on either side, though nine pairs of ten are won
    assert repeated.wins == 9 and repeated.difference_interval == (-1.0, 1.0)


def test_one_prompt_has_no_interval() -> None:
    result = compare_rewards("r", [0.0, 0.0], [1.0, 0.5], ["a", "a"])
    assert result.difference_interval is None and result.win_rate_interval is None and result.win_rate == 1.0


@pytest.mark.parametrize(
    ("a", "b", "margin", "message"),
    [([], [], 0.0, "at least one"), ([0.0], [], 0.0, "got 1, 0 and 1"), ([0.0], [0.0], -1.0, "got -1.0")],
)
def test_wrong_input_is_an_error(a: list[float], b: list[float], margin: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_rewards("r", a, b, ["a"] * len(a), margin)
