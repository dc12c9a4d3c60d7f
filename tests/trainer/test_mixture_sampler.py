"""What an epoch draws."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videorm_hf.trainer.mixture_sampler import MixtureSampler


def draws(sampler, epoch=0):
    sampler.epoch = epoch
    return list(sampler)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(0, 5))
def test_an_epoch_without_proportions_is_every_row_once(sizes, epoch):
    sampler = MixtureSampler(sizes, seed=3)
    total = sum(sizes)
    assert sorted(draws(sampler, epoch)) == [epoch * total + row for row in range(total)]
    assert len(sampler) == total


@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0.1, 10)), min_size=1, max_size=4), st.integers(1, 6))
def test_shares_are_exact_and_rows_of_a_set_drawn_equally_often(sets, epochs):
    sizes, proportions = [size for size, _ in sets], [p for _, p in sets]
    sampler = MixtureSampler(sizes, proportions, seed=1)
    total = sum(sizes)
    counts = Counter(draw % total for epoch in range(epochs) for draw in draws(sampler, epoch))
    first = 0
    for size, proportion in sets:
        of_set = [counts[row] for row in range(first, first + size)]
        share = proportion / sum(proportions) * total
        assert abs(sum(of_set) / epochs - share) < 1
        assert max(of_set) - min(of_set) <= 1
        first += size


def test_seed_and_epoch_decide_the_order():
    def order(seed, epoch):
        return [draw % 30 for draw in draws(MixtureSampler([10, 20], seed=seed), epoch)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) and order(0, 0) != order(1, 0)


def test_sets_are_mixed_rather_than_laid_end_to_end():
    first = [draw < 50 for draw in draws(MixtureSampler([50, 50], seed=0))][:50]
    assert 10 < sum(first) < 40


@pytest.mark.parametrize("proportions", [[0.5], [0.5, 0.0], [1.0, -1.0], [float("nan"), 1.0]])
def test_impossible_proportions_are_errors(proportions):
    with pytest.raises(ValueError, match="positive number for each of the 2"):
        MixtureSampler([3, 3], proportions)


def test_an_empty_set_is_an_error():
    with pytest.raises(ValueError, match="at least one row"):
        MixtureSampler([3, 0])
