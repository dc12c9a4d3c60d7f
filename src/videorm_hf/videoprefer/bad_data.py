"""What is wrong with a data set's files: problems with their places, counted on one report."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

ProblemKind = Literal[
    "half_written_line",  # a line that is not JSON, as an interrupted writer leaves it
    "invalid_unicode",  # bytes that are not UTF-8, or an escaped half of a surrogate pair
    "wrong_field",  # a field that is absent or of another type
    "duplicate_item_id",  # several lines for one item: which one is right is not known, so none is used
    "duplicate_candidate_id",
    "wrong_number_of_candidates",
    "path_outside_folder",  # absolute, with "..", or through a link that leads out
    "missing_video",
    "unreadable_video",
    "rating_out_of_range",  # not a number from 1 to 5
    "prompt_mismatch",  # an item's prompt differs between files
    "mixed_judges",  # a video's ratings come from different judges
    "unknown_candidate",  # a rating for a video that its item does not have
    "unknown_item",  # a rating for an item that does not exist
]


@dataclass(frozen=True)
class Problem:
    """One fault and where it is.

    Args:
        kind (`str`): One of `ProblemKind`.
        place (`str`): File and line, such as `"items.jsonl:12"`.
        message (`str`): What was found and what was expected, for a person.
        item_id (`str`, *optional*): The item that is set aside for it.
    """

    kind: ProblemKind
    place: str
    message: str
    item_id: str | None = None


@dataclass
class Report:
    """What became of a working folder's items: `items_in == items_out + items_set_aside` once all are read.

    Args:
        items_in (`int`): Lines that hold an item or what is left of one.
        items_out (`int`): Items that are used.
        items_set_aside (`int`): Items that are not, each for at least one of `problems`.
        problems (`list[Problem]`): Everything found; some, such as a torn rating, belong to no item.
    """

    items_in: int = 0
    items_out: int = 0
    items_set_aside: int = 0
    problems: list[Problem] = field(default_factory=list)

    def set_aside(self, problems: list[Problem]) -> None:
        """Count one item as not used and keep the reasons.

        Args:
            problems (`list[Problem]`): At least one.
        """
        self.items_set_aside += 1
        self.problems += problems

    def counts(self) -> dict[str, int]:
        """Return how often each kind of problem was found, the most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def to_dict(self) -> dict[str, Any]:
        """Return counts and all problems as plain values for JSON."""
        return {
            "items_in": self.items_in,
            "items_out": self.items_out,
            "items_set_aside": self.items_set_aside,
            "counts": self.counts(),
            "problems": [asdict(problem) for problem in self.problems],
        }

    def write(self, path: Path) -> None:
        """Write the report as JSON.

        Args:
            path (`Path`): The file.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    def describe(self, max_places: int = 3) -> str:
        """Say in a few lines what was found.

        Args:
            max_places (`int`, defaults to 3): Examples of each kind.

        Returns:
            `str`: a line with the counts, then for each kind its count and first places.
        """
        lines = [f"{self.items_in} items read: {self.items_out} used, {self.items_set_aside} set aside"]
        for kind, count in self.counts().items():
            examples = [problem for problem in self.problems if problem.kind == kind][:max_places]
            lines.append(f"{count} {kind}")
            lines += [f"  {problem.place}: {problem.message}" for problem in examples]
            lines += [f"  and {count - len(examples)} more"] if count > len(examples) else []
        return "\n".join(lines)


class BadDataError(ValueError):
    """Raised where bad data are to stop the work.

    Args:
        report ([`Report`]): What was found.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report.describe())
        self.report = report
