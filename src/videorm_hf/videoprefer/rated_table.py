"""A table of videos that people rated, a row a video, as items."""

from pathlib import Path
from typing import Any

from videorm_hf.scoring.tables import Row, read_table
from videorm_hf.videoprefer.items import HUMAN, Candidate, Item

COLUMNS = ("prompt", "video", "model")
_MAX_FAULTS = 10  # in a message


def read_rated_table(path: Path) -> list[Item]:
    """Read videos and their ratings; rows of a prompt are one item.

    Args:
        path (`Path`):
            A `.csv`, `.jsonl` or `.parquet` file with the columns `prompt`, `video` (paths start from the file's
            folder) and `model`, and one for each dimension: ratings from 1 to 5, or empty cells.

    Returns:
        `list[Item]`: in the order of their prompts, with the paths of their videos. A file that is not there is a
        `FileNotFoundError`.

    Raises:
        ValueError: If a column is missing, or rows are at fault; it names them.
    """
    rows = read_table(path)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if missing := [name for name in COLUMNS if name not in columns]:
        raise ValueError(f"{path} lacks the columns {missing}: it has {columns}.")
    dimensions = [name for name in columns if name not in COLUMNS and any(row.get(name) is not None for row in rows)]
    first = 2 if path.suffix == ".csv" else 1  # row 1 of a CSV file holds the names
    faults: list[str] = []
    seen: dict[tuple[str, Path], int] = {}
    for number, row in enumerate(rows, start=first):
        faults += [f"row {number}: {fault}" for fault in _faults(row, path.parent, dimensions)]
        if row.get("prompt") and row.get("video"):
            video = path.parent / row["video"]
            before = seen.setdefault((row["prompt"], video.resolve()), number)
            if before != number:
                faults.append(
                    f"rows {before} and {number} rate {video} for one prompt: give one row, the mean of its ratings"
                )
    if faults:
        raise ValueError("\n".join([f"Mend {path}, and drop columns without ratings:", *faults[:_MAX_FAULTS]]))
    by_prompt: dict[str, list[Row]] = {}
    for row in rows:
        by_prompt.setdefault(row["prompt"], []).append(row)
    return [
        Item(str(number), prompt, "own", tuple(_candidate(row, path.parent, dimensions) for row in of_prompt))
        for number, (prompt, of_prompt) in enumerate(by_prompt.items())
    ]


def _faults(row: Row, folder: Path, dimensions: list[str]) -> list[str]:
    """Say what is wrong with one row by itself."""
    faults = [f"no {name}" for name in COLUMNS if not row.get(name)]
    if row.get("video") and not (folder / row["video"]).is_file():
        faults.append(f"there is no file {folder / row['video']}")
    return faults + [
        f"{name} must be a rating from 1 to 5 or empty, got {row[name]!r}"
        for name in dimensions
        if row.get(name) is not None and not _is_rating(row[name])
    ]


def _is_rating(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 5


def _candidate(row: Row, folder: Path, dimensions: list[str]) -> Candidate:
    ratings = {name: float(row[name]) for name in dimensions if row.get(name) is not None}
    video = str(folder / row["video"])
    return Candidate(row["video"], video, str(row["model"]), ratings=ratings, judge=HUMAN if ratings else None)
