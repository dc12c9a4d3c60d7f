"""Duels and votes without videos."""

from videorm_hf.arena.duels import Duel
from videorm_hf.arena.votes import Choice, Vote
from videorm_hf.videoprefer.items import Candidate


def duel(number: int, a: str = "base", b: str = "tuned") -> Duel:
    """A duel of its own item; the candidates are named after their models."""
    return Duel(f"i{number}", f"prompt {number}", Candidate(a, f"{a}.mp4", a), Candidate(b, f"{b}.mp4", b))


def vote(duel: Duel, rater: str, winner: str | None, left: str = "a") -> Vote:
    """A vote for `"a"`, `"b"` or neither, with that video on the left."""
    ids = {"a": duel.a.candidate_id, "b": duel.b.candidate_id}
    right = "b" if left == "a" else "a"
    choice: Choice = "tie" if winner is None else "left" if winner == left else "right"
    return Vote(rater, duel.duel_id, duel.item_id, ids[left], ids[right], choice, 0.0, 2.0)
