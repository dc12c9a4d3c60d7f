"""Votes of several people on duels, in SQLite: safe under voters at the same time and under a killed server.

What a rater is shown, and on which side each video stands, is recorded before it is shown. So a page that is loaded
again shows the same duel in the same order, and a vote is one update of one row: it counts once, however often it is
sent. A vote that was acknowledged is on the disk (write-ahead log, full synchronisation).
"""

import hashlib
import sqlite3
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from videorm_hf.arena.duels import Duel
from videorm_hf.videoprefer.items import Candidate

Choice = Literal["left", "tie", "right"]
Outcome = Literal["counted", "already", "too_soon"]
MAX_NAME = 40
_WAIT_S = 30.0  # for another voter's transaction, which takes milliseconds

_SCHEMA = """
CREATE TABLE IF NOT EXISTS showings (
    rater TEXT NOT NULL,
    duel_id TEXT NOT NULL,
    item_id TEXT NOT NULL,
    left_id TEXT NOT NULL,
    right_id TEXT NOT NULL,
    shown_at REAL NOT NULL,
    choice TEXT CHECK (choice IN ('left', 'tie', 'right')),
    voted_at REAL,
    PRIMARY KEY (rater, duel_id)
)
"""
_COLUMNS = "rater, duel_id, item_id, left_id, right_id, choice, shown_at, voted_at"


@dataclass(frozen=True)
class Showing:
    """A duel as one rater sees it.

    Args:
        duel ([`Duel`]): What is compared.
        left ([`Candidate`]): The video on the left.
        right ([`Candidate`]): The video on the right.
        shown_at (`float`): When it was first shown, in seconds since 1970.
    """

    duel: Duel
    left: Candidate
    right: Candidate
    shown_at: float


@dataclass(frozen=True)
class Vote:
    """A row of the store.

    Args:
        rater (`str`): Who voted.
        duel_id (`str`): On which duel.
        item_id (`str`): Its item.
        left_id (`str`): `candidate_id` of the video that stood on the left.
        right_id (`str`): `candidate_id` of the other one.
        choice (`"left"`, `"tie"` or `"right"`): Which was better.
        shown_at (`float`): When the duel was first shown, in seconds since 1970.
        voted_at (`float`): When the vote came.
    """

    rater: str
    duel_id: str
    item_id: str
    left_id: str
    right_id: str
    choice: Choice
    shown_at: float
    voted_at: float


