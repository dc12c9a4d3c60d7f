"""Splits: near-duplicates stay together whatever else there is, the draw is seeded, and no prompt crosses."""

import itertools
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videorm_hf.videoprefer.splits import assign_splits, near_duplicates, normalise_prompt, write_splits

HALVES = {"train": 0.5, "test": 0.5}
prompts = st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=0, max_size=6).map(" ".join), max_size=30)


def jaccard(first: str, second: str) -> float:
    a, b = set(normalise_prompt(first).split()), set(normalise_prompt(second).split())
    return len(a & b) / len(a | b) if a | b else 1.0


def test_spelling_does_not_make_another_prompt() -> None:
    assert normalise_prompt("  A CAT,\n runs!") == normalise_prompt("a cat runs") == "a cat runs"
    assert normalise_prompt("ﬁre Straße") == "fire strasse"
    assert normalise_prompt("🐈 🐈") == "🐈 🐈" and normalise_prompt("🐈") != normalise_prompt("🐕")


def test_near_duplicates_share_a_group_and_others_do_not() -> None:
    base = "a corgi rides a skateboard along the beach at sunset"
    groups = near_duplicates([base + " slowly", base.upper() + "!", "a corgi eats a carrot", base, ""])
    assert groups == [base, base, "a corgi eats a carrot", base, ""]


@given(prompts, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_groups_are_exactly_the_linked_prompts(texts: list[str], similarity: float) -> None:
    groups = dict(zip(texts, near_duplicates(texts, similarity), strict=True))
    slow = {text: {text} for text in texts}  # every pair compared, sets merged
    for first, second in itertools.combinations(slow, 2):
        if jaccard(first, second) >= similarity - 1e-9 and slow[first] is not slow[second]:
            union = slow[first] | slow[second]
            for text in union:
                slow[text] = union
    for first, second in itertools.combinations(slow, 2):
        assert (groups[first] == groups[second]) == (second in slow[first])


@given(prompts, st.integers(0, 3))
def test_no_prompt_crosses(texts: list[str], seed: int) -> None:
    split_of = assign_splits({str(number): text for number, text in enumerate(texts)}, HALVES, seed)
    for (a, first), (b, second) in itertools.combinations(enumerate(texts), 2):
        if jaccard(first, second) >= 0.8:
            assert split_of[str(a)] == split_of[str(b)]


@given(prompts, prompts)
def test_what_is_added_moves_nobody_unless_it_links_groups(old: list[str], new: list[str]) -> None:
    before = assign_splits({str(number): text for number, text in enumerate(old)}, HALVES)
    after = assign_splits({str(number): text for number, text in enumerate([*old, *new])}, HALVES)
    groups = dict(zip([*old, *new], near_duplicates([*old, *new]), strict=True))
    untouched = {groups[text] for text in old} - {groups[text] for text in new}
    for number, text in enumerate(old):
        if groups[text] in untouched:
            assert after[str(number)] == before[str(number)]


def test_the_draw_follows_seed_and_fractions() -> None:
    items = {str(number): f"{number} {number * 7} {number * 13}" for number in range(2000)}
    first, again, other = assign_splits(items, HALVES), assign_splits(items, HALVES), assign_splits(items, HALVES, 1)
    assert first == again != other
    shares = assign_splits(items)
    assert {name: sum(split == name for split in shares.values()) for name in ("train", "validation", "test")} == {
        "train": pytest.approx(1800, abs=45),
        "validation": pytest.approx(100, abs=35),
        "test": pytest.approx(100, abs=35),
    }
    assert set(assign_splits(items, {"train": 1.0, "test": 0.0}).values()) == {"train"}


@pytest.mark.parametrize("fractions", [{}, {"train": 0.9}, {"train": 1.5, "test": -0.5}])
def test_fractions_must_add_up(fractions: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        assign_splits({"0": "a"}, fractions)
    with pytest.raises(ValueError, match="similarity must be above 0"):
        near_duplicates(["a"], 0)


def test_the_draw_is_recorded(tmp_path: Path) -> None:
    split_of = assign_splits({"a": "one", "b": "two", "c": "three"}, HALVES, seed=4)
    write_splits(tmp_path / "splits.json", split_of, HALVES, seed=4)
    record = json.loads((tmp_path / "splits.json").read_text())
    assert (record["seed"], record["fractions"], record["similarity"]) == (4, HALVES, 0.8)
    assert {item: name for name, items in record["items"].items() for item in items} == split_of


def test_as_many_prompts_as_the_paper_has() -> None:
    draw = random.Random(0)
    words = [f"w{number}" for number in range(4000)]
    weights = [1 / (number + 1) for number in range(4000)]  # as in language: few words are in most prompts
    texts = [" ".join(draw.choices(words, weights, k=draw.randint(4, 25))) for _ in range(14_000)]
    texts[1000:2000] = [text + " again" for text in texts[:1000]]
    groups = near_duplicates(texts)
    long_enough = [number for number in range(1000) if len(set(texts[number].split())) >= 6]
    assert all(groups[number] == groups[1000 + number] for number in long_enough)
