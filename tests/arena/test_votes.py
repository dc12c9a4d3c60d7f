"""The store of votes: what is shown, what counts, many voters at once, a killed voter."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.arena.factories import duel
from videorm_hf.arena.votes import VoteStore, clean_name

DUELS = [duel(number) for number in range(6)]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> VoteStore:
    return VoteStore(tmp_path / "votes.sqlite", DUELS, min_seconds=0.0)


def answer_all(store: VoteStore, rater: str) -> list[str]:
    shown = []
    while (showing := store.show(rater)) is not None:
        shown.append(showing.duel.duel_id)
        assert store.vote(rater, showing.duel.duel_id, "left") == "counted"
    return shown


def test_a_page_loaded_again_shows_the_same_duel_on_the_same_sides(store: VoteStore) -> None:
    first = store.show("anna")
    again = VoteStore(store.path, DUELS, seed=99).show("anna")  # also after a restart, whatever the seed
    assert first == again
    assert first is not None and {first.left.model, first.right.model} == {"base", "tuned"}


def test_every_rater_sees_every_duel_once(store: VoteStore) -> None:
    assert sorted(answer_all(store, "anna")) == sorted(store.duels)
    assert store.show("anna") is None
    assert store.num_voted("anna") == len(DUELS)
    assert store.num_voted("bert") == 0


def test_a_vote_counts_once_and_stays(store: VoteStore) -> None:
    showing = store.show("anna")
    assert store.vote("anna", showing.duel.duel_id, "right") == "counted"
    assert store.vote("anna", showing.duel.duel_id, "left") == "already"
    (vote,) = store.votes()
    assert (vote.rater, vote.choice) == ("anna", "right")
    assert (vote.left_id, vote.right_id) == (showing.left.candidate_id, showing.right.candidate_id)


def test_a_vote_sooner_than_anybody_can_look_does_not_count(tmp_path: Path) -> None:
    now = [100.0]
    store = VoteStore(tmp_path / "votes.sqlite", DUELS, min_seconds=1.0, clock=lambda: now[0])
    duel_id = store.show("anna").duel.duel_id
    now[0] = 100.5
    assert store.vote("anna", duel_id, "left") == "too_soon"
    assert store.votes() == []
    now[0] = 102.0
    assert store.vote("anna", duel_id, "left") == "counted"
    assert [(vote.shown_at, vote.voted_at) for vote in store.votes()] == [(100.0, 102.0)]


def test_what_was_not_shown_cannot_be_voted_on(store: VoteStore) -> None:
    with pytest.raises(ValueError, match="was not shown"):
        store.vote("anna", DUELS[0].duel_id, "left")
    duel_id = store.show("anna").duel.duel_id
    with pytest.raises(ValueError, match="was not shown"):
        store.vote("bert", duel_id, "left")
    with pytest.raises(ValueError, match="left, tie, right"):
        store.vote("anna", duel_id, "both")
    assert store.votes() == []


def test_sides_and_order_are_random_and_differ_between_raters(tmp_path: Path) -> None:
    duels = [duel(number) for number in range(20)]
    store = VoteStore(tmp_path / "votes.sqlite", duels, min_seconds=0.0)
    orders, lefts = [], Counter()
    for rater in map(str, range(5)):
        order = []
        while (showing := store.show(rater)) is not None:
            order.append(showing.duel.duel_id)
            lefts[showing.left.model] += 1
            store.vote(rater, showing.duel.duel_id, "tie")
        orders.append(tuple(order))
    assert len(set(orders)) == 5
    # 100 fair coins: fewer than 30 of one side happens once in 30,000 times, and the seed is fixed.
    assert min(lefts["base"], lefts["tuned"]) >= 30


def test_duels_with_fewer_votes_come_first(store: VoteStore) -> None:
    voted = []
    for rater in ("anna", "bert", "carl"):  # two votes each cover all six duels
        for _ in range(2):
            showing = store.show(rater)
            store.vote(rater, showing.duel.duel_id, "tie")
            voted.append(showing.duel.duel_id)
    assert sorted(voted) == sorted(store.duels)


def test_votes_on_an_earlier_set_stay_in_the_file_and_are_not_counted(store: VoteStore) -> None:
    answer_all(store, "anna")
    fewer = VoteStore(store.path, DUELS[:2])
    assert len(fewer.votes()) == 2
    assert fewer.show("anna") is None
    assert len(store.votes()) == 6


def test_an_open_duel_of_an_earlier_set_is_not_shown(store: VoteStore) -> None:
    open_id = store.show("anna").duel.duel_id
    others = [each for each in DUELS if each.duel_id != open_id]
    assert VoteStore(store.path, others).show("anna").duel.duel_id != open_id


def test_duels_must_be_distinct(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="distinct"):
        VoteStore(tmp_path / "votes.sqlite", [DUELS[0], DUELS[0]])
    with pytest.raises(ValueError, match="at least one"):
        VoteStore(tmp_path / "votes.sqlite", [])


def test_the_same_vote_from_many_threads_counts_once(store: VoteStore) -> None:
    duel_id = store.show("anna").duel.duel_id
    start = threading.Barrier(8)

    def click(_: int) -> str:
        start.wait()
        return store.vote("anna", duel_id, "left")

    with ThreadPoolExecutor(8) as threads:
        outcomes = Counter(threads.map(click, range(8)))
    assert outcomes == {"counted": 1, "already": 7}
    assert len(store.votes()) == 1


def test_many_raters_at_once_lose_nothing(store: VoteStore) -> None:
    raters = [f"rater {number}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        seen = list(threads.map(lambda rater: answer_all(store, rater), raters))
    assert all(sorted(each) == sorted(store.duels) for each in seen)
    assert Counter(vote.duel_id for vote in store.votes()) == dict.fromkeys(store.duels, 8)


VOTER = """
import sys
from pathlib import Path
from tests.arena.factories import duel
from videorm_hf.arena.votes import VoteStore
store = VoteStore(Path(sys.argv[1]), [duel(number) for number in range(3000)], min_seconds=0.0)
while (showing := store.show(sys.argv[2])) is not None:
    store.vote(sys.argv[2], showing.duel.duel_id, "left")
    print(f"<{showing.duel.duel_id}>", flush=True)
