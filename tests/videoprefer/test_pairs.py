"""Preference pairs: all of them, on a dimension or the mean, with the paper's rule for ties."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videorm_hf.videoprefer.items import DIMENSIONS, Candidate, Item
from videorm_hf.videoprefer.pairs import make_preference_pairs

ratings = st.dictionaries(st.sampled_from(DIMENSIONS), st.integers(1, 5).map(float))


@st.composite
def items(draw: st.DrawFn) -> Item:
    rated = draw(st.lists(ratings, min_size=1, max_size=6))
    candidates = [Candidate(f"c{k}", f"{k}.mp4", "m", ratings=each) for k, each in enumerate(rated)]
    return Item("item", "a cat", "vidprom", tuple(candidates))


def item_of(*rated: tuple[float, float]) -> Item:
    candidates = [
        Candidate(f"c{k}", f"{k}.mp4", "m", ratings=dict(zip(DIMENSIONS, each, strict=True)))
        for k, each in enumerate(rated)
    ]
    return Item("item", "a cat", "vidprom", tuple(candidates))


def test_four_different_candidates_give_six_pairs() -> None:
    pairs = make_preference_pairs(item_of((1, 1), (2, 2), (3, 3), (5, 4)))
    assert [(pair.chosen_id, pair.rejected_id, pair.margin) for pair in pairs] == [
        ("c1", "c0", 1.0),
        ("c2", "c0", 2.0),
        ("c3", "c0", 3.5),
        ("c2", "c1", 1.0),
        ("c3", "c1", 2.5),
        ("c3", "c2", 1.5),
    ]
    first = pairs[0]
    assert (first.prompt, first.chosen, first.rejected) == ("a cat", "1.mp4", "0.mp4")
    assert (first.dimension, first.item_id) == ("mean", "item")


def test_a_tie_of_the_mean_is_no_tie_of_the_dimensions() -> None:
    item = item_of((1, 5), (5, 1))
    assert make_preference_pairs(item) == []
    [kept] = make_preference_pairs(item, ties="keep")
    assert (kept.chosen_id, kept.rejected_id, kept.margin) == ("c0", "c1", 0.0)
    assert make_preference_pairs(item, "prompt_following")[0].chosen_id == "c1"
    assert make_preference_pairs(item, "video_quality")[0].chosen_id == "c0"


def test_a_least_margin_leaves_out_close_pairs_but_not_kept_ties() -> None:
    item = item_of((1, 1), (1, 2), (1, 1), (4, 4))
    assert {pair.margin for pair in make_preference_pairs(item, min_margin=0.5)} == {0.5, 2.5, 3.0}
    assert {pair.margin for pair in make_preference_pairs(item, min_margin=0.51)} == {2.5, 3.0}
    assert {pair.margin for pair in make_preference_pairs(item, ties="keep", min_margin=1)} == {0.0, 2.5, 3.0}


def test_what_is_not_rated_is_in_no_pair() -> None:
    item = Item(
        "item",
        "a cat",
        "vidprom",
        (
            Candidate("a", "a", "m", ratings={"prompt_following": 5.0, "video_quality": 5.0}),
            Candidate("b", "b", "m", ratings={"prompt_following": 1.0}),
            Candidate("c", "c", "m"),
        ),
    )
    assert make_preference_pairs(item) == []
    assert len(make_preference_pairs(item, "prompt_following")) == 1
    assert make_preference_pairs(item, "beauty") == []
    assert make_preference_pairs(Item("item", "a cat", "vidprom", ())) == []


def test_wrong_rules_are_refused() -> None:
    with pytest.raises(ValueError, match='ties must be "drop" or "keep"'):
        make_preference_pairs(item_of((1, 1)), ties="half")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_margin must be at least 0"):
        make_preference_pairs(item_of((1, 1)), min_margin=-1)


@given(items(), st.sampled_from(["mean", *DIMENSIONS]), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_margins_are_differences_and_every_pair_is_decided_once(item: Item, dimension: str, least: float) -> None:
    kept = make_preference_pairs(item, dimension, "keep", least)
    dropped = make_preference_pairs(item, dimension, "drop", least)
    assert dropped == [pair for pair in kept if pair.margin > 0]
    assert all(pair.margin >= least for pair in dropped)
    met = [frozenset((pair.chosen_id, pair.rejected_id)) for pair in kept]
    assert len(met) == len(set(met)) and all(len(pair) == 2 for pair in met)

    all_dimensions = {name for candidate in item.candidates for name in candidate.ratings}
    names = all_dimensions if dimension == "mean" else {dimension}
    rating = {
        candidate.candidate_id: math.fsum(candidate.ratings[name] for name in names) / len(names)
        for candidate in item.candidates
        if names and names <= candidate.ratings.keys()
    }
    assert all(pair.margin == rating[pair.chosen_id] - rating[pair.rejected_id] >= 0 for pair in kept)
    if least == 0:
        assert len(kept) == len(list(itertools.combinations(rating, 2)))


@given(items())
def test_the_order_of_the_candidates_changes_no_preference(item: Item) -> None:
    turned = Item(item.item_id, item.prompt, item.prompt_source, item.candidates[::-1])
    assert {(pair.chosen_id, pair.rejected_id, pair.margin) for pair in make_preference_pairs(item)} == {
        (pair.chosen_id, pair.rejected_id, pair.margin) for pair in make_preference_pairs(turned)
    }
