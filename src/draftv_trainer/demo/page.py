"""What the demo shows: strips of frames, curves, and the page that holds them. Nothing here computes a result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from draftv_trainer.comparison import RewardComparison
from videorm_hf.reporting.plots import line_chart


@dataclass(frozen=True)
class ScoredClip:
    """A scored clip.

    Args:
        name (`str`): What it shows.
        prompt (`str`): What it was scored for.
        reward (`float`): VIDEORM's, in [-1, 1].
        rating (`float`): The judge's mean, from 1 to 5.
        strip (`str`): Picture of its frames, relative to the page.
    """

    name: str
    prompt: str
    reward: float
    rating: float
    strip: str


@dataclass(frozen=True)
class ShownPair:
    """A prompt's video before and after tuning, from the same noise.

    Args:
        prompt (`str`): The prompt.
        before (`tuple[str, dict[str, float]]`): Video, relative to the page, and its values by measure.
        after (`tuple[str, dict[str, float]]`): The same after tuning.
    """

    prompt: str
    before: tuple[str, dict[str, float]]
    after: tuple[str, dict[str, float]]


def write_strip(frames_THWC: np.ndarray, path: Path, side: int = 96, gap: int = 4) -> Path:
    """Write frames (bytes) as one picture, from left to right in time."""
    strip = Image.new("RGB", ((side + gap) * len(frames_THWC) - gap, side), "white")
    for place, frame in enumerate(frames_THWC):
        strip.paste(Image.fromarray(frame).resize((side, side), Image.Resampling.NEAREST), (place * (side + gap), 0))
    strip.save(path)
    return path


def draw_curves(history: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Draw the trained reward and the judge's mean over training, on the prompts that the guard watches."""
    for key, name, ylabel in (
        ("monitor/trained_reward", "reward", "VIDEORM's reward, trained on"),
        ("monitor/rate_frames", "truth", "judge's mean rating, never trained on"),
    ):
        rows = [(row["step"], row[key]) for row in history if key in row]
        steps, values = zip(*rows, strict=True)
        line_chart(
            output / f"{name}.png", {ylabel: (steps, values)}, xlabel="update of the LoRA", ylabel=ylabel, title=""
        )


def write_page(
    path: Path,
    scored: Sequence[ScoredClip],
    pairs: Sequence[ShownPair],
    compared: Mapping[str, RewardComparison],
    facts: Mapping[str, Any],
) -> Path:
    """Fill the page's template; pictures and videos are named relative to it, so that the folder can be moved.

    Args:
        path (`Path`): Of the page.
        scored (`Sequence[ScoredClip]`): Highest reward first.
        pairs (`Sequence[ShownPair]`): Videos to show.
        compared (`Mapping[str, RewardComparison]`): Tuned against untuned, by measure.
        facts (`Mapping[str, Any]`): Of the run.

    Returns:
        `Path`: the page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "diffusers"))
    page = environment.get_template("page.html.jinja2").render(
        scored=scored, pairs=pairs, compared=list(compared.values()), facts=facts, versions=versions
    )
    path.write_text(page, encoding="utf-8")
    return path
