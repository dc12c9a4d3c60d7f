"""Does a reward heed the prompt and time, and ignore how a file was encoded?

Each video is scored as it is and altered. What should harm the score: another video's prompt; the same frames in
reverse, out of order, or one of them throughout. What should not matter: frame rate, container, compression, size.
"""

import itertools
from collections.abc import Iterable, Mapping

import numpy as np

from videorm_hf.evaluation.evaluator import DEFAULT_BOOTSTRAP, Bootstrap
from videorm_hf.evaluation.results import RobustnessResult
from videorm_hf.evaluation.variants import VARIANTS
from videorm_hf.evaluation.video_scores import VideoRequest

OTHER_PROMPT = "other_prompt"
_HEED = (OTHER_PROMPT, "reversed", "shuffled", "frozen")
# A change below this many standard deviations is rounding, such as that of a mean over frames in another order.
_TIE = 1e-4


def altered_requests(requests: Iterable[VideoRequest], seed: int = 0) -> dict[str, dict[VideoRequest, VideoRequest]]:
    """Plan all checks.

    Args:
        requests (`Iterable[VideoRequest]`): Unaltered videos with their prompts.
        seed (`int`, defaults to 0): Of which other prompt a prompt is replaced with; each serves once.

    Returns:
        `dict[str, dict]`: of each check, the altered request for each unaltered one. With a single prompt there is no
        other one, and that check is empty.
    """
    requests = list(dict.fromkeys(requests))
    prompts = sorted({request.prompt for request in requests})
    np.random.default_rng(seed).shuffle(prompts)
    other = dict(zip(prompts, prompts[1:] + prompts[:1], strict=True)) if len(prompts) > 1 else {}
    plans = {OTHER_PROMPT: {r: r._replace(prompt=other[r.prompt]) for r in requests if other}}
    return plans | {variant: {r: r._replace(variant=variant) for r in requests} for variant in VARIANTS}


def judge_robustness(
    plans: Mapping[str, Mapping[VideoRequest, VideoRequest]],
    rewards: Mapping[VideoRequest, float],
    groups: Iterable[Iterable[VideoRequest]],
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
) -> tuple[RobustnessResult, ...]:
    """Compare the scores of altered videos with those of the unaltered ones.

    Args:
        plans (`Mapping`): Of each check, unaltered to altered requests; see [`altered_requests`].
        rewards (`Mapping[VideoRequest, float]`): All scores; videos that could not be scored are absent.
        groups (`Iterable[Iterable[VideoRequest]]`): The unaltered requests of each prompt's videos, for the flips.
        bootstrap ([`Bootstrap`]): How intervals are made.

    Returns:
        `tuple[RobustnessResult, ...]`: one a check.
    """
    originals = {request for plan in plans.values() for request in plan}
    spread = float(np.std([rewards[request] for request in originals if request in rewards] or [0.0]))
    distinct = [list(dict.fromkeys(group)) for group in groups]
    return tuple(_judge(check, plan, rewards, distinct, spread, bootstrap) for check, plan in plans.items())


def _judge(
    check: str,
    plan: Mapping[VideoRequest, VideoRequest],
    rewards: Mapping[VideoRequest, float],
    groups: list[list[VideoRequest]],
    spread: float,
    bootstrap: Bootstrap,
) -> RobustnessResult:
    both = {old: new for old, new in plan.items() if old in rewards and new in rewards}
    changes = {old: rewards[old] - rewards[new] for old, new in both.items()}
    wins = [_win(change, spread) for change in changes.values()]
    flips = [
        flip
        for group in groups
        for a, b in itertools.combinations([request for request in group if request in both], 2)
        if (flip := _flip(rewards[a] - rewards[b], rewards[both[a]] - rewards[both[b]], spread)) is not None
    ]
    return RobustnessResult(
        check=check,
        should="heed" if check in _HEED else "ignore",
        num_videos=len(both),
        original_wins=float(np.mean(wins)) if wins else None,
        interval=bootstrap.interval(wins, [request.prompt for request in both]) if wins else None,
        drift=float(np.mean(np.abs(list(changes.values())))) / spread if wins and spread else None,
        flipped=float(np.mean(flips)) if flips else None,
        num_pairs=len(flips),
    )


def _win(change: float, spread: float) -> float:
    return 0.5 if abs(change) <= _TIE * spread else float(change > 0)


def _flip(before: float, after: float, spread: float) -> float | None:
    """Return 1 if the order changed, 0.5 if it was lost, 0 if it stayed; `None` if there was none."""
    if abs(before) <= _TIE * spread:
        return None
    return 0.5 if abs(after) <= _TIE * spread else float((before > 0) != (after > 0))
