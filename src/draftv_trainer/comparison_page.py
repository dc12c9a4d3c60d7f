"""The page of a comparison: tables and paired videos in one file that needs nothing beside it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from draftv_trainer.comparison import Outcome, RewardComparison
from videorm_hf.reporting.tables import counted


@dataclass(frozen=True)
class Side:
    """One video of a pair.

    Args:
        video (`Path`):
            The MP4 file.
        rewards (`list[float]`):
            One per reward.
    """

    video: Path
    rewards: list[float]

    @property
    def source(self) -> str:
        """The file's bytes as an address that a page can hold."""
        return f"data:video/mp4;base64,{base64.b64encode(self.video.read_bytes()).decode('ascii')}"


@dataclass(frozen=True)
class Pair:
    """Both videos of a prompt from the same noise.

    Args:
        prompt (`str`):
            The text.
        a (`Side`):
            A's video.
        b (`Side`):
            B's video.
        outcomes (`list[str]`):
            How B did, by each reward.
    """

    prompt: str
    a: Side
    b: Side
    outcomes: list[Outcome]


def write_page(
    path: Path,
    names: tuple[str, str],
    comparisons: Sequence[RewardComparison],
    pairs: Sequence[Pair],
    facts: dict[str, str],
) -> Path:
    """Write the page.

    Args:
        path (`Path`):
            The file.
        names (`tuple[str, str]`):
            What A and B are called.
        comparisons (`list[RewardComparison]`):
            One per reward.
        pairs (`list[Pair]`):
            The pairs whose videos the page holds.
        facts (`dict[str, str]`):
            How the videos were made.

    Returns:
        `Path`: the written file.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    template = environment.get_template("comparison_page.html.jinja2")
    page = template.render(a=names[0], b=names[1], comparisons=comparisons, pairs=pairs, facts=facts, counted=counted)
    path.write_text(page, encoding="utf-8")
    return path
