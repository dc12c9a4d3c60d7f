"""The pool of text-to-video models that candidates are drawn from, and the draw.

Wu et al. 2024 (NeurIPS), Sec. 3.1: models drawn at random, each with a random guidance scale. Weights, ranges, sizes
and steps are not given there: they stand in a YAML file that docs/guides/collect_generate.md describes.
"""

import dataclasses
import math
import random
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from videorm_hf.models.dtypes import DTYPES


@dataclass(frozen=True)
class PoolModel:
    """One model of the pool and how it may be called.

    Args:
        name (`str`): What the data set calls it.
        pipeline (`str`): Folder or Hub id of a diffusers pipeline.
        guidance_scale (`tuple[float, float]`): Bounds of the uniform draw.
        sizes (`tuple[tuple[int, int], ...]`): Heights and widths, one of which is drawn.
        num_inference_steps (`tuple[int, ...]`): Numbers of steps, one of which is drawn.
        num_frames (`int`): Frames of the video.
        weight (`float`, defaults to 1.0): Chance of being drawn, relative to the others.
        fps (`int`, defaults to 8): Frames per second of the file.
        dtype (`str`, defaults to `"float32"`): Number type of the weights.
        guidance_argument (`str`): What the pipeline calls its guidance scale.
        frames_argument (`str`): What it calls its number of frames.
        call (`Mapping`): Further arguments of its call.
        load (`Mapping`): Further arguments of `from_pretrained`.
    """

    name: str
    pipeline: str
    guidance_scale: tuple[float, float]
    sizes: tuple[tuple[int, int], ...]
    num_inference_steps: tuple[int, ...]
    num_frames: int
    weight: float = 1.0
    fps: int = 8
    dtype: str = "float32"
    guidance_argument: str = "guidance_scale"
    frames_argument: str = "num_frames"
    call: Mapping[str, Any] = field(default_factory=dict)
    load: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        low, high = self.guidance_scale
        if not low <= high:
            raise ValueError(f"{self.name}: guidance_scale must be two bounds in order, got {self.guidance_scale}.")
        if self.dtype not in DTYPES:
            raise ValueError(f"{self.name}: dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}.")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"{self.name}: weight must be above 0, got {self.weight}.")
        if not self.sizes or any(side < 2 or side % 2 for size in self.sizes for side in size):
            raise ValueError(f"{self.name}: sizes must be even heights and widths (H.264), got {self.sizes}.")
        if not self.num_inference_steps or min(*self.num_inference_steps, self.num_frames, self.fps) < 1:
            raise ValueError(f"{self.name}: num_inference_steps, num_frames and fps must be at least 1.")


@dataclass(frozen=True)
class ModelPool:
    """Models and how many candidates a prompt gets.

    Args:
        models (`tuple[PoolModel, ...]`): With different names.
        num_candidates (`int`, defaults to 4): Videos of an item; a real clip is one of them.
        repeat_models (`bool`, defaults to `False`): Whether a model may be drawn twice for a prompt.
    """

    models: tuple[PoolModel, ...]
    num_candidates: int = 4
    repeat_models: bool = False

    def __post_init__(self) -> None:
        names = [model.name for model in self.models]
        if len(set(names)) < len(names):
            raise ValueError(f"The models of a pool must have different names, got {', '.join(names)}.")
        if self.num_candidates < 2:
            raise ValueError(f"num_candidates must be at least 2, got {self.num_candidates}.")
        if not self.models or (len(names) < self.num_candidates and not self.repeat_models):
            raise ValueError(
                f"A pool of {len(names)} models cannot give {self.num_candidates} candidates of different models: "
                "add models, or allow repeat_models."
            )


@dataclass(frozen=True)
class CandidatePlan:
    """What one candidate is to be.

    Args:
        candidate_id (`str`): Its number among the item's candidates.
        model (`PoolModel`, *optional*): What generates it; `None` for the real clip.
        guidance_scale (`float`): Drawn from the model's range.
        height (`int`): Drawn from its sizes.
        width (`int`): Drawn with the height.
        num_inference_steps (`int`): Drawn from its numbers of steps.
        seed (`int`): Of the noise.
    """

    candidate_id: str
    model: PoolModel | None = None
    guidance_scale: float = 0.0
    height: int = 0
    width: int = 0
    num_inference_steps: int = 0
    seed: int = 0


def read_pool(path: Path) -> ModelPool:
    """Read a pool from a YAML file.

    Args:
        path (`Path`): The file.

    Returns:
        [`ModelPool`]

    Raises:
        ValueError: If the file is empty or not YAML, or a setting is unknown, absent or of another shape.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if content is None:
        raise ValueError(f"{path} is empty: expected a pool, with models and what each of them takes.")
    try:
        _check_names(content, ModelPool, "the pool")
        models = tuple(_model(entry, number) for number, entry in enumerate(content.pop("models"), start=1))
        return ModelPool(models=models, **content)
    except TypeError as error:
        raise ValueError(f"{path} is not a pool of models: {error}") from error


def _check_names(entry: Any, kind: type[PoolModel | ModelPool], what: str) -> None:
    """Refuse settings that are not those of a class, by their names."""
    if not isinstance(entry, dict):
        raise TypeError(f"{what} must be settings with their names, got {reprlib.repr(entry)}.")
    fields = dataclasses.fields(kind)
    required = [of.name for of in fields if of.default is of.default_factory is dataclasses.MISSING]
    unknown = sorted(map(str, entry.keys() - {of.name for of in fields}))
    missing = [name for name in required if name not in entry]
    faults = [f"has an unknown {name}" for name in unknown] + [f"has no {name}" for name in missing]
    if faults:
        raise TypeError(f"{what} {' and '.join(faults)}. It takes {', '.join(of.name for of in fields)}.")


def _model(entry: Any, number: int) -> PoolModel:
    _check_names(entry, PoolModel, f"model {number}")
    entry = dict(entry)
    low, high = entry.pop("guidance_scale")
    return PoolModel(
        guidance_scale=(float(low), float(high)),
        sizes=tuple((int(height), int(width)) for height, width in entry.pop("sizes")),
        num_inference_steps=tuple(int(steps) for steps in entry.pop("num_inference_steps")),
        **entry,
    )


def draw_candidates(item_id: str, has_real_clip: bool, pool: ModelPool, seed: int) -> list[CandidatePlan]:
    """Draw an item's candidates; the draw depends on the seed and the item alone.

    Args:
        item_id (`str`): The item.
        has_real_clip (`bool`): Whether one of the candidates is its real clip, at a place that is drawn too.
        pool ([`ModelPool`]): What to draw from.
        seed (`int`): Another seed, another draw.

    Returns:
        `list[CandidatePlan]`: as many as the pool says.
    """
    draw = random.Random(f"{seed} {item_id}")
    real_place = draw.randrange(pool.num_candidates) if has_real_clip else None
    left = list(pool.models)
    plans = []
    for place in range(pool.num_candidates):
        if place == real_place:
            plans.append(CandidatePlan(str(place)))
            continue
        [model] = draw.choices(left, [model.weight for model in left])
        if not pool.repeat_models:
            left.remove(model)
        height, width = draw.choice(model.sizes)
        plan = CandidatePlan(
            candidate_id=str(place),
            model=model,
            guidance_scale=round(draw.uniform(*model.guidance_scale), 2),
            height=height,
            width=width,
            num_inference_steps=draw.choice(model.num_inference_steps),
            seed=draw.randrange(2**31),
        )
        plans.append(plan)
    return plans
