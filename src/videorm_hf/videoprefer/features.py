"""The columns of VIDEOPREFER's two views, as `datasets` features and as rows; docs/dataset_formats.md describes them.

`ratings` has a row for each item, `preference` one for each pair, with TRL's columns `prompt, chosen, rejected,
margin`.
"""

from collections.abc import Callable, Sequence
from typing import Any

from datasets import Features, List, Value, Video

from videorm_hf.videoprefer.items import DIMENSIONS, Candidate, Item
from videorm_hf.videoprefer.pairs import PreferencePair

RATINGS, PREFERENCE = "ratings", "preference"
VIEWS = (RATINGS, PREFERENCE)

Cell = Callable[[Any], Any]


def ratings_features(dimensions: Sequence[str] = DIMENSIONS) -> Features:
    """Return the columns of the `ratings` view.

    Args:
        dimensions (`Sequence[str]`): What the videos are rated for.

    Returns:
        `datasets.Features`
    """
    judge = {
        "model": Value("string"),
        "rubric_version": Value("string"),
        "num_frames": Value("int64"),
        "temperature": Value("float64"),
    }
    candidate = {
        "candidate_id": Value("string"),
        "video": Video(),
        "model": Value("string"),
        "is_real": Value("bool"),
        "guidance_scale": Value("float64"),
        "seed": Value("int64"),
        "ratings": {name: Value("float64") for name in dimensions},
        "rationales": {name: Value("string") for name in dimensions},
        "judge": judge,
    }
    return Features(
        {
            "item_id": Value("string"),
            "prompt": Value("string"),
            "prompt_source": Value("string"),
            "candidates": List(candidate),
        }
    )


def preference_features() -> Features:
    """Return the columns of the `preference` view.

    Returns:
        `datasets.Features`
    """
    return Features(
        {
            "prompt": Value("string"),
            "chosen": Video(),
            "rejected": Video(),
            "margin": Value("float64"),
            "dimension": Value("string"),
            "item_id": Value("string"),
            "chosen_id": Value("string"),
            "rejected_id": Value("string"),
        }
    )


def ratings_row(item: Item, video: Cell, dimensions: Sequence[str] = DIMENSIONS) -> dict[str, Any]:
    """Turn an item into a row of the `ratings` view.

    Args:
        item ([`Item`]): The item.
        video (`Callable`): Turns a candidate's video into what the cell is to hold.
        dimensions (`Sequence[str]`): As in [`ratings_features`]; what else is rated is left out.

    Returns:
        `dict`: the row.
    """
    return {
        "item_id": item.item_id,
        "prompt": item.prompt,
        "prompt_source": item.prompt_source,
        "candidates": [_candidate_row(candidate, video, dimensions) for candidate in item.candidates],
    }


def _candidate_row(candidate: Candidate, video: Cell, dimensions: Sequence[str]) -> dict[str, Any]:
    judge = candidate.judge
    return {
        "candidate_id": candidate.candidate_id,
        "video": video(candidate.video),
        "model": candidate.model,
        "is_real": candidate.is_real,
        "guidance_scale": candidate.guidance_scale,
        "seed": candidate.seed,
        "ratings": {name: candidate.ratings.get(name) for name in dimensions},
        "rationales": {name: candidate.rationales.get(name) for name in dimensions},
        "judge": None if judge is None else vars(judge).copy(),
    }


def preference_row(pair: PreferencePair, video: Cell) -> dict[str, Any]:
    """Turn a pair into a row of the `preference` view.

    Args:
        pair ([`PreferencePair`]): The pair.
        video (`Callable`): Turns a video into what the cell is to hold.

    Returns:
        `dict`: the row.
    """
    return vars(pair) | {"chosen": video(pair.chosen), "rejected": video(pair.rejected)}
