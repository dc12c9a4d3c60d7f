"""What VIDEORM is made of, one thing changed at a time: head, temporal shift, frames, amount and kind of data.

Follows the ablations of Wu et al. 2024 (NeurIPS, Sec. 4). Every model is trained by `VideoRewardTrainer` on the frozen
towers of videorm-mini, whose features are cached; only its temporal head, made anew, trains.
"""

import dataclasses
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoProcessor

from benchmarks.studies.image_reward import VIDEORM
from benchmarks.studies.known_pairs import GROUPS, TIME_DOES_NOT, TIME_MATTERS
from benchmarks.studies.rated_set import ChatJudge, PlannedClip, make_rated_set
from benchmarks.studies.reward_accuracy import known_credits
from benchmarks.studies.study import Json, Study, Work, percent_within, settings_of
from benchmarks.studies.world import Sampling, faulty_clip, load_generator, sample_clips
from videorm_hf import VideoRMConfig, VideoRMModel
from videorm_hf.evaluation.metrics import mean_interval
from videorm_hf.miniature.clips import render
from videorm_hf.miniature.scenes import random_scene, write_prompt
from videorm_hf.reporting.plots import bar_chart
from videorm_hf.reporting.tables import markdown_table
from videorm_hf.rewards import VideoRMReward
from videorm_hf.trainer import VideoRewardConfig, VideoRewardTrainer
from videorm_hf.trainer.reward_models import load_reward_model
from videorm_hf.videoprefer.items import DIMENSIONS, Item

SHIFTS = ("none", "residual replicate", "residual zero", "block replicate", "block zero")
VERSIONS = {"VIDEORM-V": ("judged",), "VIDEORM-H": ("people",), "VIDEORM (both)": ("judged", "people")}
SUMMARIES = {**GROUPS, "time matters": TIME_MATTERS, "it does not": TIME_DOES_NOT}


@dataclass(frozen=True)
class Settings:
    """How models are trained and tested.

    Args:
        num_items (`int`): Prompts that the judge has rated: two clips of t2v-mini, a true and a faulty one each.
        num_people_items (`int`): Prompts of the same kind that five noisy people have rated.
        people_noise (`float`): Standard deviation of one person's rating.
        steps (`int`): Updates of each model.
        batch_size (`int`): Prompts of an update.
        learning_rate (`float`): Of AdamW.
        seeds (`tuple[int, ...]`): Of each model.
        heads (`tuple[str, ...]`): Temporal heads.
        shifts (`tuple[str, ...]`): Placement and padding of the temporal shift.
        num_frames (`tuple[int, ...]`): Frames of a clip.
        fractions (`tuple[float, ...]`): Shares of the rated prompts.
        versions (`tuple[str, ...]`): Kinds of data.
        num_pairs (`int`): Test pairs of each fault.
        sampling (`Sampling`): Of t2v-mini's clips.
        judge (`ChatJudge`): Who has rated.
    """

    num_items: int = 240
    num_people_items: int = 64
    people_noise: float = 0.8
    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 1e-3
    seeds: tuple[int, ...] = (0,)
    heads: tuple[str, ...] = ("mean", "conv1d", "lstm", "transformer")
    shifts: tuple[str, ...] = SHIFTS
    num_frames: tuple[int, ...] = (1, 2, 4, 8)
    fractions: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    versions: tuple[str, ...] = tuple(VERSIONS)
    num_pairs: int = 60
    sampling: Sampling = Sampling()
    judge: ChatJudge = ChatJudge()


@dataclass(frozen=True)
class Variant:
    """One model.

    Args:
        head (`str`): Temporal head.
        shift (`str`): One of `SHIFTS`.
        num_frames (`int`): Frames of a clip.
        fraction (`float`): Share of the rated prompts.
        version (`str`): One of `VERSIONS`.
        seed (`int`): Of its head and of the order of its data.
    """

    head: str = "transformer"
    shift: str = "residual replicate"
    num_frames: int = 8
    fraction: float = 1.0
    version: str = "VIDEORM-V"
    seed: int = 0


def shift_fields(shift: str) -> dict[str, str]:
    """Return the fields of a configuration that one of `SHIFTS` stands for."""
    placement, _, padding = shift.partition(" ")
    return {"temporal_shift": placement, "temporal_shift_padding": padding or "replicate"}


def run(settings: Settings, work: Work) -> Json:
    """Train and test every variant."""
    data = _make_data(settings, work)
    usual = [_accuracy(Variant(seed=seed), settings, data, work) for seed in settings.seeds]
    found = {}
    for name, variants in tqdm(_ablations(settings).items(), desc="ablations"):
        found[name] = {
            label: _summary([_accuracy(variant, settings, data, work) for variant in seeds], usual)
            for label, seeds in variants.items()
        }
    return {"settings": settings_of(settings), "ablations": found}


