"""What the studies were to show, held against what they found: a row for each claim, and the picture of the README."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from matplotlib.axes import Axes

from benchmarks.studies.best_of_n import TRUTH, rows_of
from benchmarks.studies.draftv import DRAFT_V
from benchmarks.studies.hacking import OFF
from benchmarks.studies.image_reward import CLIP_LIKE, IMAGE, VIDEORM
from benchmarks.studies.known_pairs import GROUPS
from benchmarks.studies.study import Json, number_within, percent_within
from draftv_trainer import DRaFTVConfig
from videorm_hf.reporting.plots import chart_row, draw_bars, draw_lines
from videorm_hf.reporting.tables import markdown_table
from videorm_hf.videoprefer.pairs import MEAN

DEFAULT_SHIFT = "residual replicate"
# By how much VIDEORM should win where time matters, and may lose where it does not: shares of pairs.
GAIN_WITH_TIME, LOSS_WITHOUT_TIME = 0.20, 0.02
# The paper's largest n.
LARGEST_N = 8


@dataclass(frozen=True)
class Verdict:
    """What became of a claim.

    Args:
        shown (`str`): `"yes"` where whole 95 % intervals say so, `"within chance"` where the estimates alone do, else
            `"no"`.
        found (`str`): The figures that say so.
    """

    shown: str
    found: str


@dataclass(frozen=True)
class Claim:
    """Something that the small world was asked.

    Args:
        text (`str`): The claim.
        source (`str`): Whose claim: the paper's or ours.
        study (`str`): Which study answers.
        judge (`Callable`): `results of the study -> Verdict`.
    """

    text: str
    source: str
    study: str
    judge: Callable[[Json], Verdict]


def _gain_with_time(results: Json) -> Verdict:
    gain = results["groups"]["all where time matters"]["gain"]
    return Verdict(_shown([gain], GAIN_WITH_TIME), _points(gain))


def _no_loss_without_time(results: Json) -> Verdict:
    gain = results["groups"]["all where it does not"]["gain"]
    return Verdict(_shown([gain], -LOSS_WITHOUT_TIME), _points(gain))


def _better_on_own_clips(results: Json) -> Verdict:
    gain = results["generated"]["mean"]["gain"]
    return Verdict(_shown([gain]), _points(gain))


def _rises_with_n(dimension: str) -> Callable[[Json], Verdict]:
    def judge(results: Json) -> Verdict:
        rows = rows_of(results, dimension, VIDEORM)
        found = ", ".join(f"n = {row['n']}: {percent_within(row['win_over_random'], row['interval'])}" for row in rows)
        return Verdict(_shown(gain for gain in results["gains"][dimension] if gain["n"] <= LARGEST_N), found)

    return judge


def _picks_are_better(results: Json) -> Verdict:
    cells = {name: results["videorm_over"][name]["mean"] for name in (CLIP_LIKE, IMAGE)}
    found = "; ".join(
        f"against {name}: preferred {percent_within(cell['win_rate'], cell['win_rate_interval'])}, {_change(cell)}"
        for name, cell in cells.items()
    )
    return Verdict(_shown(map(_gain, cells.values())), found)


def _raises(measure: str) -> Callable[[Json], Verdict]:
    return lambda results: _is_raised(results["over_untuned"][DRAFT_V][measure])


def _raises_more_than_draft_h(measure: str) -> Callable[[Json], Verdict]:
    return lambda results: _is_raised(results["draftv_over"]["DRaFT-H"][measure])


def _is_raised(cell: Json) -> Verdict:
    return Verdict(_shown([_gain(cell)]), _change(cell))


def _weaker_raises_too(results: Json) -> Verdict:
    weaker = [scale for scale in results["over_untuned"] if 0 < float(scale) < 1]
    cells = {scale: results["over_untuned"][scale]["mean"] for scale in weaker}
    found = "; ".join(f"{scale}: {_change(cell)}" for scale, cell in cells.items())
    return Verdict(_shown(map(_gain, cells.values())), found)


def _one_step_is_enough(results: Json) -> Verdict:
    return _is_raised(results["over_untuned"]["last 1"]["mean"])


def _more_than_ten_is_worse(results: Json) -> Verdict:
    cell = results["last_10_over_all_20"]["mean"]
    return Verdict(_shown([_gain(cell)]), f"last 10 over all 20: {_change(cell)}")


def _guard_stops_in_time(results: Json) -> Verdict:
    found, in_time = [], []  # those that the guard must stop
    for name, runs in results["curves"].items():
        free, default = runs[OFF], runs[f"tolerance {DRaFTVConfig.guard_tolerance:g}"]
        rise, end, last = free[name]["interval"][-1], free["mean"]["change"][-1], free["step"][-1]
        if rise[0] > 0 > end:  # on prompts that it was not tuned on the reward rose, and the truth fell
            in_time.append(default["step"][-1] < last and default["mean"]["change"][-1] >= 0)
        stops = [
            f"at {guard} the guard stops it after {run['step'][-1]} and puts back the LoRA of update "
            f"{run['guard_kept_step']}, at {run['mean']['change'][-1]:+.2f}"
            for guard, run in runs.items()
            if run["step"][-1] < last
        ]
        found.append(
            f"tuned by {name}: the truth at best {max(free['mean']['change']):+.2f}, after {last} updates {end:+.2f}, "
            f"the reward itself {number_within(free[name]['change'][-1], rise)}; {', '.join(stops) or 'not stopped'}"
        )
    return Verdict("yes" if in_time and all(in_time) else "no", ". ".join(found))


def _transformer_is_best(results: Json) -> Verdict:
    return _best(results["ablations"]["temporal head"], "transformer")


def _default_shift_is_best(results: Json) -> Verdict:
    return _best(results["ablations"]["temporal shift"], DEFAULT_SHIFT)


def _more_data_is_better(results: Json) -> Verdict:
    return _best(results["ablations"]["share of the data"], "1.0")


def _eight_frames_are_best(results: Json) -> Verdict:
    rows = [row for row in results["cells"] if row["temperature"] == 0.3]
    means = {
        frames: fmean(row["accuracy"] for row in rows if row["num_frames"] == frames)
        for frames in dict.fromkeys(row["num_frames"] for row in rows)
    }
    low = fmean(row["interval"][0] for row in rows if row["num_frames"] == 8)
    gains = [{"value": means[8] - value, "interval": (low - value,)} for frames, value in means.items() if frames != 8]
    found = ", ".join(f"{frames} frames: {percent_within(value, None)}" for frames, value in means.items())
    return Verdict(_shown(gains), found)


def _ratings_are_shaped_so(results: Json) -> Verdict:
    following, quality = (results["skewness"][name] for name in ("prompt_following", "video_quality"))
    found = f"skewness of prompt following {following:+.2f}, of quality {quality:+.2f}"
    return Verdict("yes" if abs(following) < 0.5 < quality else "no", found)


CLAIMS = (
    Claim("Ratings of prompt following are nearly normal (skewness within 0.5), those of quality are skewed low",
          "paper", "dataset_statistics", _ratings_are_shaped_so),
    Claim("A judge agrees most with the truth at 8 frames (temperature 0.3, mean of both dimensions)",
          "paper", "judge_vs_truth", _eight_frames_are_best),
    Claim("Where time matters, VIDEORM beats its own image reward averaged over frames by 20 points",
          "ours", "reward_accuracy", _gain_with_time),
    Claim("Where time does not matter, it loses at most 2 points", "ours", "reward_accuracy", _no_loss_without_time),
    Claim("It is the better one on the generator's own clips, by the mean rating",
          "paper", "reward_accuracy", _better_on_own_clips),
    Claim("The temporal transformer is the best head where time matters", "paper", "reward_ablations",
          _transformer_is_best),
    Claim("The default shift (residual branch, ends repeated) is the best where time matters", "ours",
          "reward_ablations", _default_shift_is_best),
    Claim("All training data are better than any share of them where time matters", "paper", "reward_ablations",
          _more_data_is_better),
    Claim("Best of n: the win rate rises with n (1, 2, 4, 8), by the mean rating", "paper", "best_of_n",
          _rises_with_n(MEAN)),
    Claim("It rises with n by prompt following", "ours", "best_of_n", _rises_with_n("prompt_following")),
    Claim("VIDEORM's picks are better than those of CLIP-like towers and of the image reward, by the mean rating",
          "paper", "best_of_n", _picks_are_better),
    Claim("DRaFT-V raises the true mean rating", "paper", "draftv", _raises("mean")),
    Claim("It raises how often the motion is as told", "ours", "draftv", _raises("motion")),
    Claim("It raises motion more than DRaFT-H", "paper", "draftv", _raises_more_than_draft_h("motion")),
    Claim("It raises quality more than DRaFT-H", "paper", "draftv", _raises_more_than_draft_h("video_quality")),
    Claim("Its LoRA raises the true mean rating at every strength tried below the full one", "ours", "lora_scale",
          _weaker_raises_too),
    Claim("A gradient through the last step alone raises the true rating already", "paper", "k_and_where",
          _one_step_is_enough),
    Claim("A gradient through more than ten steps is worse", "paper", "k_and_where", _more_than_ten_is_worse),
    Claim("The guard stops every run whose reward rises while the true mean rating falls below that of the start; the "
          "LoRA that it then ends with, at worst that of the start, has not lowered it", "ours", "hacking",
          _guard_stops_in_time),
)  # fmt: skip


def verdict_table(results: Mapping[str, Json]) -> str:
    """Write a row for each claim whose study has been run.

    Args:
        results (`Mapping[str, dict]`): Study to what it found.
    """
    rows = []
    for claim in CLAIMS:
        if claim.study in results:
            verdict = claim.judge(results[claim.study])
            said = "**no**" if verdict.shown == "no" else verdict.shown
            rows.append({"claim": claim.text, "of": claim.source, "shown": said, "found": verdict.found,
                         "study": f"`{claim.study}`"})  # fmt: skip
    return markdown_table(rows)


def draw_main_results(results: Mapping[str, Json], path: Path) -> None:
    """Draw what the small world says in one picture: which clip is better, best of n, tuning."""
    groups = results["reward_accuracy"]["groups"]
    names = (IMAGE, VIDEORM)
    accuracy = {name: [groups[group]["accuracy"][name] for group in GROUPS] for name in (CLIP_LIKE, *names)}
    picked = {name: rows_of(results["best_of_n"], MEAN, name) for name in (*names, TRUTH)}
    tuned = results["draftv"]["over_untuned"]
    shown = {"mean rating": "mean", "prompt following": "prompt_following", "video quality": "video_quality"}

    def draw_picked(axes: Axes) -> None:
        # The colours that both rewards have in the first panel.
        axes.set_prop_cycle(color=["tab:orange", "tab:green", "tab:red"])
        draw_lines(
            axes,
            {name: ([row["n"] for row in rows], [row["win_over_random"] for row in rows])
             for name, rows in picked.items()},
            intervals={name: [row["interval"] or (row["win_over_random"],) * 2 for row in rows]
                       for name, rows in picked.items()},
            xlabel="n",
            ylabel="win rate, by the mean rating",
        )  # fmt: skip

    chart_row(
        path,
        {
            "Which of two clips is better? Accuracy by fault": lambda axes: draw_bars(
                axes,
                list(GROUPS),
                {name: [cell["value"] for cell in row] for name, row in accuracy.items()},
                intervals={name: [cell["interval"] for cell in row] for name, row in accuracy.items()},
                ylabel="pairwise accuracy",
                reference=0.5,
            ),
            "Best of n, chosen by reward": draw_picked,
            "Tuned by reward gradients": lambda axes: draw_bars(
                axes,
                list(tuned),
                {label: [cells[name]["difference"] for cells in tuned.values()] for label, name in shown.items()},
                intervals={label: [cells[name]["difference_interval"] for cells in tuned.values()]
                           for label, name in shown.items()},
                ylabel="change of the true rating (1 to 5)",
                reference=0.0,
            ),
        },
        title="The whole loop in the small world, judged by the truth",
    )  # fmt: skip


def _shown(gains: Iterable[Json], least: float = 0.0) -> str:
    """Tell whether all gains are above the least one that was asked for; see [`Verdict`]."""
    gains = list(gains)
    if all(gain["interval"][0] > least for gain in gains):
        return "yes"
    return "within chance" if all(gain["value"] > least for gain in gains) else "no"


def _gain(cell: Json) -> Json:
    return {"value": cell["difference"], "interval": cell["difference_interval"]}


def _points(gain: Json) -> str:
    low, high = gain["interval"]
    return f"{100 * gain['value']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def _change(cell: Json) -> str:
    return number_within(cell["difference"], cell["difference_interval"])


def _best(variants: Mapping[str, Json], name: str) -> Verdict:
    """Tell whether a variant, that of all other ablations, is better than the others where time matters."""
    values = {other: groups["time matters"] for other, groups in variants.items()}
    found = ", ".join(f"{other}: {percent_within(cell['value'], cell['interval'])}" for other, cell in values.items())
    return Verdict(_shown(cell["behind"] for other, cell in values.items() if other != name), found)
