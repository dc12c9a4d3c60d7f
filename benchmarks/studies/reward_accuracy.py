"""How often a reward prefers the better of two clips: where time matters, and where it does not.

Follows the paper's tables of pairwise accuracy, with the truth of the small world for people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.studies.image_reward import CLIP_LIKE, IMAGE, VIDEORM, load_clip_like, load_rewards
from benchmarks.studies.known_pairs import GROUPS, TIME_DOES_NOT, TIME_MATTERS, make_pairs
from benchmarks.studies.study import Json, Study, Work, percent, percent_within, settings_of
from benchmarks.studies.world import Sampling, held_out_prompts, load_generator, sample_clips, score_clips, truths_of
from videorm_hf.evaluation.metrics import are_tied, mean_interval, pair_credit
from videorm_hf.reporting.plots import bar_chart
from videorm_hf.reporting.tables import markdown_table
from videorm_hf.rewards import Reward

# Of the generator's own clips: what decides which of two is better.
GENERATED = ("looks", "motion", "video_quality", "mean")
# Reward to what each pair adds to its accuracy, and "prompt" to what tells the pair's prompt.
Credits = dict[str, list[Any]]


@dataclass(frozen=True)
class Settings:
    """How much is scored.

    Args:
        num_pairs (`int`): Pairs of each fault.
        num_prompts (`int`): Prompts of generated clips.
        num_samples (`int`): Generated clips of each prompt.
        sampling (`Sampling`): How they are generated.
        clip_steps (`int`): Training of the CLIP-like towers, in steps of 32 prompts.
        seed (`int`): Of everything drawn.
    """

    num_pairs: int = 250
    num_prompts: int = 80
    num_samples: int = 4
    sampling: Sampling = Sampling()
    clip_steps: int = 2_000
    seed: int = 0


def run(settings: Settings, work: Work) -> Json:
    """Score all pairs by all rewards."""
    clip_like = {CLIP_LIKE: load_clip_like(work, settings.clip_steps)}
    rewards = {**clip_like, **load_rewards(work.weights.videorm)}
    drawn = {"num_pairs": settings.num_pairs, "seed": settings.seed}
    known = drawn | {"clip_steps": settings.clip_steps}
    credits = work.cell("known", known, lambda: known_credits(rewards, **drawn))
    groups = {**GROUPS, "all where time matters": TIME_MATTERS, "all where it does not": TIME_DOES_NOT}
    generated = work.cell("generated", settings_of(settings), lambda: _generated(settings, rewards, work))
    return {
        "settings": settings_of(settings),
        "faults": {fault: summarise(credit) for fault, credit in credits.items()},
        "groups": {name: summarise(together([credits[fault] for fault in faults])) for name, faults in groups.items()},
        "generated": generated,
    }


def known_credits(rewards: Mapping[str, Reward], num_pairs: int, seed: int) -> dict[str, Credits]:
    """Return what each known pair adds to each reward's accuracy, by fault: 1, 0, or 0.5 for a tie."""
    credits: dict[str, Credits] = {}
    for fault in tqdm([fault for faults in GROUPS.values() for fault in faults], desc="faults"):
        pairs = make_pairs(fault, num_pairs, seed)
        credits[fault] = {"prompt": list(range(num_pairs))}
        for name, reward in rewards.items():
            better, worse = (score_clips(reward, clips, pairs.prompts) for clips in (pairs.better, pairs.worse))
            # Closer than rounding is a tie: an image reward sees the same frames in a clip and in the clip backwards.
            margins = np.array(better) - np.array(worse)
            margins[np.abs(margins) < 1e-6] = 0.0
            zeros = np.zeros(num_pairs)
            credits[fault][name] = pair_credit(zeros + 1, zeros, margins, zeros).tolist()
    return credits


def together(parts: Sequence[Credits]) -> Credits:
    """Put the pairs of several faults together; a prompt's number tells fault and place."""
    joined: Credits = {name: [] for name in parts[0]}
    for number, part in enumerate(parts):
        for name, values in part.items():
            joined[name] += [(number, value) for value in values] if name == "prompt" else values
    return joined


