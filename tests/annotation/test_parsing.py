"""What replies say: a literal rating or a named failure, on made-up replies of every shape and on real ones."""

import gzip
import json
import re
from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.real_data import real_data
from videorm_hf.annotation import FailureReason, Rating, Verdict, parse_rating, parse_verdict

RATED = [
    ("Rating: 4\nRationale: Sharp.", 4, "Sharp."),
    ("Rationale: Sharp.\nRating: 4", 4, "Sharp."),
    ("**Rating:** 4\n\n**Rationale:** Sharp.", 4, "Sharp."),
    ("**Rating**: **4**/5\n**Rationale**: Sharp.", 4, "Sharp."),
    ("### Rating: 2\nDull.", 2, "Dull."),
    ("- Rating: 4\n- Rationale: Sharp.", 4, "Sharp."),
    ("rating=3", 3, ""),
    ("Rating - 5", 5, ""),
    ("Rating：5", 5, ""),
    ("| Rating | 4 |", 4, ""),
    ("Rating (1-5): 4", 4, ""),
    ("Rating: [1-5]\nRating: 2", 2, None),
    ("Rating: [4]", 4, ""),
    ("Rating: 4/5", 4, ""),
    ("Rating: 4 out of 5", 4, ""),
    ("Rating: 4.0", 4, ""),
    ("Rating: 4 - Good", 4, "Good"),
    ("Rating: 4★", 4, None),
    ("Rating:\n4\nRationale: Sharp.", 4, "Sharp."),
    ("Rating: 4 Rationale: Sharp.", 4, "Sharp."),
    ("The motion is smooth. Overall rating: 4", 4, "The motion is smooth."),
    ("My rating is 4. It is sharp.", 4, "It is sharp."),
    ("Rating: 4\nRationale: Sharp. Rating: 4", 4, "Sharp."),
    ('"Score": {1}', 1, ""),
    ('{"rating": 4, "rationale": "Sharp."}', 4, "Sharp."),
    ('{"rationale": "Two \\"cats\\".\\nDull.", "rating": 2}', 2, 'Two "cats".\nDull.'),
    ('```json\n{"rating": "4", "rationale": "Sharp."}\n```', 4, "Sharp."),
    ("{'rating': 4, 'rationale': 'Sharp.'}", 4, None),
    ("4", 4, ""),
    (" 5/5. ", 5, ""),
    ("<think>A rating: 2? No.</think>\nRating: 4", 4, ""),
    ("A rating: 2? No.</think>\nRating: 4", 4, ""),  # the chat template has opened the thoughts
    ("Rating: 4\nRationale: It cannot have a rating of 5 with this flicker.", 4, None),
    ("Rating: 4\nRationale: A little noise prevents a score of 5.", 4, None),
    ("Rating: 3\nRationale: The 2 dogs and 5 cats of the prompt are there, 10/10 of them moving.", 3, None),
    ("I'm sorry to say that the video is dull.\nRating: 2", 2, None),
]

