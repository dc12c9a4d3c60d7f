"""Which calls rate a data set, and what is written down about each of them."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from videorm_hf.annotation.client import Reply
from videorm_hf.annotation.journal import JournalError, Record
from videorm_hf.annotation.options import AnnotationOptions
from videorm_hf.annotation.parsing import parse_rating, parse_verdict
from videorm_hf.annotation.rubrics import Form, Rubric
from videorm_hf.annotation.types import FailureReason, Rating, Verdict
from videorm_hf.videoprefer.items import Candidate, Item

Key = tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """One question to the judge.

    Args:
        item (`Item`): The prompt.
        candidates (`tuple[Candidate, ...]`): The video, or the two in the order in which they are shown.
        rubric (`Rubric`): What is asked.
    """

    item: Item
    candidates: tuple[Candidate, ...]
    rubric: Rubric

    @property
    def key(self) -> Key:
        """What a record is found by."""
        return (self.item.item_id, *(candidate.candidate_id for candidate in self.candidates), self.rubric.dimension)


def plan_calls(items: Iterable[Item], rubrics: Iterable[Rubric], is_pairwise: bool) -> Iterator[list[Call]]:
    """List all calls of a run, those that show the same videos together.

    Args:
        items (`Iterable[Item]`): Prompts with their videos.
        rubrics (`Iterable[Rubric]`): What is asked about each.
        is_pairwise (`bool`): Ask about every two videos of an item, in both orders.

    Yields:
        `list[Call]`: about one video, or about two.
    """
    rubrics = tuple(rubrics)
    for item in items:
        if not is_pairwise:
            for candidate in item.candidates:
                yield [Call(item, (candidate,), rubric) for rubric in rubrics]
            continue
        for a, b in itertools.combinations(item.candidates, 2):
            yield [Call(item, order, rubric) for rubric in rubrics for order in ((a, b), (b, a))]


@dataclass(frozen=True)
class Plan:
    """Which calls of a data set are to be asked; they are listed anew each time rather than kept.

    Args:
        items (`Sequence[Item]`): Prompts with their videos.
        rubrics (`tuple[Rubric, ...]`): What is asked about each.
        is_pairwise (`bool`): Whether two videos are asked about.
        done (`frozenset`): Keys of the calls that have a record which stands.
        num_open (`int`): How many are to be asked.
        num_failed (`int`): How many of `done` have failed and are not asked again.
    """

    items: Sequence[Item]
    rubrics: tuple[Rubric, ...]
    is_pairwise: bool
    done: frozenset[Key]
    num_open: int
    num_failed: int

    def groups(self) -> Iterator[list[Call]]:
        """List the open calls, those about the same videos together."""
        for group in plan_calls(self.items, self.rubrics, self.is_pairwise):
            if todo := [call for call in group if call.key not in self.done]:
                yield todo


class CallFinder:
    """Finds the call that a record is for.

    Args:
        items (`Sequence[Item]`): Prompts with their videos.
        rubrics (`Sequence[Rubric]`): What is asked about each.
        is_pairwise (`bool`): Whether two videos are asked about.
    """

    def __init__(self, items: Sequence[Item], rubrics: Sequence[Rubric], is_pairwise: bool) -> None:
        self.items = {item.item_id: item for item in items}
        self.rubrics = {rubric.dimension: rubric for rubric in rubrics}
        self.num_candidates = 2 if is_pairwise else 1

    def __call__(self, key: Key) -> Call | None:
        """Return the call with this key; `None` for one that is not asked."""
        item_id, *candidate_ids, dimension = key
        item, rubric = self.items.get(item_id), self.rubrics.get(dimension)
        if item is None or rubric is None or len(candidate_ids) != self.num_candidates:
            return None
        candidates = {candidate.candidate_id: candidate for candidate in item.candidates}
        if not candidates.keys() >= set(candidate_ids) or len(set(candidate_ids)) < self.num_candidates:
            return None
        return Call(item, tuple(candidates[candidate_id] for candidate_id in candidate_ids), rubric)


def key_of(record: Record) -> Key:
    """Return the [`Call.key`] of a record.

    Raises:
        JournalError: If the record is of another kind.
    """
    names = ("first_id", "second_id") if record.get("kind") == "pairwise" else ("candidate_id",)
    try:
        return (record["item_id"], *(record[name] for name in names), record["dimension"])
    except KeyError as error:
        raise JournalError(f"A record without {error} is none of an annotation run: {str(record)[:80]}") from error


def check_same_judge(record: Record, options: AnnotationOptions, path: Path) -> None:
    """Refuse to continue a journal that another judge began, or people, whatever they were asked.

    Args:
        record (`dict`): Any record that the journal holds.
        options ([`AnnotationOptions`]): Of the run that would continue it.
        path (`Path`): The journal.

    Raises:
        JournalError: If they differ.
    """
    before = record.get("judge")
    if not isinstance(before, dict):
        raise JournalError(
            f"{path} holds ratings without a judge, such as people's, which {options.model} does not continue. "
            "Name another output for this run."
        )
    mode = "pairwise" if record.get("kind") == "pairwise" else "pointwise"
    now = {"mode": options.mode, "judge": _judge(options)}
    _check_unchanged({"mode": mode, "judge": {name: before.get(name) for name in now["judge"]}}, now, path)


def check_same_question(record: Record, call: Call, options: AnnotationOptions, path: Path) -> None:
    """Refuse to continue a journal in which a call was another question, which is a [`JournalError`].

    Args:
        record (`dict`): The record that the journal holds for the call.
        call ([`Call`]): The call.
        options ([`AnnotationOptions`]): Of the run that would continue it.
        path (`Path`): The journal.
    """
    _check_unchanged(record, identity(call, options), path)


def _check_unchanged(before: Record, now: Record, path: Path) -> None:
    changed = [name for name in now if name in before and before[name] != now[name]]
    if changed:
        differences = "; ".join(f"{name} was {before[name]}, is {now[name]}" for name in changed)
        raise JournalError(f"{path} was begun otherwise: {differences}. Name another output for this run.")


def _judge(options: AnnotationOptions) -> Record:
    return {"model": options.model, "num_frames": options.num_frames, "temperature": options.temperature}


def identity(call: Call, options: AnnotationOptions) -> Record:
    """Return what must be the same for two records to be comparable, as it stands in a record."""
    return {
        "judge": {**_judge(options), "rubric_version": call.rubric.version},
        "rubric_hash": call.rubric.hash,
        "frame_size": options.frame_size,
        "prompt": call.item.prompt,
        "videos": [str(candidate.video) for candidate in call.candidates],
    }


def reply_record(call: Call, options: AnnotationOptions, reply: Reply, form: Form) -> Record:
    """Return the record of a call that was answered."""
    parse = parse_verdict if options.mode == "pairwise" else parse_rating
    return _record(call, options, parse(reply.text, reply.finish_reason)) | {
        "reply": reply.text,
        "finish_reason": reply.finish_reason,
        "response_format": form,
        "served_model": reply.model,
        "usage": {"input_tokens": reply.input_tokens, "output_tokens": reply.output_tokens},
        "attempts": reply.attempts,
        "seconds": round(reply.seconds, 3),
    }


def failure_record(
    call: Call, options: AnnotationOptions, reason: FailureReason, message: str, attempts: int
) -> Record:
    """Return the record of a call that was not answered, or not even sent."""
    return _record(call, options, reason) | {"message": message, "attempts": attempts}


def _record(call: Call, options: AnnotationOptions, outcome: Rating | Verdict | FailureReason) -> Record:
    failure = outcome if isinstance(outcome, str) else None
    rationale = None if isinstance(outcome, str) else outcome.rationale
    ids: dict[str, Any] = {"item_id": call.item.item_id}
    answer: dict[str, Any]
    if options.mode == "pairwise":
        first, second = call.candidates
        ids = {"kind": "pairwise", **ids, "first_id": first.candidate_id, "second_id": second.candidate_id}
        answer = {"verdict": outcome.choice if isinstance(outcome, Verdict) else None}
    else:
        ids["candidate_id"] = call.candidates[0].candidate_id
        answer = {"rating": outcome.value if isinstance(outcome, Rating) else None}
    return {
        **ids,
        "dimension": call.rubric.dimension,
        **answer,
        "rationale": rationale,
        "failure": failure,
        **identity(call, options),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
