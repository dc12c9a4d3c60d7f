"""A VIDEOPREFER of the small world and its statistics (Wu et al. 2024, NeurIPS, Sec. 3.1).

Each prompt has four candidates of models drawn at random, each with a random guidance scale; for some prompts a real
clip is one of them. The judge rates them over chat completions, with a little temperature and some wrong answers.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from diffusers import DiffusionPipeline
from scipy import stats

from benchmarks.studies.rated_set import ChatJudge, PlannedClip, make_rated_set
from benchmarks.studies.study import Json, Study, Work, percent, settings_of
from benchmarks.studies.world import Sampling, load_generator, sample_clips
from videorm_hf.miniature.clips import render
from videorm_hf.miniature.scenes import random_scene, write_prompt
from videorm_hf.reporting.plots import histograms
from videorm_hf.reporting.tables import markdown_table
from videorm_hf.videoprefer.items import DIMENSIONS
from videorm_hf.videoprefer.model_pool import CandidatePlan, ModelPool, PoolModel, draw_candidates
from videorm_hf.videoprefer.pairs import MEAN
from videorm_hf.videoprefer.statistics import compute_statistics


@dataclass(frozen=True)
class Settings:
    """What the set is made of.

    Args:
        num_items (`int`): Prompts.
        real_share (`float`): Share of them that have a real clip.
        steps (`tuple[int, ...]`): The pool's models: the pipeline with so many sampling steps each.
        guidance_scale (`tuple[float, float]`): Bounds of the draw.
        temperature (`float`): Of the judge.
        error_rate (`float`): Of the judge.
        seed (`int`): Of everything drawn.
    """

    num_items: int = 120
    real_share: float = 0.15
    steps: tuple[int, ...] = (4, 8, 15, 25)
    guidance_scale: tuple[float, float] = (1.5, 6.0)
    temperature: float = 0.3
    error_rate: float = 0.05
    seed: int = 0


def run(settings: Settings, work: Work) -> Json:
    """Make the set, rate it and count."""
    judge = ChatJudge(settings.temperature, settings.error_rate, settings.seed)
    folder = work.place("videoprefer", settings_of(settings))
    items = make_rated_set(folder, _plans(settings, work), settings.num_items, judge)
    facts = compute_statistics(items)
    skew = {}
    for dimension in DIMENSIONS:
        ratings = [candidate.ratings[dimension] for item in items for candidate in item.candidates]
        skew[dimension] = float(stats.skew(ratings))
    per_dimension = sum(facts.dimensions[name].num_pairs for name in DIMENSIONS)
    return {
        "settings": settings_of(settings),
        "statistics": facts.to_dict(),
        "skewness": skew,
        "pairs_per_item": {
            "on each dimension": per_dimension / len(items),
            "on the mean": facts.dimensions[MEAN].num_pairs / len(items),
        },
    }


def _plans(settings: Settings, work: Work) -> Iterator[tuple[str, str, list[PlannedClip]]]:
    """Draw prompts and what their candidates are made by."""
    pool = _pool(settings, work.weights.pipeline)
    rng = np.random.default_rng([settings.seed, 2])
    pipe = load_generator(work.weights.pipeline)
    for number in range(settings.num_items):
        scene = random_scene(rng, 0.12)
        prompt, real, is_caption = write_prompt(scene, rng), render(scene, rng), rng.random() < settings.real_share
        plans = draw_candidates(f"item-{number:04d}", bool(is_caption), pool, settings.seed)
        clips = [_planned(plan, functools.partial(_sample, pipe, plan, prompt), real) for plan in plans]
        yield prompt, "rendered" if is_caption else "prompts", clips


def _planned(plan: CandidatePlan, generate: Callable[[], np.ndarray], real: np.ndarray) -> PlannedClip:
    if plan.model is None:
        return PlannedClip("real", lambda: real, is_real=True)
    return PlannedClip(plan.model.name, generate, guidance_scale=plan.guidance_scale, seed=plan.seed)


def _pool(settings: Settings, pipeline: Path) -> ModelPool:
    models = [
        PoolModel(
            name=f"t2v-mini, {steps} steps",
            pipeline=str(pipeline),
            guidance_scale=settings.guidance_scale,
            sizes=((32, 32),),
            num_inference_steps=(steps,),
            num_frames=8,
            frames_argument="video_length",
        )
        for steps in settings.steps
    ]
    return ModelPool(tuple(models), num_candidates=4)


def _sample(pipe: DiffusionPipeline, plan: CandidatePlan, prompt: str) -> np.ndarray:
    """Sample one candidate as planned; `videoprefer generate` would write it at 32 pixels, too few for H.264."""
    return sample_clips(pipe, [prompt], Sampling(plan.num_inference_steps, plan.guidance_scale), plan.seed)[0]


def draw(results: Json, path: Path) -> None:
    """Draw how often each rating was given."""
    dimensions = results["statistics"]["dimensions"]
    histograms(path, {name: dimensions[name]["ratings"] for name in DIMENSIONS}, xlabel="rating", title="Ratings")


def report(results: Json) -> str:
    """Write sizes, ratings and who wins."""
    facts = results["statistics"]
    sizes = [
        {
            "ratings": f"`{name}`",
            "pairs": values["pairs"],
            "tied": percent(values["tie_rate"]),
            "mean rating": values["mean_rating"],
            "skewness": results["skewness"].get(name),
        }
        for name, values in facts["dimensions"].items()
    ]
    wins = []
    for model in sorted(facts["models"]):
        rates = {name: values["win_rates"].get(model) for name, values in facts["dimensions"].items()}
        wins.append({"model": model, **{f"wins on `{name}`": percent(rate) for name, rate in rates.items()}})
    pairs = ", ".join(f"{value:.1f} {name}" for name, value in results["pairs_per_item"].items())
    agreement = [f"{percent(values['rate'])} of {values['pairs']}" for values in facts["agreement"].values()]
    return "\n\n".join([
        f"{facts['items']} prompts, {facts['videos']} videos, {facts['real_clips']} of them real. Preference pairs a "
        f"prompt: {pairs}. Pairs untied in both dimensions that have the same winner: {'; '.join(agreement)}.",
        markdown_table(sizes),
        markdown_table(wins),
    ])  # fmt: skip


STUDY = Study(
    name="dataset_statistics",
    title="A small VIDEOPREFER and its statistics",
    question=(
        "Prompts of the small world with four candidates each: clips of t2v-mini at several numbers of sampling "
        "steps, which stand for a pool of models, each with a random guidance scale, and real (rendered) clips "
        "for some. The judge rates them at 8 frames and temperature 0.3 with some wrong answers. The paper "
        "reports ratings of prompt following that are nearly normal, and ratings of quality skewed low."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(num_items=2, real_share=0.5, steps=(1, 2, 3, 4)),
    draw=draw,
    report=report,
)
