"""The choices of steps: what each chooses, with which chances, and errors for settings out of range."""

from collections import Counter

import pytest

from draftv_trainer.graph_steps import (
    all_steps,
    last_steps,
    make_graph_steps,
    random_last_steps,
    refl_step,
    spread_steps,
    these_steps,
)

T = 20


def chances(make, num_draws=2000):
    """How often each step is chosen, as a share of the draws."""
    counts = Counter(step for seed in range(num_draws) for step in make(seed).choose(T))
    return [counts[step] / num_draws for step in range(T)]


def test_fixed_choices():
    assert last_steps(3).choose(T) == {17, 18, 19}
    assert all_steps().choose(3) == {0, 1, 2}
    assert these_steps([4, 1]).choose(T) == {1, 4}


def test_a_random_cutoff_is_uniform_and_a_fact_of_its_seed():
    lengths = Counter(len(random_last_steps(4, seed).choose(T)) for seed in range(2000))
    assert set(lengths) == {1, 2, 3, 4}
    assert all(abs(count / 2000 - 1 / 4) < 0.04 for count in lengths.values())
    assert random_last_steps(4, 7).choose(T) == random_last_steps(4, 7).choose(T)
    assert max(random_last_steps(4, 7).choose(T)) == T - 1
    assert {len(random_last_steps(None, seed).choose(3)) for seed in range(50)} == {1, 2, 3}


@pytest.mark.parametrize("num_steps", [1, 3, 7, 20])
def test_spread_steps_have_equal_chances_and_lie_apart(num_steps):
    shares = chances(lambda seed: spread_steps(num_steps, seed))
    assert all(abs(share - num_steps / T) < 0.05 for share in shares)
    for seed in range(50):
        chosen = sorted(spread_steps(num_steps, seed).choose(T))
        assert len(chosen) == num_steps
        gaps = [later - earlier for earlier, later in zip(chosen, chosen[1:], strict=False)]
        assert all(T // num_steps <= gap <= -(-T // num_steps) for gap in gaps)


def test_refl_draws_one_late_step():
    assert {*refl_step(None, 3).choose(40)} <= set(range(30, 40))
    shares = chances(lambda seed: refl_step([4, 5], seed))
    assert shares[4] + shares[5] == 1.0
    assert abs(shares[4] - 0.5) < 0.05


def test_settings_and_their_defaults():
    assert make_graph_steps("last", None, 0).choose(T) == set(range(10, 20))
    assert len(make_graph_steps("drtune", None, 0).choose(T)) == 10
    assert make_graph_steps("drtune", 2, 0).detach_input
    assert make_graph_steps("all", None, 0).choose(T) == set(range(T))
    assert max(len(make_graph_steps("random", None, seed).choose(3)) for seed in range(50)) == 3
    assert make_graph_steps("refl", None, 0).predict_clean


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("first", None, 0), r"backprop must be one of .*got 'first'"),
        (("last", 0, 0), "at least 1: got 0"),
        (("random", 2.0, 0), "must be an integer of at least 1: got 2.0"),
        (("all", 3, 0), "must be None for backprop='all'"),
        (("refl", 1, 0), "must be None for backprop='refl'"),
        (("last", 1, 0, [1, 2]), "refl_range belongs to"),
        (("refl", None, 0, [2, 1]), r"0 <= first <= last: got \[2, 1\]"),
        (("refl", None, 0, [-1, 1]), r"got \[-1, 1\]"),
        (("refl", None, 0, [1]), r"got \[1\]"),
    ],
)
def test_settings_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_graph_steps(*arguments)


@pytest.mark.parametrize("mode", ["last", "random", "drtune"])
def test_more_steps_than_the_trajectory_has(mode):
    with pytest.raises(ValueError, match="at most the number of sampling steps: got 21, but the scheduler takes 20"):
        make_graph_steps(mode, T + 1, 0).choose(T)


def test_no_steps_at_all():
    with pytest.raises(ValueError, match="at least one: got none"):
        these_steps([])


def test_a_refl_range_beyond_the_trajectory():
    with pytest.raises(ValueError, match=r"got \[19, 20\], but the scheduler takes 20 steps, 0 to 19"):
        refl_step([19, 20], 0).choose(T)