def summarise(credits: Credits) -> Json:
    """Return each reward's accuracy, and by how much VIDEORM's is above the image reward's, with intervals."""
    clusters = credits["prompt"]
    names = [name for name in credits if name != "prompt"]
    summary: Json = {"num_pairs": len(clusters), "accuracy": {}}
    for name in names:
        values = credits[name]
        summary["accuracy"][name] = {"value": float(np.mean(values)), "interval": mean_interval(values, clusters)}
    if {VIDEORM, IMAGE} <= set(names):
        gain = np.array(credits[VIDEORM]) - np.array(credits[IMAGE])
        summary["gain"] = {"value": float(gain.mean()), "interval": mean_interval(gain, clusters)}
    return summary


def _generated(settings: Settings, rewards: Mapping[str, Reward], work: Work) -> Json:
    """Compare the generator's clips of one prompt, two at a time; the truth says which is better."""
    prompts = held_out_prompts(settings.num_prompts, settings.seed)
    pipe = load_generator(work.weights.pipeline)
    clips = sample_clips(pipe, prompts, settings.sampling, settings.seed, settings.num_samples)
    texts = [prompt for prompt in prompts for _ in range(settings.num_samples)]
    truths = truths_of(clips, texts)
    scores = {name: score_clips(reward, clips, texts) for name, reward in rewards.items()}
    first, second = _all_pairs(settings.num_prompts, settings.num_samples)
    found = {}
    for truth in GENERATED:
        a, b = np.array(truths[truth])[first], np.array(truths[truth])[second]
        untied = ~are_tied(a, b)
        credits: Credits = {"prompt": (first[untied] // settings.num_samples).tolist()}
        for name, values in scores.items():
            credits[name] = pair_credit(a, b, np.array(values)[first], np.array(values)[second]).tolist()
        if untied.any():
            found[truth] = summarise(credits)
    return found


def _all_pairs(num_prompts: int, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of both clips of every pair."""
    a, b = np.triu_indices(num_samples, 1)
    starts = num_samples * np.arange(num_prompts)[:, None]
    return (starts + a).ravel(), (starts + b).ravel()


def draw(results: Json, path: Path) -> None:
    """Draw accuracies by fault."""
    labels = list(results["faults"])
    names = list(results["faults"][labels[0]]["accuracy"])
    cells = {name: [results["faults"][label]["accuracy"][name] for label in labels] for name in names}
    bar_chart(
        path,
        labels,
        {name: [cell["value"] for cell in row] for name, row in cells.items()},
        intervals={name: [cell["interval"] or (cell["value"],) * 2 for cell in row] for name, row in cells.items()},
        ylabel="pairwise accuracy",
        title="Which of two clips is better: one of them has the fault",
        reference=0.5,
    )


def report(results: Json) -> str:
    """Write the groups, the faults, and the generator's own clips."""
    return "\n\n".join([
        accuracy_table("pairs", results["groups"]),
        accuracy_table("fault", results["faults"]),
        "Two clips that t2v-mini made for one prompt; the truth named says which is better:",
        accuracy_table("decided by", results["generated"]),
    ])  # fmt: skip


def accuracy_table(title: str, summaries: Mapping[str, Json]) -> str:
    """Write accuracies as a table, a row for each summary."""
    rows = []
    for name, summary in summaries.items():
        cells = {reward: percent(cell["value"]) for reward, cell in summary["accuracy"].items()}
        gain = summary["gain"]
        rows.append(
            {
                title: name,
                "n": summary["num_pairs"],
                **cells,
                "VIDEORM's gain": percent_within(gain["value"], gain["interval"]),
            }
        )
    return markdown_table(rows)


STUDY = Study(
    name="reward_accuracy",
    title="Pairwise accuracy: an image reward averaged over frames, and VIDEORM",
    question=(
        "Pairs of one prompt of the test split, a true clip and one with a fault; `backwards` is the same clip "
        "played backwards. The image reward has VIDEORM's own towers, without its temporal shift and head; the "
        "CLIP-like one was trained in the same way on the same pictures, but never saw a faulty one. A tie"
        " counts one half; intervals are 95 % bootstrap intervals over prompts."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(num_pairs=4, num_prompts=2, num_samples=3, sampling=Sampling(2), clip_steps=2),
    draw=draw,
    report=report,
)
