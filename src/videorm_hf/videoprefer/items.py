"""Item, Candidate, Judge: one prompt with its rated videos, the unit that all of VIDEOPREFER is made of.

Wu et al. 2024 (NeurIPS), Sec. 3.1: a prompt has four candidate videos, each rated from 1 to 5 for two dimensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The paper's dimensions. Human-labelled sets may have others: an item's own are those it is rated in.
DIMENSIONS = ("prompt_following", "video_quality")
MIN_RATING, MAX_RATING = 1.0, 5.0
# Means of the same votes can differ in their last bit: ratings closer than this are a tie, everywhere.
TIE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Judge:
    """Who rated, and how.

    Args:
        model (`str`): Name of the multimodal model, or `"human"`.
        rubric_version (`str`, *optional*): Version of the rubric that was asked with.
        num_frames (`int`, *optional*): Frames of the video that the judge saw.
        temperature (`float`, *optional*): Sampling temperature of the judge.
    """

    model: str
    rubric_version: str | None = None
    num_frames: int | None = None
    temperature: float | None = None


HUMAN = Judge(model="human")


@dataclass(frozen=True)
class Candidate:
    """One video of an item with its ratings.

    Args:
        candidate_id (`str`): Unique in its item.
        video (`Any`):
            The video: a path, relative to the working folder where it comes from one, or anything else that
            [`VideoRMVideoProcessor`] takes.
        model (`str`): What generated it; where it is real, what it was taken from.
        is_real (`bool`): Whether it is a real clip rather than a generated one.
        guidance_scale (`float`, *optional*): Classifier-free-guidance scale of the generation.
        seed (`int`, *optional*): Noise seed of the generation.
        ratings (`Mapping[str, float]`): Dimension to rating, 1 to 5; people's ratings may be means. Unrated: absent.
        rationales (`Mapping[str, str]`): Dimension to the judge's reasons.
        judge ([`Judge`], *optional*): Who rated it.
    """

    candidate_id: str
    video: Any
    model: str
    is_real: bool = False
    guidance_scale: float | None = None
    seed: int | None = None
    ratings: Mapping[str, float] = field(default_factory=dict)
    rationales: Mapping[str, str] = field(default_factory=dict)
    judge: Judge | None = None


@dataclass(frozen=True)
class Item:
    """One prompt and its candidate videos.

    Args:
        item_id (`str`): Unique in its data set.
        prompt (`str`): What the videos were to show.
        prompt_source (`str`): Where the prompt comes from, such as `"vidprom"`.
        candidates (`tuple[Candidate, ...]`): The videos.
    """

    item_id: str
    prompt: str
    prompt_source: str
    candidates: tuple[Candidate, ...]
