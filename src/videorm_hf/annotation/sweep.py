"""Frames and temperature against agreement with people (Wu et al. 2024, NeurIPS, Figure 8).

Every combination has a journal of its own, so that a sweep that was interrupted asks only what is missing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videorm_hf.annotation.agreement import Agreement, measure_agreement
from videorm_hf.annotation.annotator import VideoAnnotator
from videorm_hf.annotation.opinions import Opinions, Video, read_opinions
from videorm_hf.annotation.options import AnnotationOptions
from videorm_hf.annotation.run import AnnotationSummary
from videorm_hf.evaluation.metrics import ScoreTies
from videorm_hf.videoprefer.items import Item


@dataclass(frozen=True)
class SweepPoint:
    """One combination and what came of it.

    Args:
        num_frames (`int`): Frames that the judge saw.
        temperature (`float`): Of the judge's sampling.
        journal (`str`): File name of its records.
        summary ([`AnnotationSummary`]): What became of the calls.
        agreement ([`Agreement`], *optional*): With the reference; `None` where nothing can be compared.
        problem (`str`, *optional*): Why there is none.
    """

    num_frames: int
    temperature: float
    journal: str
    summary: AnnotationSummary
    agreement: Agreement | None
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the point as plain values for JSON."""
        return {
            "num_frames": self.num_frames,
            "temperature": self.temperature,
            "journal": self.journal,
            "is_complete": self.summary.num_left == 0,
            "agreement": self.agreement and self.agreement.to_dict(),
            "problem": self.problem,
        }


def run_sweep(
    options: AnnotationOptions,
    items: Sequence[Item],
    folder: Path,
    reference: Opinions,
    output: Path,
    *,
    num_frames: Sequence[int],
    temperatures: Sequence[float],
    models: Mapping[Video, str] | None = None,
    score_ties: ScoreTies = "half",
    num_resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> Iterator[SweepPoint]:
    """Annotate with every combination and measure each; ends early where a run is stopped.

    Args:
        options ([`AnnotationOptions`]): Everything but frames and temperature; `max_cost` bounds the whole sweep.
        items (`Sequence[Item]`): Prompts with videos that the reference has opinions on.
        folder (`Path`): Where relative video paths start.
        reference ([`Opinions`]): People's.
        output (`Path`): Folder of the journals.
        num_frames (`Sequence[int]`): Which numbers of frames.
        temperatures (`Sequence[float]`): Which temperatures.
        models (`Mapping`, *optional*): Video to what made it.
        score_ties (`"half"`, `"wrong"` or `"drop"`, defaults to `"half"`): What a tie of the judge counts.
        num_resamples (`int`, defaults to 1000): Of the intervals.
        seed (`int`, defaults to 0): Of the intervals.
        progress (`bool`, defaults to `True`): Show a progress bar for each combination.

    Yields:
        [`SweepPoint`]: each combination, once it is asked.
    """
    (dimension,) = options.dimensions
    item_ids = {item.item_id for item in items}
    spent = 0.0
    for temperature in temperatures:
        for frames in num_frames:
            left = None if options.max_cost is None else max(0.0, options.max_cost - spent)
            settings = replace(options, num_frames=frames, temperature=temperature, max_cost=left)
            journal = output / f"frames{frames}_temperature{temperature:g}.jsonl"
            summary = VideoAnnotator(settings).run(items, folder, journal, progress=progress)
            spent += summary.cost
            agreement, problem = None, None
            try:
                judge = read_opinions(journal, dimension, name=options.model).of_items(item_ids)
                agreement = measure_agreement(
                    judge, reference, models, score_ties=score_ties, num_resamples=num_resamples, seed=seed
                )
            except ValueError as error:
                problem = str(error)
            yield SweepPoint(frames, temperature, journal.name, summary, agreement, problem)
            if summary.stopped is not None:
                return