class VoteStore:
    """The votes on a set of duels.

    Every call opens the file anew, so that threads and processes can share it.

    Args:
        path (`Path`): The SQLite file, made if it does not exist. It must lie on a local disk.
        duels (`Sequence[Duel]`): What is voted on. Votes on others, of an earlier set, stay in the file.
        seed (`int`, defaults to 0): Of the order of duels and of the sides.
        min_seconds (`float`, defaults to 1.0):
            A vote that comes sooner after the duel was shown does not count: the second click of a double click would
            otherwise decide the next duel, unseen.
        clock (`Callable[[], float]`): Tells the time.

    Raises:
        ValueError: If there are no duels, or two are the same.
    """

    def __init__(
        self,
        path: Path,
        duels: Sequence[Duel],
        seed: int = 0,
        min_seconds: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path, self.seed, self.min_seconds, self.clock = Path(path), seed, min_seconds, clock
        self.duels = {duel.duel_id: duel for duel in duels}
        if not duels or len(self.duels) != len(duels):
            raise ValueError(f"duels must be distinct and at least one: got {len(duels)}, {len(self.duels)} distinct.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_SCHEMA)

    def show(self, rater: str) -> Showing | None:
        """Return the duel that a rater has before them: the one without a vote yet, else a new one.

        New is the duel with the fewest votes of all that the rater has not been shown; which one of several, and the
        sides, are drawn by seed, rater and duel.

        Args:
            rater (`str`): As from [`clean_name`].

        Returns:
            [`Showing`], or `None` when the rater has voted on every duel.
        """
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT duel_id, left_id, shown_at FROM showings WHERE rater = ? AND choice IS NULL", (rater,)
            )
            for duel_id, left_id, shown_at in rows.fetchall():
                if duel_id in self.duels:
                    return _showing(self.duels[duel_id], left_id, shown_at)
            duel = self._draw(connection, rater)
            if duel is None:
                return None
            left, right = (duel.a, duel.b) if self._number(rater, duel, "side") % 2 else (duel.b, duel.a)
            shown_at = self.clock()
            connection.execute(
                "INSERT INTO showings VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)",
                (rater, duel.duel_id, duel.item_id, left.candidate_id, right.candidate_id, shown_at),
            )
            return Showing(duel, left, right, shown_at)

    def vote(self, rater: str, duel_id: str, choice: Choice) -> Outcome:
        """Count a vote, once.

        Args:
            rater (`str`): Who votes.
            duel_id (`str`): On which duel.
            choice (`"left"`, `"tie"` or `"right"`): Which is better, as the rater sees them.

        Returns:
            `str`: `"counted"`; `"already"` where this rater's vote on the duel was counted before, which stays;
            `"too_soon"` where the rater cannot have looked.

        Raises:
            ValueError: If the choice is none of the three, or the duel was never shown to this rater.
        """
        if choice not in get_args(Choice):
            raise ValueError(f"choice must be one of {', '.join(get_args(Choice))}, got {choice!r}.")
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT choice, shown_at FROM showings WHERE rater = ? AND duel_id = ?", (rater, duel_id)
            ).fetchone()
            if row is None:
                raise ValueError(f"{rater} votes on a pair that was not shown to them: load the page again.")
            if row[0] is not None:
                return "already"
            now = self.clock()
            if now - row[1] < self.min_seconds:
                return "too_soon"
            connection.execute(
                "UPDATE showings SET choice = ?, voted_at = ? WHERE rater = ? AND duel_id = ?",
                (choice, now, rater, duel_id),
            )
            return "counted"

    def votes(self) -> list[Vote]:
        """Return all votes on the duels of this store, in the order in which they came."""
        with closing(self._connect()) as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM showings WHERE choice IS NOT NULL ORDER BY voted_at, rater"
            ).fetchall()
        return [vote for vote in (Vote(*row) for row in rows) if vote.duel_id in self.duels]

    def num_voted(self, rater: str) -> int:
        """Return on how many duels a rater has voted.

        Args:
            rater (`str`): Who.

        Returns:
            `int`: of the duels of this store.
        """
        return sum(vote.rater == rater for vote in self.votes())

    def _draw(self, connection: sqlite3.Connection, rater: str) -> Duel | None:
        seen = {row[0] for row in connection.execute("SELECT duel_id FROM showings WHERE rater = ?", (rater,))}
        counts = dict(
            connection.execute("SELECT duel_id, COUNT(*) FROM showings WHERE choice IS NOT NULL GROUP BY duel_id")
        )
        left = [duel for duel_id, duel in self.duels.items() if duel_id not in seen]
        return min(
            left, key=lambda duel: (counts.get(duel.duel_id, 0), self._number(rater, duel, "order")), default=None
        )

    def _number(self, rater: str, duel: Duel, use: str) -> int:
        """Draw a number from facts alone."""
        text = f"{self.seed}\0{use}\0{rater}\0{duel.duel_id}"
        return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:8], "big")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that holds the write lock from its first statement to the commit."""
        with closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection  # where this raises, closing the connection rolls back
            connection.execute("COMMIT")


def clean_name(name: str) -> str:
    """Bring a rater's name to one form, so that one person is not two.

    Args:
        name (`str`): As typed.

    Returns:
        `str`: without case and with single spaces.

    Raises:
        ValueError: If nothing is left, it is longer than 40 characters, or holds characters that cannot be shown.
    """
    cleaned = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    if not cleaned or len(cleaned) > MAX_NAME or not cleaned.isprintable():
        raise ValueError(f"A name has 1 to {MAX_NAME} characters that can be shown: got {name[:80]!r}.")
    return cleaned


def _showing(duel: Duel, left_id: str, shown_at: float) -> Showing:
    left, right = (duel.a, duel.b) if duel.a.candidate_id == left_id else (duel.b, duel.a)
    return Showing(duel, left, right, shown_at)
