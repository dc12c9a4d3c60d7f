"""Which of two models a reward prefers: win, tie or lose for each prompt, and how sure that is.

Source: the win / tie / lose tables of Wu et al. 2024 (NeurIPS), Sec. 4; sign test after Conover 1999, Sec. 3.4;
percentile bootstrap after Efron and Tibshirani 1993, Sec. 13.3.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import binomtest

Outcome = Literal["win", "tie", "lose"]
CONFIDENCE = 0.95
_NUM_RESAMPLES = 10_000


@dataclass(frozen=True)
class RewardComparison:
    """What one reward says of B against A over pairs of videos with the same prompt and noise.

    Args:
        name (`str`):
            The reward.
        tie_margin (`float`):
            A pair is a tie when its rewards differ by no more.
        num_pairs (`int`):
            Pairs of videos.
        num_prompts (`int`):
            Distinct prompts among them.
        mean_a (`float`):
            Mean reward of A.
        mean_b (`float`):
            Mean reward of B.
        difference (`float`):
            Mean of B minus A.
        difference_interval (`tuple[float, float]`, *optional*):
            95 % bootstrap interval of the difference over prompts; None for a single prompt.
        wins (`int`):
            Pairs that B wins.
        ties (`int`):
            Pairs that nobody wins.
        losses (`int`):
            Pairs that A wins.
        win_rate (`float`):
            Share of pairs that B wins, a tie counting one half.
        win_rate_interval (`tuple[float, float]`, *optional*):
            95 % bootstrap interval of the win rate over prompts; None for a single prompt.
        sign_test (`float`):
            Two-sided exact p-value of equally many prompts on either side, each prompt one vote, ties left out.
    """

    name: str
    tie_margin: float
    num_pairs: int
    num_prompts: int
    mean_a: float
    mean_b: float
    difference: float
    difference_interval: tuple[float, float] | None
    wins: int
    ties: int
    losses: int
    win_rate: float
    win_rate_interval: tuple[float, float] | None
    sign_test: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as values that JSON can hold."""
        return dataclasses.asdict(self)


def judge(difference: float, tie_margin: float = 0.0) -> Outcome:
    """Tell how B does in one pair.

    Args:
        difference (`float`):
            B's reward minus A's.
        tie_margin (`float`, defaults to `0.0`):
            The largest difference that counts as a tie.

    Returns:
        `str`: `"win"`, `"tie"` or `"lose"`.
    """
    if abs(difference) <= tie_margin:
        return "tie"
    return "win" if difference > 0 else "lose"


def sign_test(wins: int, losses: int) -> float:
    """Compute the exact two-sided p-value of a fair coin: min(1, 2 P[X <= min(wins, losses)]), X ~ Bin(n, 1/2).

    Args:
        wins (`int`):
            Votes for one side.
        losses (`int`):
            Votes for the other.

    Returns:
        `float`: in `(0, 1]`; 1 where there are no votes.
    """
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def compare_rewards(
    name: str, rewards_a: Sequence[float], rewards_b: Sequence[float], prompts: Sequence[str], tie_margin: float = 0.0
) -> RewardComparison:
    """Compare paired rewards.

    A prompt that occurs several times is one unit of the bootstrap and one vote of the sign test: videos of one prompt
    are no independent evidence.

    Args:
        name (`str`):
            The reward.
        rewards_a (`list[float]`):
            Of A's videos.
        rewards_b (`list[float]`):
            Of B's videos, in the same order.
        prompts (`list[str]`):
            One text per pair.
        tie_margin (`float`, defaults to `0.0`):
            The largest difference that counts as a tie.

    Returns:
        `RewardComparison`: the result; the bootstrap is seeded, so it is the same every time.

    Raises:
        ValueError: If there are no pairs, numbers differ, or the margin is negative.
    """
    if not len(rewards_a) == len(rewards_b) == len(prompts) or not prompts:
        raise ValueError(
            "compare_rewards needs one reward of A and of B per prompt, and at least one: got "
            f"{len(rewards_a)}, {len(rewards_b)} and {len(prompts)}."
        )
    if not tie_margin >= 0.0:
        raise ValueError(f"tie_margin must be at least 0: got {tie_margin}.")
    a, b = np.asarray(rewards_a, np.float64), np.asarray(rewards_b, np.float64)
    differences = b - a
    outcomes = [judge(difference, tie_margin) for difference in differences.tolist()]
    scores = np.array([{"win": 1.0, "tie": 0.5, "lose": 0.0}[outcome] for outcome in outcomes])
    numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(prompts))}
    units = np.array([numbers[prompt] for prompt in prompts])
    counts = np.bincount(units)
    votes = [judge(mean, tie_margin) for mean in (np.bincount(units, differences) / counts).tolist()]
    return RewardComparison(
        name=name,
        tie_margin=float(tie_margin),
        num_pairs=len(prompts),
        num_prompts=len(counts),
        mean_a=float(a.mean()),
        mean_b=float(b.mean()),
        difference=float(differences.mean()),
        difference_interval=_bootstrap(np.bincount(units, differences), counts),
        wins=outcomes.count("win"),
        ties=outcomes.count("tie"),
        losses=outcomes.count("lose"),
        win_rate=float(scores.mean()),
        win_rate_interval=_bootstrap(np.bincount(units, scores), counts),
        sign_test=sign_test(votes.count("win"), votes.count("lose")),
    )


def _bootstrap(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float] | None:
    """Return the percentile interval of the mean, drawing whole prompts with replacement."""
    if len(sums) < 2:
        return None
    draws = np.random.default_rng(0).integers(len(sums), size=(_NUM_RESAMPLES, len(sums)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
