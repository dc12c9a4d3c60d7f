"""Where to shift features in time: what each placement and padding puts into frozen features, and what it costs.

Two towers: videorm-mini's, and one of the shape of CLIP ViT-B/32 with random weights, whose depth is that of real
models. A linear probe reads the mean over frames, before any temporal head: whether a clip plays forwards or
backwards, of which an unshifted tower can know nothing, and which colour its thing has, which the shift may destroy.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from benchmarks.studies.reward_ablations import SHIFTS, shift_fields
from benchmarks.studies.study import Json, Study, Work, percent, settings_of
from videorm_hf import VideoRMConfig, VideoRMModel, VideoRMVideoProcessor
from videorm_hf.miniature.clips import render
from videorm_hf.miniature.scenes import COLORS, Scene, Thing
from videorm_hf.models.videorm.processing_videorm import VideoRMProcessor
from videorm_hf.reporting.plots import bar_chart
from videorm_hf.reporting.tables import markdown_table
from videorm_hf.trainer.reward_models import load_reward_model

MINI, SIZE_B32 = "videorm-mini", "shape of ViT-B/32, random weights"


@dataclass(frozen=True)
class Settings:
    """How much is probed.

    Args:
        num_clips (`int`): Clips of one thing that moves right, each forwards and backwards.
        towers (`tuple[str, ...]`): Whose features.
        folds (`int`): Of the probe's cross-validation.
        seed (`int`): Of clips.
    """

    num_clips: int = 80
    towers: tuple[str, ...] = (MINI, SIZE_B32)
    folds: int = 5
    seed: int = 0


def run(settings: Settings, work: Work) -> Json:
    """Probe every placement in every tower."""
    clips, colors = _make_clips(settings)
    found: Json = {}
    for tower in settings.towers:
        found[tower] = {}
        still = None
        for shift in tqdm(SHIFTS, desc=tower):
            key = {**settings_of(settings), "tower": tower, "shift": shift}
            compute = functools.partial(_features, tower, shift, clips, work)
            features = np.array(work.cell("features", key, compute, uses_weights=tower == MINI))
            still = features if shift == "none" else still
            found[tower][shift] = _probe(features, colors, settings) | {"cosine": _cosine(features, still)}
    return {"settings": settings_of(settings), "towers": found}


def _make_clips(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Return clips_NTHWC, each followed by itself backwards, and the number of each one's colour."""
    rng = np.random.default_rng([settings.seed, 6])
    clips, colors = [], []
    for number in range(settings.num_clips):
        color = number % len(COLORS)
        thing = Thing(str(rng.choice(["circle", "square", "triangle"])), list(COLORS)[color], "large", "right", "fast")
        clip = render(Scene((thing,), str(rng.choice(["black", "grey", "white"]))), rng)
        clips += [clip, clip[::-1]]
        colors += [color, color]
    return np.stack(clips), np.array(colors)


@torch.no_grad()
def _features(tower: str, shift: str, clips_NTHWC: np.ndarray, work: Work) -> list[list[float]]:
    """Return the mean over frames of each clip's frame embeddings."""
    if tower == MINI:
        model = load_reward_model(work.weights.videorm, shift_fields(shift))
        videos = VideoRMProcessor.from_pretrained(work.weights.videorm).video_processor
    else:
        torch.manual_seed(0)
        model, videos = VideoRMModel(VideoRMConfig(**shift_fields(shift))), VideoRMVideoProcessor()
    model.eval()
    rows = []
    for clip_THWC in tqdm(clips_NTHWC, desc=shift, leave=False):
        inputs = videos(np.ascontiguousarray(clip_THWC), input_data_format="channels_last")
        rows += model.get_frame_embeds(inputs["pixel_values_videos"]).mean(dim=1).tolist()
    return rows


def _probe(features: np.ndarray, colors: np.ndarray, settings: Settings) -> Json:
    """Return how often a linear probe is right, on clips it has not seen; a clip and its reversal stay together."""
    groups = np.repeat(np.arange(settings.num_clips), 2)
    backwards = np.tile([0, 1], settings.num_clips)
    found = {}
    for name, labels in (("direction", backwards), ("color", colors)):
        folds = StratifiedGroupKFold(settings.folds, shuffle=True, random_state=settings.seed)
        probe = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-2, 5, 15)))
        scores = cross_val_score(probe, features, labels, groups=groups, cv=folds)
        found[name] = {"value": float(scores.mean()), "of_folds": scores.tolist()}
    return found


def _cosine(features: np.ndarray, unshifted: np.ndarray | None) -> float:
    """Return how much of the unshifted features is left: the mean cosine, less what all clips share."""
    if unshifted is None:
        raise ValueError("The unshifted tower must come first.")
    center = unshifted.mean(axis=0)
    a, b = features - center, unshifted - center
    return float(np.mean((a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))))


def draw(results: Json, path: Path) -> None:
    """Draw what the probes read."""
    bars = {
        f"{what}, {tower.partition(',')[0]}": [found[shift][what]["value"] for shift in SHIFTS]
        for tower, found in results["towers"].items()
        for what in ("direction", "color")
    }
    bar_chart(path, list(SHIFTS), bars, ylabel="probe's accuracy", title="What the temporal shift puts into features")


def report(results: Json) -> str:
    """Write a row for each tower and placement."""
    rows = [
        {
            "tower": tower,
            "shift": shift,
            "forwards or backwards": percent(cell["direction"]["value"]),
            "colour": percent(cell["color"]["value"]),
            "cosine with unshifted": cell["cosine"],
        }
        for tower, found in results["towers"].items()
        for shift, cell in found.items()
    ]
    return markdown_table(rows)


STUDY = Study(
    name="shift_placement",
    title="Placement and padding of the temporal shift in frozen towers",
    question=(
        "Features are means over frames, before any temporal head: whether a clip plays forwards or backwards (chance "
        "50 %) is in them only through the shift; the colour (chance 25 %) is what a shift may destroy. Ridge probes, "
        "cross-validated over clips. The cosine is with the unshifted tower's features, less their common mean. The "
        "second tower has the depth and width of a real one, but random weights."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(num_clips=8, towers=(MINI,), folds=2),
    draw=draw,
    report=report,
)
