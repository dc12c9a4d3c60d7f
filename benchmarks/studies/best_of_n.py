"""Best-of-n: how good is the clip that a reward chooses out of n samples (Wu et al. 2024, NeurIPS, Sec. 4)?"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.studies.draftv import win_table
from benchmarks.studies.image_reward import CLIP_LIKE, VIDEORM, load_clip_like, load_rewards
from benchmarks.studies.study import Json, Study, Work, percent, percent_within, settings_of
from benchmarks.studies.tuning import compare
from benchmarks.studies.world import Sampling, held_out_prompts, load_generator, sample_clips, score_clips, truths_of
from videorm_hf.evaluation.best_of_n import choice_probabilities, judge_best_of_n, people_choose, win_rates
from videorm_hf.evaluation.evaluator import Bootstrap, Scores
from videorm_hf.evaluation.labels import human_ratings
from videorm_hf.reporting.plots import line_chart
from videorm_hf.reporting.tables import markdown_table
from videorm_hf.videoprefer.items import DIMENSIONS, Candidate, Item
from videorm_hf.videoprefer.pairs import MEAN

TRUTH = "the truth itself"


@dataclass(frozen=True)
class Settings:
    """How much is sampled.

    Args:
        num_prompts (`int`): Prompts of the test split.
        ns (`tuple[int, ...]`): Out of how many is chosen; as many as the last are sampled.
        sampling (`Sampling`): How.
        clip_steps (`int`): Training of the CLIP-like towers, in steps of 32 prompts.
        num_picks (`int`): A reward's best clips of each prompt that are held against another reward's.
        num_resamples (`int`): Of the intervals.
        seed (`int`): Of prompts and noise.
    """

    num_prompts: int = 60
    ns: tuple[int, ...] = (1, 2, 4, 8, 16)
    sampling: Sampling = Sampling()
    clip_steps: int = 2_000
    num_picks: int = 3
    num_resamples: int = 1000
    seed: int = 0


def run(settings: Settings, work: Work) -> Json:
    """Sample, judge, score and choose."""
    unused = ("num_resamples", "num_picks")
    chosen = {name: value for name, value in settings_of(settings).items() if name not in unused}
    videos = work.cell("samples", chosen, lambda: _sample(settings, work))
    items = [
        Item(
            str(number),
            prompt,
            "small world",
            tuple(
                Candidate(
                    str(place), None, "t2v-mini", ratings={name: videos["truths"][name][row] for name in DIMENSIONS}
                )
                for place, row in enumerate(range(number * settings.ns[-1], (number + 1) * settings.ns[-1]))
            ),
        )
        for number, prompt in enumerate(videos["prompts"])
    ]
    keys = [(item.item_id, candidate.candidate_id) for item in items for candidate in item.candidates]
    rows, gains = [], {}
    for dimension in (MEAN, *DIMENSIONS):
        scores = {name: dict(zip(keys, values, strict=True)) for name, values in videos["scores"].items()}
        scores[TRUTH] = people_choose(items, dimension, keys)
        for name, by_clip in scores.items():
            bootstrap = Bootstrap(num_resamples=settings.num_resamples, seed=settings.seed)
            found = judge_best_of_n(name, items, dimension, by_clip, settings.ns, bootstrap)
            rows += [{"dimension": dimension, **asdict(result)} for result in found]
        gains[dimension] = _gains(items, dimension, scores[VIDEORM], settings.ns, bootstrap)
    own = _picks(VIDEORM, videos, settings)
    others = [name for name in videos["scores"] if name != VIDEORM]
    picks = {name: compare(_picks(name, videos, settings), own) for name in others}
    return {"settings": settings_of(settings), "rows": rows, "gains": gains, "videorm_over": picks}


def _picks(reward: str, videos: Json, settings: Settings) -> Json:
    """Return the truth about a reward's best clips of each prompt, the best first, as the comparison takes it."""
    scores = np.reshape(videos["scores"][reward], (len(videos["prompts"]), -1))
    best = np.argsort(-scores, axis=1, kind="stable")[:, : settings.num_picks]
    rows = (best + scores.shape[1] * np.arange(len(best))[:, None]).ravel().tolist()
    measured = {**videos["truths"], **videos["scores"]}
    prompts = [prompt for prompt in videos["prompts"] for _ in range(best.shape[1])]
    return {"prompts": prompts, **{name: [values[row] for row in rows] for name, values in measured.items()}}


