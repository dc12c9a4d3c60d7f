"""A working folder of VIDEOPREFER, read item by item: `items.jsonl`, the videos it names, and rating files.

Memory holds where each line lies, never what it says. What is wrong goes to a report; an item with any fault is set
aside as a whole. The formats are described in docs/dataset_formats.md.

Videos are plain text here: pathlib interns the parts of every path, for which Python's table of names grows for good.
"""

import os
import reprlib
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from videorm_hf.videoprefer.bad_data import BadDataError, Problem, ProblemKind, Report
from videorm_hf.videoprefer.items import MAX_RATING, MIN_RATING, Candidate, Item, Judge
from videorm_hf.videoprefer.json_lines import JsonLine, LineIndex, read_lines

ITEMS_FILE = "items.jsonl"
PROMPTS_FILE = "prompts.jsonl"  # what `videoprefer collect` wrote; its prompts must agree where it is there
RATINGS_FILE = "ratings.jsonl"
NUM_CANDIDATES = 4

CheckVideo = Callable[[str], str | None]


def read_items(
    folder: str | os.PathLike[str],
    ratings: Sequence[str | os.PathLike[str]] | None = None,
    *,
    num_candidates: int | None = NUM_CANDIDATES,
    check_video: CheckVideo | None = None,
    report: Report | None = None,
    strict: bool = False,
) -> Iterator[Item]:
    """Read the usable items of a working folder, one at a time, in the order of `items.jsonl`.

    Args:
        folder (`str` or `os.PathLike`): The working folder.
        ratings (sequence of paths, *optional*):
            Rating files, relative to the folder; of several records for a candidate and dimension the last one of the
            last file counts. `ratings.jsonl` by default, if it exists; `()` for none.
        num_candidates (`int`, *optional*, defaults to 4):
            Candidates that an item must have; `None` for any two or more.
        check_video (`Callable[[str], str | None]`, *optional*):
            Says why a video is unreadable; by default it only has to exist.
        report ([`Report`], *optional*): Filled while the items are read.
        strict (`bool`, defaults to `False`): Raise [`BadDataError`] at the first problem instead of setting aside.

    Yields:
        [`Item`]: the videos are paths relative to the folder.
    """
    opened = WorkingFolder(folder, ratings, num_candidates=num_candidates, check_video=check_video)
    yield from opened.items(report, strict=strict)


