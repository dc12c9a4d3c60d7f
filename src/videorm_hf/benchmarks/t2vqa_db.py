"""T2VQA-DB: 10,000 videos of 9 models for 1,000 prompts with mean opinion scores of 27 people (Kou et al. 2024).

Read as the authors' own loader does: a text file with a line `filename|prompt|mos` for each video, the file names
relative to a folder of videos.
"""

from collections import Counter
from pathlib import Path

from videorm_hf.benchmarks.benchmark import Benchmark, BenchmarkInfo, find_file, first_existing
from videorm_hf.videoprefer.items import HUMAN, MAX_RATING, MIN_RATING, Candidate, Item

INFO = BenchmarkInfo(
    name="t2vqa_db",
    title="T2VQA-DB",
    content="10,000 videos of 9 models for 1,000 prompts, one mean opinion score of 27 people a video",
    licence="none stated; ask the authors",
    source="github.com/QMME/T2VQA",
    files="a text file of lines filename|prompt|mos and the videos that it names",
    tie_policy="equal opinion scores are a tie and dropped",
    paper_test_size="2.3K pairs",
)
DIMENSION = "overall"
_MAX_MOS = 100.0  # the authors rescale z-scores to [0, 100]


def load(path: Path) -> Benchmark:
    """Read T2VQA-DB.

    A score of 0 to 100 becomes a rating of 1 to 5, linearly, which changes no order. The model is the folder in a file
    name; where there is none it is `"unknown"`: the label file does not name it.

    Args:
        path (`Path`): The label file, or a folder with one `.txt` file of labels.

    Returns:
        [`Benchmark`]: dimension `overall`.

    Raises:
        ValueError: If a line is not of that form, or a video is listed twice.
    """
    labels = find_file(path, (".txt",), INFO)
    candidates: dict[str, list[Candidate]] = {}
    for number, line in enumerate(labels.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            prompt, candidate = _read_line(line, labels.parent, f"{labels}, line {number}")
            candidates.setdefault(prompt, []).append(candidate)
    if not candidates:
        raise ValueError(f"{labels} holds no label. {INFO.where_to_get}")
    counts = Counter(candidate.candidate_id for group in candidates.values() for candidate in group)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise ValueError(f"{labels} lists {len(twice)} videos more than once, the first is {twice[0]}.")
    items = tuple(
        Item(item_id=str(number), prompt=prompt, prompt_source="t2vqa_db", candidates=tuple(group))
        for number, (prompt, group) in enumerate(candidates.items())
    )
    return Benchmark(INFO, items)


def _read_line(line: str, folder: Path, place: str) -> tuple[str, Candidate]:
    try:
        name, rest = line.strip().split("|", maxsplit=1)  # a prompt may hold the separator
        prompt, text = rest.rsplit("|", maxsplit=1)
        score = float(text)
    except ValueError as error:
        raise ValueError(f"{place} must read filename|prompt|mos, got {line!r}.") from error
    if not 0 <= score <= _MAX_MOS:
        raise ValueError(f"{place}: an opinion score must lie in 0 to {_MAX_MOS:g}, got {score}.")
    rating = MIN_RATING + (MAX_RATING - MIN_RATING) * score / _MAX_MOS
    parent = Path(name).parent.name
    video = first_existing([folder / name, folder / "videos" / name])
    return prompt, Candidate(name, video, parent or "unknown", ratings={DIMENSION: rating}, judge=HUMAN)