def _ablations(settings: Settings) -> dict[str, dict[str, list[Variant]]]:
    """Return, for each thing that is changed, its values and the variants of all seeds."""
    changed = {
        "temporal head": ("head", settings.heads),
        "temporal shift": ("shift", settings.shifts),
        "frames": ("num_frames", settings.num_frames),
        "share of the data": ("fraction", settings.fractions),
        "data": ("version", settings.versions),
    }
    return {
        title: {str(value): [Variant(**{field: value}, seed=seed) for seed in settings.seeds] for value in values}
        for title, (field, values) in changed.items()
    }


def _make_data(settings: Settings, work: Work) -> dict[str, list[Item]]:
    """Make the judged set, and the small one that people have rated."""
    facts = settings_of(settings)
    key = {name: facts[name] for name in ("num_items", "num_people_items", "sampling", "judge")}
    folder = work.place("data", key)
    judged = make_rated_set(folder / "judged", _plans(settings, work, 0), settings.num_items, settings.judge)
    people = make_rated_set(
        folder / "people", _plans(settings, work, 1), settings.num_people_items, ChatJudge(0.0, 0.0)
    )
    return {"judged": judged, "people": _as_people_rate(people, settings)}


def _plans(settings: Settings, work: Work, seed: int) -> Iterator[tuple[str, str, list[PlannedClip]]]:
    """Draw prompts of the training split with two generated, a true and a faulty clip each."""
    rng = np.random.default_rng([seed, 4])
    pipe = load_generator(work.weights.pipeline)
    for number in range(settings.num_people_items if seed else settings.num_items):
        scene = random_scene(rng, 0.12, split="train")
        prompt, true = write_prompt(scene, rng), render(scene, rng)
        fault, faulty = faulty_clip(scene, rng)
        generated = _Generated(pipe, prompt, settings.sampling, 10_000 * seed + number)
        clips = [PlannedClip("t2v-mini", lambda made=generated, place=place: made.clips()[place]) for place in (0, 1)]
        yield (
            prompt,
            "small world",
            [
                *clips,
                PlannedClip("true", lambda frames=true: frames, is_real=True),
                PlannedClip(fault, lambda frames=faulty: frames),
            ],
        )


class _Generated:
    """Two clips of one prompt, sampled together when the first is asked for."""

    def __init__(self, pipe: Any, prompt: str, sampling: Sampling, seed: int) -> None:
        self.arguments = (pipe, [prompt], sampling, seed, 2)
        self._clips: np.ndarray | None = None

    def clips(self) -> np.ndarray:
        if self._clips is None:
            self._clips = sample_clips(*self.arguments)
        return self._clips


def _as_people_rate(items: list[Item], settings: Settings) -> list[Item]:
    """Replace the judge's ratings by the mean of five people, each of whom gives the judge's with noise."""
    rng = np.random.default_rng(5)
    rated = []
    for item in items:
        candidates = []
        for candidate in item.candidates:
            noisy = {
                name: candidate.ratings[name] + settings.people_noise * rng.standard_normal(5) for name in DIMENSIONS
            }
            means = {name: float(np.clip(np.rint(values), 1, 5).mean()) for name, values in noisy.items()}
            candidates.append(dataclasses.replace(candidate, ratings=means))
        rated.append(dataclasses.replace(item, candidates=tuple(candidates)))
    return rated


def _accuracy(variant: Variant, settings: Settings, data: dict[str, list[Item]], work: Work) -> dict[str, list[float]]:
    """Train one model and return what each test pair adds to its accuracy, by fault."""
    facts = settings_of(settings)
    names = ("heads", "shifts", "num_frames", "fractions", "versions", "seeds")
    key = {name: value for name, value in facts.items() if name not in names} | dataclasses.asdict(variant)

    def compute() -> Json:
        reward = _train(variant, settings, data, work)
        return {
            fault: credit[VIDEORM] for fault, credit in known_credits({VIDEORM: reward}, settings.num_pairs, 0).items()
        }

    return work.cell("model", key, compute)


