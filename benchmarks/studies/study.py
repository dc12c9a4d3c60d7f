"""What a study is: a name, settings, a run that keeps each of its cells, a figure, and what the page says of it."""

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Weights:
    """The models that the studies are about.

    Args:
        videorm (`Path`): Folder of a VIDEORM of the small world.
        pipeline (`Path`): Folder of a text-to-video pipeline of the small world.
    """

    videorm: Path
    pipeline: Path

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all weights: other weights, other results."""
        files = [path for folder in (self.videorm, self.pipeline) for path in sorted(folder.rglob("*.safetensors"))]
        digest = hashlib.sha256()
        for path in files:
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Work:
    """Where a study keeps what it has computed, so that it goes on where it was interrupted.

    Args:
        folder (`Path`): For everything that is not a result.
        weights ([`Weights`]): The models.
    """

    folder: Path
    weights: Weights

    def cell(
        self, name: str, settings: Mapping[str, Any], compute: Callable[[], Any], uses_weights: bool = True
    ) -> Any:
        """Return one part of a study, computed once for the same settings and weights.

        Args:
            name (`str`): What it is, for its file's name.
            settings (`Mapping`): All that it depends on beside the weights.
            compute (`Callable`): Returns values that JSON can hold.
            uses_weights (`bool`, defaults to `True`): Compute it anew for other weights.

        Returns:
            `Any`: what was computed, as JSON holds it.
        """
        path = self.place(name, settings, uses_weights).with_suffix(".json")
        if not path.exists():
            write_json(path, compute())
        return json.loads(path.read_text(encoding="utf-8"))

    def place(self, name: str, settings: Mapping[str, Any], uses_weights: bool = True) -> Path:
        """Return a path of its own for each name, settings and, where they are used, weights."""
        weights = self.weights.fingerprint if uses_weights else None
        text = json.dumps([dict(settings), weights], sort_keys=True, default=str)
        return self.folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Study:
    """One study.

    Args:
        name (`str`): Of its files.
        title (`str`): Over its section.
        question (`str`): What it asks, and how.
        run (`Callable`): `(settings, work) -> results`, values that JSON can hold.
        full (`Any`): A frozen dataclass of settings: at most an hour on two cores.
        smoke (`Any`): The same at a size that takes seconds.
        draw (`Callable`): `(results, path)` writes the figure.
        report (`Callable`): `results -> str`, the tables of the page.
    """

    name: str
    title: str
    question: str
    run: Callable[[Any, Work], Json]
    full: Any
    smoke: Any
    draw: Callable[[Json, Path], None]
    report: Callable[[Json], str]


def settings_of(settings: Any) -> Json:
    """Return a dataclass of settings as JSON holds it."""
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def write_json(path: Path, values: Any) -> None:
    """Write values to a file that appears when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def percent(value: float | None) -> str:
    """Write a share as a percentage."""
    return "" if value is None else f"{100 * value:.1f} %"


def percent_within(value: float | None, interval: Sequence[float] | None) -> str:
    """Write a share with its interval, such as `"93.1 % (90.2 to 95.8)"`."""
    if value is None or interval is None:
        return percent(value)
    return f"{percent(value)} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def number_within(value: float, interval: Sequence[float] | None) -> str:
    """Write a number with its interval, such as `"+0.31 (+0.22 to +0.40)"`."""
    return f"{value:+.2f}" if interval is None else f"{value:+.2f} ({interval[0]:+.2f} to {interval[1]:+.2f})"
