"""Votes as preference data: VIDEOPREFER's `preference` view, which plain `load_dataset` reads, and every vote."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import DatasetCard, DatasetCardData

from videorm_hf.arena.duels import Duel
from videorm_hf.arena.results import DIMENSION, labelled_votes
from videorm_hf.arena.votes import Vote
from videorm_hf.evaluation.metrics import are_tied
from videorm_hf.videoprefer.features import PREFERENCE, preference_features, preference_row
from videorm_hf.videoprefer.json_lines import write_lines
from videorm_hf.videoprefer.layouts import ParquetTable
from videorm_hf.videoprefer.pairs import PreferencePair

VOTES_FILE = "votes.jsonl"
_CARD_FILE = "README.md"


def export_votes(
    votes: Sequence[Vote],
    duels: Mapping[str, Duel],
    output: str | os.PathLike[str],
    ties: Literal["drop", "keep"] = "drop",
) -> int:
    """Write votes so that `load_dataset(output, "preference")` works, videos embedded; and each vote in `votes.jsonl`.

    A row is a duel; its `margin` is the mean vote for `chosen` minus that for `rejected`, a tie counting one half
    each: 1 where all raters agree.

    Args:
        votes (`Sequence[Vote]`): Of a store.
        duels (`Mapping[str, Duel]`): By `duel_id`.
        output (`str` or `os.PathLike`):
            The folder. An earlier export is replaced; it may be empty, and hold nothing else.
        ties (`"drop"` or `"keep"`, defaults to `"drop"`): What becomes of duels without a winner.

    Returns:
        `int`: rows of the `preference` view.

    Raises:
        ValueError: If there is not one row to write.
        FileExistsError: If the output exists and is neither empty nor an earlier export of votes.
    """
    output = Path(output)
    if not _may_be_replaced(output):
        raise FileExistsError(f"{output} is not an export of votes, and is not replaced: name another folder.")
    pairs = list(_pairs(votes, duels, ties))
    if not pairs:
        raise ValueError(f"{len(votes)} votes give no pair of which one video is preferred: vote on more.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".votes-", dir=output.parent) as folder:
        unfinished = Path(folder, "votes")
        table = ParquetTable(unfinished / PREFERENCE / "train", preference_features())
        for pair in pairs:
            size = sum(path.stat().st_size for path in (pair.chosen, pair.rejected))
            table.write(preference_row(pair, _cell), size)
        table.close()
        write_lines(_vote_rows(votes, duels), unfinished / VOTES_FILE)
        _card(len(pairs), votes).save(unfinished / _CARD_FILE)
        if output.exists():
            shutil.rmtree(output)
        os.replace(unfinished, output)
    return len(pairs)


def _may_be_replaced(output: Path) -> bool:
    """Tell whether there is nothing, an empty folder, or what [`export_votes`] writes and nothing beside it."""
    if not output.is_dir():
        return not output.exists()
    names = {path.name for path in output.iterdir()}
    return not names or {VOTES_FILE} <= names <= {VOTES_FILE, _CARD_FILE, PREFERENCE}


def _pairs(
    votes: Sequence[Vote], duels: Mapping[str, Duel], ties: Literal["drop", "keep"]
) -> Iterator[PreferencePair]:
    """Yield a pair for each duel that was voted on, the preferred video as `chosen`."""
    for duel_id in dict.fromkeys(vote.duel_id for vote in votes):
        duel = duels[duel_id]
        mine = labelled_votes([vote for vote in votes if vote.duel_id == duel_id], duels)
        mean_a = sum(pair.human_a for pair in mine) / len(mine)
        margin = 0.0 if are_tied(mean_a, 0.5) else abs(2 * mean_a - 1)
        if margin == 0 and ties == "drop":
            continue
        chosen, rejected = (duel.b, duel.a) if margin and mean_a < 0.5 else (duel.a, duel.b)
        ids = (duel.item_id, chosen.candidate_id, rejected.candidate_id)
        yield PreferencePair(duel.prompt, chosen.video, rejected.video, margin, DIMENSION, *ids)


def _cell(video: Path) -> dict[str, Any]:
    return {"bytes": video.read_bytes(), "path": video.name}


def _vote_rows(votes: Sequence[Vote], duels: Mapping[str, Duel]) -> Iterator[dict[str, Any]]:
    """Yield each vote with what was shown where and when."""
    for vote in votes:
        duel = duels[vote.duel_id]
        models = {candidate.candidate_id: candidate.model for candidate in (duel.a, duel.b)}
        yield {
            **{name: value for name, value in vars(vote).items() if not name.endswith("_at")},
            "prompt": duel.prompt,
            "left_model": models[vote.left_id],
            "right_model": models[vote.right_id],
            "shown_at": _time(vote.shown_at),
            "voted_at": _time(vote.voted_at),
        }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds")


def _card(num_pairs: int, votes: Sequence[Vote]) -> DatasetCard:
    data = DatasetCardData(
        task_categories=["text-to-video"],
        tags=["preference", "human-evaluation", "video", "videoprefer"],
        pretty_name="Votes of an arena",
        configs=[
            {
                "config_name": PREFERENCE,
                "default": True,
                "data_files": [{"split": "train", "path": f"{PREFERENCE}/train-*.parquet"}],
            }
        ],
    )
    raters = len({vote.rater for vote in votes})
    text = (
        f"# Votes of an arena\n\n{num_pairs} pairs of videos with a preference, from {len(votes)} blind votes of "
        f'{raters} raters. `load_dataset(folder, "preference")` reads them; `margin` is the mean vote for `chosen` '
        f"minus that for `rejected`, a tie counting one half each. `{VOTES_FILE}` holds every vote with its rater, "
        "the sides on which the videos stood, and times: leave it out where raters did not agree to be named.\n"
    )
    return DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{text}")