class WorkingFolder:
    """A working folder with its index, for several passes over its items.

    Args:
        folder (`str` or `os.PathLike`): As for [`read_items`], like all that follow.
        ratings (sequence of paths, *optional*): Rating files.
        num_candidates (`int`, *optional*, defaults to 4): Candidates of an item.
        check_video (`Callable[[str], str | None]`, *optional*): Says why a video is unreadable.

    Raises:
        FileNotFoundError: If `items.jsonl` or a rating file that was named does not exist.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        ratings: Sequence[str | os.PathLike[str]] | None = None,
        *,
        num_candidates: int | None = NUM_CANDIDATES,
        check_video: CheckVideo | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._root = os.path.realpath(self.folder)
        self.num_candidates = num_candidates
        self.check_video = check_video
        if not (self.folder / ITEMS_FILE).is_file():
            raise FileNotFoundError(
                f"{self.folder} is not a working folder: it has no {ITEMS_FILE}. "
                "Make one with `videoprefer collect` and `generate`, or write it as docs/dataset_formats.md says."
            )
        default = [RATINGS_FILE] if (self.folder / RATINGS_FILE).is_file() else []
        self.rating_files = [self.folder / name for name in (default if ratings is None else ratings)]
        for path in self.rating_files:
            if not path.is_file():
                raise FileNotFoundError(f"there is no rating file {path}")
        self.num_videos = 0  # that are named, usable or not
        self._index = LineIndex(self.folder / ITEMS_FILE, self._count_videos())
        self._problems: list[Problem] = []  # of lines that belong to no item
        collected = self.folder / PROMPTS_FILE
        self._collected = LineIndex(collected, self._collected_prompts(collected) if collected.is_file() else ())
        self._ratings = [LineIndex(path, self._rating_lines(path)) for path in self.rating_files]

    def items(
        self, report: Report | None = None, *, strict: bool = False, only: Container[str] | None = None
    ) -> Iterator[Item]:
        """Read the items.

        Args:
            report ([`Report`], *optional*): Filled while the items are read.
            strict (`bool`, defaults to `False`): Stop at the first problem.
            only (`Container[str]`, *optional*): Ids of the items to read; other lines are passed over.

        Yields:
            [`Item`]: every usable one.

        Raises:
            BadDataError: If `strict` is set and something is wrong.
        """
        report = Report() if report is None else report
        report.problems += self._problems
        for file in self._ratings:
            report.problems += self._ratings_of_no_item(file)
        for line in read_lines(self.folder / ITEMS_FILE):
            if strict and report.problems:
                raise BadDataError(report)
            if only is not None and line.item_id not in only:
                continue
            report.items_in += 1
            problems: list[Problem] = []
            item = self._item(line, problems)
            if problems or item is None:
                report.set_aside(problems)
                continue
            report.items_out += 1
            yield item
        if strict and report.problems:
            raise BadDataError(report)

    def check(self) -> Report:
        """Read everything once.

        Returns:
            [`Report`]: what was found.
        """
        report = Report()
        for _ in self.items(report):
            pass
        return report

    def video_paths(self) -> Iterator[str]:
        """Read the paths of all videos that are named and lie in the folder, usable or not.

        Yields:
            `str`: the folder joined with the path that `items.jsonl` gives.
        """
        for line in read_lines(self.folder / ITEMS_FILE):
            for video in _named_videos(line):
                if self._path_fault(video) is None:
                    yield os.path.join(self.folder, video)

    def first_rated_in(self, dimension: str) -> str:
        """Return the place of the first rating in a dimension, such as `"ratings.jsonl:3"`."""
        lines = (line for path in self.rating_files for line in read_lines(path))
        return next((line.place for line in lines if (line.record or {}).get("dimension") == dimension), dimension)

    def prompts(self) -> dict[str, str]:
        """Read the prompts of all items that have one, used or not: splits must not depend on faults.

        Returns:
            `dict[str, str]`: item to prompt, the first one where there are several.
        """
        found: dict[str, str] = {}
        for line in read_lines(self.folder / ITEMS_FILE):
            prompt = (line.record or {}).get("prompt")
            if line.item_id is not None and isinstance(prompt, str):
                found.setdefault(line.item_id, prompt)
        return found

    def _count_videos(self) -> Iterator[JsonLine]:
        for line in read_lines(self.folder / ITEMS_FILE):
            self.num_videos += len(_named_videos(line))
            yield line

    def _collected_prompts(self, path: Path) -> Iterator[JsonLine]:
        for line in read_lines(path):
            if line.problem is not None:
                self._problems.append(replace(line.problem, item_id=None))  # the item itself may be right
            elif isinstance((line.record or {}).get("prompt"), str):
                yield line

    def _rating_lines(self, path: Path) -> Iterator[JsonLine]:
        for line in read_lines(path):
            if line.item_id is None:
                no_item = Problem("wrong_field", line.place, "item_id must be text")
                self._problems.append(line.problem or no_item)
            yield line

    def _ratings_of_no_item(self, file: LineIndex) -> Iterator[Problem]:
        for line, count in file.not_in(self._index):
            message = f"{count} ratings for {line.item_id!r}, which {ITEMS_FILE} does not have"
            yield Problem("unknown_item", line.place, message)

    def _item(self, line: JsonLine, problems: list[Problem]) -> Item | None:
        """Build an item; with problems, what is returned must not be used."""
        if line.problem is not None or line.record is None:
            problems += [line.problem] if line.problem else []
            return None
        fields = _Fields(line.record, line.place, problems, line.item_id)
        item_id, prompt = fields.text("item_id"), fields.text("prompt")
        source, entries = fields.text("prompt_source"), fields.of_type("candidates", list)
        if problems:
            return None
        if (count := self._index.count(item_id)) > 1:
            fields.report("duplicate_item_id", f"{count} lines are for {item_id!r}")
        for other in self._collected.lines(item_id)[-1:]:
            other_prompt = (other.record or {}).get("prompt")
            if other_prompt != prompt:
                fields.report("prompt_mismatch", f"the prompt is {prompt!r}, in {other.place} {other_prompt!r}")
        candidates = [self._candidate(fields, entry) for entry in entries]
        self._check_candidates(fields, candidates)
        if problems:
            return None
        rated = self._rated(item_id, prompt, [candidate for candidate in candidates if candidate], problems)
        return Item(item_id=item_id, prompt=prompt, prompt_source=source, candidates=rated)

    def _candidate(self, item: "_Fields", entry: Any) -> Candidate | None:
        if not isinstance(entry, dict):
            item.report("wrong_field", f"a candidate must be an object, got {_short(entry)}")
            return None
        fields = _Fields(entry, item.place, item.problems, item.item_id)
        before = len(item.problems)
        candidate = Candidate(
            candidate_id=fields.text("candidate_id"),
            video=fields.text("video"),
            model=fields.text("model"),
            is_real=fields.of_type("is_real", bool, default=False),
            guidance_scale=fields.number("guidance_scale"),
            seed=fields.of_type("seed", int, default=None),
        )
        if len(item.problems) > before:
            return None
        self._check_file(fields, candidate.video)
        return candidate

    def _check_file(self, fields: "_Fields", video: str) -> None:
        fault = self._path_fault(video)
        path = os.path.join(self.folder, video)
        if fault is not None:
            fields.report("path_outside_folder", f"{video!r} {fault}; paths start at the folder and stay in it")
        elif not os.path.isfile(path):
            fields.report("missing_video", f"there is no file {video!r}")
        elif self.check_video is not None and (reason := self.check_video(path)) is not None:
            fields.report("unreadable_video", f"{video!r}: {reason}")

    def _path_fault(self, video: str) -> str | None:
        parts = [part for part in video.split("/") if part not in ("", ".")]
        if "\0" in video or "\\" in video:
            return "holds a character that no path here may have"
        if video.startswith("/") or ".." in parts or not parts or "://" in video:
            return "is not a plain relative path"
        real = os.path.realpath(os.path.join(self._root, video))
        return None if real.startswith(self._root + os.sep) else "leads out of the folder through a link"

    def _check_candidates(self, fields: "_Fields", candidates: list[Candidate | None]) -> None:
        wanted, got = self.num_candidates, len(candidates)
        if got != wanted if wanted is not None else got < 2:
            expected = "two or more" if wanted is None else f"{wanted} (--candidates 0: any two or more)"
            fields.report("wrong_number_of_candidates", f"the item has {got} candidates, expected {expected}")
        ids = Counter(candidate.candidate_id for candidate in candidates if candidate)
        for candidate_id, count in ids.items():
            if count > 1:
                fields.report("duplicate_candidate_id", f"{count} candidates are called {candidate_id!r}")

    def _rated(
        self, item_id: str, prompt: str, candidates: list[Candidate], problems: list[Problem]
    ) -> tuple[Candidate, ...]:
        """Give the candidates what the rating files say about them."""
        last: dict[tuple[str, str], tuple[_Fields, Problem | None]] = {}
        for line in (line for file in self._ratings for line in file.lines(item_id)):
            fields = _Fields(line.record or {}, line.place, problems, item_id)
            last[fields.text("candidate_id"), fields.text("dimension")] = fields, line.problem
        found = {candidate.candidate_id: _Rated(candidate) for candidate in candidates}
        for (candidate_id, dimension), (fields, problem) in last.items():
            if problem is not None:
                problems.append(problem)
            elif candidate_id in found:
                _check_prompt(fields, prompt)
                found[candidate_id].add(dimension, fields)
            else:
                fields.report("unknown_candidate", f"the item has no candidate {candidate_id!r}")
        rated = tuple(rated.candidate for rated in found.values())
        judges = {_without_version(candidate.judge): None for candidate in rated if candidate.ratings}
        if len(judges) > 1 and not problems:
            named = " and ".join(map(str, judges))
            message = f"candidates are rated by {named}, who are not compared; name the file of one judge as ratings"
            problems.append(Problem("mixed_judges", fields.place, message, item_id))
        return rated


@dataclass
class _Fields:
    """Reads typed fields of a record; what is wrong goes to `problems` and a harmless value comes back."""

    record: dict[str, Any]
    place: str
    problems: list[Problem]
    item_id: str | None = None

    def report(self, kind: ProblemKind, message: str) -> None:
        self.problems.append(Problem(kind, self.place, message, self.item_id))

    def text(self, name: str) -> str:
        value = self.record.get(name)
        if isinstance(value, str) and value.strip():
            return value
        self.report("wrong_field", f"{name} must be text that is not blank, got {_short(value)}")
        return ""

    def of_type(self, name: str, kind: type, **default: Any) -> Any:
        value = self.record.get(name, default.get("default"))
        is_right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if isinstance(value, int):
            is_right = is_right and -(2**63) <= value < 2**63
        if is_right or ("default" in default and value is default["default"]):
            return value
        self.report("wrong_field", f"{name} must be of type {kind.__name__}, got {_short(value)}")
        return default["default"] if "default" in default else kind()

    def number(self, name: str) -> float | None:
        value = self.record.get(name)
        if value is None:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:  # finite, not NaN
            return float(value)
        self.report("wrong_field", f"{name} must be a finite number, got {_short(value)}")
        return None


@dataclass
class _Rated:
    """A candidate that receives its ratings one by one."""

    candidate: Candidate
    versions: dict[str, str | None] = field(default_factory=dict)

    def add(self, dimension: str, fields: _Fields) -> None:
        record, rating = fields.record, fields.record.get("rating")
        if record.get("failure") is not None or rating is None:
            return
        is_number = isinstance(rating, (int, float)) and not isinstance(rating, bool)
        if not (is_number and MIN_RATING <= rating <= MAX_RATING):
            fields.report("rating_out_of_range", f"rating must be a number from 1 to 5, got {_short(rating)}")
            return
        rationale = fields.of_type("rationale", str, default=None)
        judge = self._judge(dimension, fields)
        ratings = {**self.candidate.ratings, dimension: float(rating)}
        rationales = {**self.candidate.rationales} | ({} if rationale is None else {dimension: rationale})
        self.candidate = replace(self.candidate, ratings=ratings, rationales=rationales, judge=judge)

    def _judge(self, dimension: str, fields: _Fields) -> Judge | None:
        """Return the judge of all ratings so far; where dimensions have their own rubrics, both are named."""
        num_problems = len(fields.problems)
        record = fields.of_type("judge", dict, default=None)
        judge = None
        if record is not None:
            entries = _Fields(record, fields.place, fields.problems, fields.item_id)
            self.versions[dimension] = entries.of_type("rubric_version", str, default=None)
            judge = Judge(
                model=entries.text("model"),
                rubric_version=_joined(self.versions),
                num_frames=entries.of_type("num_frames", int, default=None),
                temperature=entries.number("temperature"),
            )
        before = self.candidate.judge
        is_known = len(fields.problems) == num_problems
        if is_known and self.candidate.ratings and _without_version(before) != _without_version(judge):
            fields.report("mixed_judges", f"rated by {before} and {judge}; name the file of one judge as ratings")
        return judge


def _named_videos(line: JsonLine) -> list[str]:
    """Return the videos that a line of items names, as far as it can be read."""
    candidates = (line.record or {}).get("candidates")
    entries = candidates if isinstance(candidates, list) else []
    videos = [entry.get("video") for entry in entries if isinstance(entry, dict)]
    return [video for video in videos if isinstance(video, str)]


def _short(value: Any) -> str:
    return reprlib.repr(value)


def _joined(versions: dict[str, str | None]) -> str | None:
    different = set(versions.values())
    if len(different) == 1:
        return different.pop()
    return ", ".join(f"{dimension}: {version}" for dimension, version in sorted(versions.items()))


def _without_version(judge: Judge | None) -> Judge | None:
    return None if judge is None else replace(judge, rubric_version=None)


def _check_prompt(fields: _Fields, prompt: str) -> None:
    other = fields.record.get("prompt", prompt)
    if other != prompt:
        fields.report("prompt_mismatch", f"the item's prompt is {prompt!r}, here {other!r}")
