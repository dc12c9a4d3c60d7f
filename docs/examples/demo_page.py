"""What the demo shows: frame strips, videos, a curve, and the page that holds them. Nothing here computes a result."""

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image


@dataclass(frozen=True)
class ClipRow:
    """A scored clip: file name, prompt, reward, and the strip of frames that the model saw."""

    name: str
    prompt: str
    reward: float
    strip: str


@dataclass(frozen=True)
class Side:
    """One video of a pair, and its reward."""

    video: str
    reward: float


@dataclass(frozen=True)
class PairRow:
    """A prompt's video before and after tuning, from the same noise."""

    prompt: str
    held_out: bool
    before: Side
    after: Side


def write_strip(frames_TCHW: torch.Tensor, path: Path, side: int = 128) -> None:
    """Write frames (uint8, `(T, 3, H, W)`) as one picture, from left to right in time."""
    images = [Image.fromarray(frame).resize((side, side)) for frame in frames_TCHW.permute(0, 2, 3, 1).numpy()]
    strip = Image.new("RGB", (side * len(images) + 4 * (len(images) - 1), side), "white")
    for index, image in enumerate(images):
        strip.paste(image, (index * (side + 4), 0))
    strip.save(path, quality=88)


def write_curve(rewards: list[float], path: Path, smoothing: int = 8) -> None:
    """Draw the training reward of each optimiser step and its running mean."""
    steps = np.arange(1, len(rewards) + 1)
    window = min(smoothing, len(rewards))
    mean = np.convolve(rewards, np.ones(window) / window, mode="valid")
    figure = Figure(figsize=(10, 3.6), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(steps, rewards, color="#2f6fde", alpha=0.35, linewidth=1.2, label="each step")
    axes.plot(steps[window - 1 :], mean, color="#2f6fde", linewidth=2.2, label=f"mean of the last {window}")
    axes.set(xlabel="optimiser step", ylabel="reward")
    axes.margins(x=0.01)
    axes.grid(axis="y", color="#e1e5ea")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)


def write_page(path: Path, clips: list[ClipRow], pairs: list[PairRow], facts: dict[str, object]) -> None:
    """Fill the page's template; every picture and video is named relative to the page, so the folder can be moved."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "diffusers")
    )
    page = environment.get_template("demo_page.html.jinja2").render(
        clips=clips, pairs=pairs, facts={**facts, "versions": versions}
    )
    path.write_text(page, encoding="utf-8")