FAILED = [
    ("", "empty"),
    (" \n\t", "empty"),
    ("<think>Hm.</think>", "empty"),
    ("Rating: 4, perhaps.</think>", "empty"),
    ("<think>Rating: 4", "truncated"),
    ('{"rating": 4, "rationale": "The frames sh', "truncated"),
    ('```json\n{"rationale": "The fra', "truncated"),
    ("I'm sorry, but I can't assist with that.", "refusal"),
    ("I’m sorry, I cannot help with rating people.", "refusal"),
    ("I am unable to provide ratings from 1 to 5 for videos.", "refusal"),
    ("As an AI model, I can't view videos.", "refusal"),
    ("The video is sharp.", "no_rating"),
    ("Rating:", "no_rating"),
    ("Rating: N/A", "no_rating"),
    ('{"rating": null, "rationale": "?"}', "no_rating"),
    ("Rating: four", "no_rating"),
    ("Rating: ４", "no_rating"),
    ("Rating: 1-5", "no_rating"),
    ("Rating: ~4", "no_rating"),
    ("Rating: around 4", "no_rating"),
    ("Rating: <4", "no_rating"),
    ("Rating: 4%", "no_rating"),
    ("Rating: 4+", "no_rating"),
    ("Rating:\n1. The video shows a dog.\nIt runs.", "no_rating"),
    ("Rating: 5 would be too much.", "no_rating"),
    ("Maximum rating: 5", "no_rating"),
    ("Temporal consistency score: 3", "no_rating"),
    ("A rating of 5 would need smoother motion.", "no_rating"),
    ("If it were sharper, the rating is 5.", "no_rating"),
    ("Therefore a score of 3 would be fitting.", "no_rating"),
    ("3 dogs run over the beach.", "no_rating"),
    ("Rating: 0", "out_of_range"),
    ("Rating: 6", "out_of_range"),
    ("Rating: -1", "out_of_range"),
    ("Rating: −2", "out_of_range"),
    ("Rating: 45", "out_of_range"),
    ("Rating: 4.5", "out_of_range"),
    ("Rating: 4,5", "out_of_range"),
    ("Rating: 4/10", "out_of_range"),
    ("Rating: 4 out of 7", "out_of_range"),
    ("8/10", "out_of_range"),
    ("Therefore I give it a score of 9.", "out_of_range"),
    ("Rating: 3-4", "ambiguous"),
    ("Rating: 3 or 4", "ambiguous"),
    ("Rating: 3 to 4", "ambiguous"),
    ("Rating: 4\nRating: 3", "ambiguous"),
    ("Rating: 4\nRationale: Sharp. Final rating: 5", "ambiguous"),
    ("Rating: 4\nRationale: On second thought I would give it a 2.", "ambiguous"),
    ("Rating: 4\nRationale: It deserves 3 out of 5.", "ambiguous"),
    ("Aesthetic rating: 2\nOverall rating: 3", "ambiguous"),
    ('{"rating": 4, "rating": 2}', "ambiguous"),
    ('{"rating": 4, "rationale": "Dull.\\nRating: 2"}', "ambiguous"),
    ("The clip has a motion score of 3 and a style score of 5.", "ambiguous"),
    ("Rating: 4 and Rating: 9", "ambiguous"),
]


@pytest.mark.parametrize(("reply", "value", "rationale"), RATED, ids=[reply for reply, _, _ in RATED])
def test_a_stated_rating_is_read(reply: str, value: int, rationale: str | None) -> None:
    rating = parse_rating(reply)
    assert isinstance(rating, Rating), rating
    assert rating.value == value
    assert rationale is None or rating.rationale == rationale


@pytest.mark.parametrize(("reply", "reason"), FAILED, ids=[reply for reply, _ in FAILED])
def test_anything_else_is_a_failure_with_its_reason(reply: str, reason: str) -> None:
    assert parse_rating(reply) == reason


def test_a_reply_that_was_cut_off_or_filtered_has_no_rating() -> None:
    assert parse_rating("Rating: 4\nRationale: The fra", finish_reason="length") == "truncated"
    assert parse_rating("", finish_reason="length") == "truncated"
    assert parse_rating("Rating: 4", finish_reason="content_filter") == "refusal"
    assert parse_rating(None, finish_reason="stop") == "empty"


def is_stated(value: int, text: str) -> bool:
    """Whether the digit stands in the text by itself; independent of how the parser looks for it."""
    return re.search(rf"(?<![0-9]){value}(?![0-9])", text) is not None


PIECES = st.sampled_from(
    ["Rating", "rating", "Score", ":", " is ", " of ", "-", "/", "5", "4", "1", "10", "0", "3.5", "\n", " ", "**", '"']
    + [
        "Rationale: ",
        "{",
        "}",
        "[",
        "]",
        "out of ",
        "I give it a ",
        "sorry, I can't rate ",
        "not ",
        "<think>",
        "</think>",
    ]
)


@given(st.one_of(st.text(), st.lists(PIECES, max_size=14).map("".join)))
def test_any_text_gives_a_rating_that_it_states_or_a_failure(text: str) -> None:
    result = parse_rating(text)
    if isinstance(result, Rating):
        assert result.value in (1, 2, 3, 4, 5)
        assert is_stated(result.value, text)
    else:
        assert result in get_args(FailureReason)