def _train(variant: Variant, settings: Settings, data: dict[str, list[Item]], work: Work) -> VideoRMReward:
    """Train one model; the head `"mean"` has nothing to train."""
    model = _build(variant, work)
    processor = AutoProcessor.from_pretrained(work.weights.videorm)
    if variant.head == "mean":
        return VideoRMReward(model, processor, variant.num_frames)
    features = {
        **shift_fields(variant.shift),
        "num_frames": variant.num_frames,
        "videos": str(data["judged"][0].candidates[0].video),
    }
    output = work.place("output", dataclasses.asdict(variant))
    args = VideoRewardConfig(
        output_dir=str(output),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.steps // 20,
        weight_decay=0.01,
        train_fraction=variant.fraction,
        num_frames=variant.num_frames,
        cache_features=True,
        feature_cache_dir=str(work.place("features", features)),
        save_strategy="no",
        logging_steps=50,
        report_to="none",
        use_cpu=True,
        seed=variant.seed,
        dataloader_num_workers=0,
    )
    sets = {name: data[name] for name in VERSIONS[variant.version]}
    VideoRewardTrainer(model, args, train_dataset=sets, processing_class=processor).train()
    shutil.rmtree(output, ignore_errors=True)
    return VideoRMReward(model, AutoProcessor.from_pretrained(work.weights.videorm), variant.num_frames)


def _build(variant: Variant, work: Work) -> VideoRMModel:
    """Load the towers and make a new head with about as many weights as the shipped one, whichever kind it is.

    With w its width, a layer of the transformer has 12 w^2 weights, of the LSTM 8 w^2, of the convolution 3 w^2.
    """
    depth = VideoRMConfig.from_pretrained(work.weights.videorm).temporal_num_layers
    layers = {"conv1d": 4 * depth, "lstm": max(1, round(1.5 * depth))}.get(variant.head, depth)
    fields = {"temporal_head": variant.head, "temporal_num_layers": layers, **shift_fields(variant.shift)}
    torch.manual_seed(variant.seed)
    model = load_reward_model(work.weights.videorm, fields)
    head = type(model.temporal_head)(model.config)
    head.apply(model._init_weights)
    model.temporal_head = head
    return model


def _summary(runs: list[dict[str, list[float]]], usual: list[dict[str, list[float]]]) -> Json:
    """Return the accuracy of each group of faults over all seeds, and how far it is behind the usual variant's.

    A test pair is one unit of the intervals.
    """
    summary = {}
    for name, faults in SUMMARIES.items():
        pairs = [(fault, place) for fault in faults for place in range(len(runs[0][fault]))]
        own, other = (
            np.array([[run[fault][place] for fault, place in pairs] for run in each]) for each in (runs, usual)
        )
        behind = other.mean(axis=0) - own.mean(axis=0)
        summary[name] = {
            "value": float(own.mean()),
            "interval": mean_interval(own.mean(axis=0), pairs),
            "of_seeds": own.mean(axis=1).tolist(),
            "behind": {"value": float(behind.mean()), "interval": mean_interval(behind, pairs)},
        }
    return summary


def draw(results: Json, path: Path) -> None:
    """Draw the accuracy where time matters and where it does not, for every variant."""
    rows = {
        f"{label}" if title != "share of the data" else f"{100 * float(label):g} %": groups
        for title, variants in results["ablations"].items()
        for label, groups in variants.items()
    }
    shown = ("time matters", "it does not")
    bar_chart(
        path,
        list(rows),
        {name: [groups[name]["value"] for groups in rows.values()] for name in shown},
        intervals={name: [groups[name]["interval"] for groups in rows.values()] for name in shown},
        ylabel="pairwise accuracy",
        title="Ablations of VIDEORM",
        reference=0.5,
    )


def report(results: Json) -> str:
    """Write a table for each thing that is changed."""
    parts = []
    for title, variants in results["ablations"].items():
        rows = [
            {title: label, **{name: percent_within(cell["value"], cell["interval"]) for name, cell in groups.items()}}
            for label, groups in variants.items()
        ]
        parts.append(markdown_table(rows))
    return "\n\n".join(parts)


STUDY = Study(
    name="reward_ablations",
    title="Ablations of VIDEORM: head, temporal shift, frames, data",
    question=(
        "Unless it is what changes: the temporal transformer, the shift in the residual branch with replicated "
        "ends, 8 frames, all prompts that the judge has rated (VIDEORM-V). Heads have about equally many "
        "weights; `mean` has none. VIDEORM-H has a small set rated by five noisy people. Each is trained "
        "once, and judged on pairs of the test split with known winners; intervals are over these pairs, not over "
        "trainings."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(
        num_items=2,
        num_people_items=2,
        steps=2,
        batch_size=2,
        seeds=(0,),
        heads=("mean", "lstm"),
        shifts=("block zero",),
        num_frames=(2,),
        fractions=(0.5,),
        versions=("VIDEORM (both)",),
        num_pairs=2,
        sampling=Sampling(1),
    ),
    draw=draw,
    report=report,
)
