"""Statistics: counted by hand on two small items."""

import json

from videorm_hf.videoprefer.items import Candidate, Item, Judge
from videorm_hf.videoprefer.statistics import compute_statistics

PF, VQ = "prompt_following", "video_quality"
JUDGE = Judge("judge-a", "1", 8, 0.3)


def candidate(number: int, model: str, pf: float, vq: float | None, guidance: float | None = None) -> Candidate:
    ratings = {PF: pf} if vq is None else {PF: pf, VQ: vq}
    return Candidate(
        f"c{number}", "v.mp4", model, model == "msrvtt", guidance_scale=guidance, ratings=ratings, judge=JUDGE
    )


ITEMS = [
    Item(
        "i0", "a cat", "vidprom", (candidate(0, "a", 5, 4, 6.0), candidate(1, "b", 3, 4, 9.0), candidate(2, "a", 3, 5))
    ),
    Item("i1", "a dog", "msrvtt", (candidate(0, "msrvtt", 2, 1), candidate(1, "b", 4, None, 3.0))),
]


def test_counts() -> None:
    facts = compute_statistics(iter(ITEMS))
    assert (facts.num_items, facts.num_videos, facts.num_real, facts.num_unrated) == (2, 5, 1, 1)
    assert facts.prompt_sources == {"vidprom": 1, "msrvtt": 1}
    assert facts.candidates == {3: 1, 2: 1}
    assert facts.models == {"a": 2, "b": 2, "msrvtt": 1}
    assert facts.guidance == {"a": (6.0, 6.0), "b": (3.0, 9.0)}
    assert facts.judges == {"model judge-a, rubric_version 1, num_frames 8, temperature 0.3": 5}


def test_pairs_ties_and_ratings() -> None:
    facts = compute_statistics(ITEMS).dimensions
    assert list(facts) == [PF, VQ, "mean"]
    # i0: 5-3, 5-3, 3=3; i1: 2-4
    assert (facts[PF].num_pairs, facts[PF].num_ties, facts[PF].tie_rate) == (3, 1, 0.25)
    assert facts[PF].ratings == {5: 1, 3: 2, 2: 1, 4: 1} and facts[PF].mean_rating == 17 / 5
    # i0: 4=4, 4-5, 4-5; i1 has one rating
    assert (facts[VQ].num_pairs, facts[VQ].num_ties) == (2, 1)
    # means 4.5, 3.5, 4
    assert (facts["mean"].num_pairs, facts["mean"].num_ties) == (3, 0)
    assert facts["mean"].mean_rating is None


def test_win_rates_leave_out_ties_and_pairs_of_one_model() -> None:
    facts = compute_statistics(ITEMS).dimensions
    # a-b is won by a, a-a does not count, b-a is a tie; msrvtt loses to b
    assert facts[PF].wins == {"a": 1, "b": 1} and facts[PF].losses == {"b": 1, "msrvtt": 1}
    assert facts[PF].win_rates == {"a": 1.0, "b": 0.5, "msrvtt": 0.0}
    assert list(facts[PF].win_rates) == ["a", "b", "msrvtt"]


def test_agreement_counts_pairs_tied_in_neither_dimension() -> None:
    # of i0 only the pair c0, c2 is tied in neither: 5 > 3, but 4 < 5
    assert compute_statistics(ITEMS).agreement == {f"{PF} / {VQ}": (0, 1)}


def test_human_means_are_binned_to_the_nearest_rating() -> None:
    item = Item("i", "p", "s", (candidate(0, "a", 2.5, None), candidate(1, "b", 2.49, None)))
    facts = compute_statistics([item])
    assert facts.dimensions[PF].ratings == {3: 1, 2: 1}
    assert list(facts.dimensions) == [PF] and facts.agreement == {}


def test_rows_and_json() -> None:
    facts = compute_statistics(ITEMS)
    first, second, mean = facts.rows("mine")
    assert (first["set"], first["items"], first["videos"], first["dimension"]) == ("mine", 2, 5, PF)
    assert (first["pairs"], first["ties"], first["tie rate"], first["mean rating"]) == (3, 1, 0.25, 3.4)
    assert (second["dimension"], mean["dimension"], mean["mean rating"]) == (VQ, "mean", None)
    assert facts.agreement_rows("mine") == [
        {"set": "mine", "dimensions": f"{PF} / {VQ}", "pairs": 1, "same winner": 0, "agreement": 0.0}
    ]
    record = json.loads(json.dumps(facts.to_dict()))
    assert record["dimensions"][PF]["ratings"] == {"1": 0, "2": 1, "3": 2, "4": 1, "5": 1}
    assert record["videos_not_rated_in_every_dimension"] == 1


def test_nothing_gives_nothing() -> None:
    facts = compute_statistics([])
    assert (facts.num_items, facts.num_unrated, facts.dimensions) == (0, 0, {})
    assert facts.rows("empty") == facts.agreement_rows("empty") == []