@given(st.integers(), st.text(alphabet=st.characters(exclude_characters="0123456789<"), max_size=40))
def test_a_labelled_number_is_its_rating_or_out_of_range(number: int, rationale: str) -> None:
    result = parse_rating(f"Rating: {number}\nRationale: {rationale}")
    assert (result.value if isinstance(result, Rating) else result) == (number if 1 <= number <= 5 else "out_of_range")


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from(["\n", " ", "\nBut no. ", '", "']))
def test_two_different_ratings_are_ambiguous(one: int, other: int, between: str) -> None:
    result = parse_rating(f"Rating: {one}{between}Rating: {other}")
    assert result == "ambiguous" if one != other else isinstance(result, Rating) and result.value == one


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("Verdict: A\nRationale: Sharper.", "first"),
        ("**Verdict:** B", "second"),
        ("Verdict: tie", "tie"),
        ("Verdict: a tie.", "tie"),
        ("Verdict: Video B", "second"),
        ("Verdict: A (slightly)", "first"),
        ('{"rationale": "B is dull.", "verdict": "A"}', "first"),
        ("Final verdict: [[B>A]]", "second"),
        ("[[A=B=Bad]]", "tie"),
        ("A", "first"),
    ],
)
def test_a_stated_verdict_is_read(reply: str, choice: str) -> None:
    verdict = parse_verdict(reply)
    assert isinstance(verdict, Verdict) and verdict.choice == choice


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("A is sharper, B follows the prompt.", "no_rating"),
        ("Verdict: A and B are alike", "no_rating"),
        ("Verdict: A, B", "no_rating"),
        ("Verdict: A is worse than B", "no_rating"),
        ("Verdict: A|B|tie", "no_rating"),
        ("Verdict: A\nVerdict: B", "ambiguous"),
        ("[[A>B]] or [[A=B=Good]]", "ambiguous"),
        ("I can't assist with that.", "refusal"),
        ("", "empty"),
        ('{"rationale": "B', "truncated"),
    ],
)
def test_a_reply_without_a_verdict_is_a_failure(reply: str, reason: str) -> None:
    assert parse_verdict(reply) == reason


@given(st.text())
def test_any_text_gives_a_verdict_or_a_failure(text: str) -> None:
    result = parse_verdict(text)
    assert isinstance(result, Verdict) or result in get_args(FailureReason)


# --- Real replies --------------------------------------------------------------------------------------------------


def real_replies(name: str) -> list[dict]:
    with gzip.open(real_data(f"judge_replies/{name}.jsonl.gz"), "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def outcomes(replies: list[str]) -> Counter[object]:
    results = map(parse_rating, replies)
    return Counter(result.value if isinstance(result, Rating) else result for result in results)


def test_real_video_ratings_are_read() -> None:
    replies = json.loads(real_data("judge_replies/chronomagic_gpt4o_1.json").read_text(encoding="utf-8"))
    assert outcomes(list(replies.values())) == {1: len(replies)}


def test_real_ratings_on_another_scale_are_never_taken_for_ours() -> None:
    """Reasons for ratings from 0 to 10, often of two aspects: read by eye, none of them rates from 1 to 5."""
    gpt4v = [row["reasoning"] for row in real_replies("viescore_gpt4v_0shot")]
    found = outcomes(gpt4v)
    assert set(found) == {"no_rating", "out_of_range", "ambiguous", "refusal"}
    refusals = [reply for reply in gpt4v if parse_rating(reply) == "refusal"]
    assert len(refusals) == 4 and all("unable to provide" in reply for reply in refusals)
    cogvlm = [row["reasoning"].partition("|")[2] for row in real_replies("viescore_cogvlm_0shot")]
    assert set(outcomes(cogvlm)) == {"no_rating", "out_of_range", "ambiguous"}
    # A score beside a reply that could not be parsed is a guess: the parser must not find it either.
    aspects = [reply for reply in cogvlm if "naturalness score of 9 and an artifacts score of -1" in reply]
    assert len(aspects) > 50 and {parse_rating(reply) for reply in aspects} == {"ambiguous"}


def test_real_verdicts_are_read_as_their_authors_read_them() -> None:
    """Where exactly one verdict is stated; several different ones, which the authors resolve, are ambiguous here."""
    chosen = {"[[A>B]]": "first", "[[B>A]]": "second", "[[A=B=Good]]": "tie", "[[A=B=Bad]]": "tie"}
    for name in ("genai_video_gpt4o", "genai_video_llavanext"):
        for row in real_replies(name):
            verdict = parse_verdict(row["response"])
            stated = {chosen[vote] for vote in re.findall(r"\[\[[AB>=]+(?:Good|Bad)?\]\]", row["response"])}
            if len(stated) == 1:
                assert isinstance(verdict, Verdict) and {verdict.choice} == stated
                assert chosen[row["model_vote"]] == verdict.choice
            else:
                assert verdict == ("ambiguous" if stated else "no_rating")


def test_a_real_judge_that_only_ever_says_the_first() -> None:
    verdicts = [parse_verdict(row["response"]) for row in real_replies("genai_video_cogvlm")]
    assert {verdict.choice if isinstance(verdict, Verdict) else verdict for verdict in verdicts} == {"first"}
