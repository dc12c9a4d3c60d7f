"""What a judge's reply becomes: a rating or a verdict that it states, or the named reason why there is none."""

from dataclasses import dataclass
from typing import Literal

FailureReason = Literal[
    "refusal",  # the judge declines to answer
    "no_rating",  # a reply that states none
    "out_of_range",  # a number that is not one of the five steps, or stands on another scale
    "ambiguous",  # two different answers in one reply, or a range
    "truncated",  # the reply was cut off
    "empty",  # nothing but white space
    "transport",  # no reply arrived (set by the annotator)
    "unreadable_video",  # the video could not be decoded, so nothing was asked (set by the annotator)
]

Mode = Literal["pointwise", "pairwise"]
Choice = Literal["first", "second", "tie"]


@dataclass(frozen=True)
class Rating:
    """A rating as the judge states it.

    Args:
        value (`int`): From 1 to 5.
        rationale (`str`): The judge's reasons; empty where it gives none.
    """

    value: int
    rationale: str


@dataclass(frozen=True)
class Verdict:
    """A choice between two videos as the judge states it.

    Args:
        choice (`"first"`, `"second"` or `"tie"`): Which of the two, in the order they were shown.
        rationale (`str`): The judge's reasons; empty where it gives none.
    """

    choice: Choice
    rationale: str