"""


@pytest.mark.slow  # two processes that import torch
def test_a_vote_that_was_acknowledged_survives_the_killing_of_its_process(tmp_path: Path) -> None:
    path = tmp_path / "votes.sqlite"
    voters = [
        subprocess.Popen([sys.executable, "-c", VOTER, str(path), rater], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for rater in ("anna", "bert")
    ]
    acknowledged = []
    for voter in voters:
        acknowledged.append([voter.stdout.readline() for _ in range(5)])
    time.sleep(0.2)
    for voter, lines in zip(voters, acknowledged, strict=True):
        os.kill(voter.pid, signal.SIGKILL)
        lines += voter.stdout.readlines()
        voter.wait()
    assert all(5 <= len(lines) < 3000 for lines in acknowledged)  # killed on the way
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)
    store = VoteStore(path, [duel(number) for number in range(3000)], min_seconds=0.0)
    for rater, lines in zip(("anna", "bert"), acknowledged, strict=True):
        told = {name for line in lines for name in re.findall(r"<(\w+)>", line)}
        kept = {vote.duel_id for vote in store.votes() if vote.rater == rater}
        assert told <= kept and len(kept - told) <= 1  # one may be written and not yet told
        showing = store.show(rater)
        assert showing is not None and store.vote(rater, showing.duel.duel_id, "tie") == "counted"


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("  Anna  Müller ", "anna müller"),
        ("ANNA", "anna"),
        ("Ａｎｎａ", "anna"),
        ("x" * 40, "x" * 40),
        ("李雷", "李雷"),
    ],
)
def test_names_come_in_one_form(typed: str, name: str) -> None:
    assert clean_name(typed) == name


@pytest.mark.parametrize("typed", ["", "   ", "x" * 41, "a\0b", "a\u202eb"])
def test_names_that_cannot_be_shown_are_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="1 to 40 characters"):
        clean_name(typed)