def _gains(items: list[Item], dimension: str, scores: Scores, ns: tuple[int, ...], bootstrap: Bootstrap) -> list[Json]:
    """Return by how much VIDEORM's win rate rises from each n to the next, with an interval of the difference."""
    wins: list[list[float]] = []  # of each prompt, for each n
    for item in items:
        ratings = human_ratings(item, dimension)
        own = [scores[item.item_id, name] for name in ratings]
        rates = win_rates(list(ratings.values()))
        wins.append([float(choice_probabilities(own, n) @ rates) for n in ns])
    prompts = [item.prompt for item in items]
    return [
        {"n": n, "value": float(rise.mean()), "interval": bootstrap.interval(rise, prompts)}
        for n, rise in zip(ns[1:], np.diff(wins, axis=1).T, strict=True)
    ]


def _sample(settings: Settings, work: Work) -> Json:
    prompts = held_out_prompts(settings.num_prompts, settings.seed)
    pipe = load_generator(work.weights.pipeline)
    clips = sample_clips(pipe, prompts, settings.sampling, settings.seed + 1, settings.ns[-1])
    texts = [prompt for prompt in prompts for _ in range(settings.ns[-1])]
    clip_like = {CLIP_LIKE: load_clip_like(work, settings.clip_steps)}
    rewards = {**clip_like, **load_rewards(work.weights.videorm)}
    return {
        "prompts": prompts,
        "truths": truths_of(clips, texts),
        "scores": {name: score_clips(reward, clips, texts) for name, reward in rewards.items()},
    }


def rows_of(results: Json, dimension: str, reward: str) -> list[Json]:
    """Return the rows of one way to judge and one way to choose, in the order of n."""
    return [row for row in results["rows"] if (row["dimension"], row["reward"]) == (dimension, reward)]


def draw(results: Json, path: Path) -> None:
    """Draw win rates over n, by the mean of both ratings."""
    rewards = list(dict.fromkeys(row["reward"] for row in results["rows"]))
    rows = {name: rows_of(results, MEAN, name) for name in rewards}
    line_chart(
        path,
        {name: ([row["n"] for row in part], [row["win_over_random"] for row in part]) for name, part in rows.items()},
        intervals={
            name: [row["interval"] or (row["win_over_random"],) * 2 for row in part] for name, part in rows.items()
        },
        xlabel="n",
        ylabel="win rate over another sample",
        title="Best of n, judged by the truth",
    )


def report(results: Json) -> str:
    """Write win rates and mean ratings for each way to judge."""
    parts = []
    for dimension in dict.fromkeys(row["dimension"] for row in results["rows"]):
        table = []
        for reward in dict.fromkeys(row["reward"] for row in results["rows"]):
            rows = rows_of(results, dimension, reward)
            cells = {f"n = {row['n']}": percent_within(row["win_over_random"], row["interval"]) for row in rows}
            table.append(
                {
                    "chosen by": reward,
                    **cells,
                    "best found": percent(rows[-1]["best_rate"]),
                    "rating": rows[-1]["rating"],
                }
            )
        parts += [f"Win rate over another sample of the prompt, by `{dimension}`:", markdown_table(table)]
    top = results["settings"]["num_picks"]
    parts += [
        f"VIDEORM's best {top} of {results['settings']['ns'][-1]} against those of another reward, the best against "
        "the best and so on; where both chose the same clip, it is a tie:",
        win_table("VIDEORM's against those of", results["videorm_over"]),
    ]
    return "\n\n".join(parts)


STUDY = Study(
    name="best_of_n",
    title="Best of n",
    question=(
        "Of samples of t2v-mini for a prompt of the test split the one with the highest reward is chosen out of "
        "n, and compared with another sample of the prompt by the truth; a tie counts one half. The expectation "
        "over all draws of n is exact. The last columns are at the largest n: how often the choice is as good as"
        " the best, and its rating."
    ),
    run=run,
    full=Settings(),
    smoke=Settings(num_prompts=2, ns=(1, 2), sampling=Sampling(2), clip_steps=2, num_picks=1, num_resamples=50),
    draw=draw,
    report=report,
)
