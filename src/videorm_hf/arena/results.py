"""What votes say: win, tie and lose of one model against another, and how far raters agree.

Wu et al. 2024 (NeurIPS), Sec. 4, report win / tie / lose of several raters over prompts; how votes of several raters
are brought together is open. Here every vote counts, and intervals resample prompts with all their votes.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binomtest

from videorm_hf.annotation.agreement import Agreement, Estimate, measure_agreement
from videorm_hf.annotation.opinions import opinions_of_votes
from videorm_hf.arena.duels import Duel
from videorm_hf.arena.votes import Vote
from videorm_hf.evaluation.labels import LabelledPair
from videorm_hf.evaluation.metrics import are_tied, mean_interval

DIMENSION = "overall"


@dataclass(frozen=True)
class ModelComparison:
    """Votes on the videos of two models; wins are B's.

    Args:
        model_a (`str`): The model whose videos stand first in the items.
        model_b (`str`): The other one.
        wins (`int`): Votes that B's video is better.
        ties (`int`): Votes that neither is.
        losses (`int`): Votes that A's video is better.
        num_prompts (`int`): Prompts that were voted on.
        num_raters (`int`): People who voted.
        shares (`dict[str, Estimate]`): `win`, `tie`, `lose`: share of the votes, with its interval over prompts.
        win_rate ([`Estimate`]): Share of the votes that B wins, a tie counting one half.
        sign_test (`float`): Exact two-sided p-value; each prompt is one vote, its majority; even prompts are left out.
    """

    model_a: str
    model_b: str
    wins: int
    ties: int
    losses: int
    num_prompts: int
    num_raters: int
    shares: dict[str, Estimate]
    win_rate: Estimate
    sign_test: float


@dataclass(frozen=True)
class RaterAgreement:
    """How far several people say the same.

    Args:
        num_raters (`int`): People who voted.
        num_shared (`int`): Duels with two votes or more.
        same_answer ([`Estimate`]): Share of all two votes on one duel that say the same of better, tie, worse.
        alpha (`float`, *optional*):
            Krippendorff's alpha of the three answers: 1 is full agreement, 0 what chance gives; `None` where it is not
            defined.
        by_rater (`dict[str, Agreement | None]`): Each rater against the mean of all others; `None` without overlap.
        left_share (`float`, *optional*): Share of the left video in votes that are no ties: 0.5 without bias.
    """

    num_raters: int
    num_shared: int
    same_answer: Estimate
    alpha: float | None
    by_rater: dict[str, Agreement | None]
    left_share: float | None


def labelled_votes(votes: Sequence[Vote], duels: Mapping[str, Duel]) -> list[LabelledPair]:
    """Turn votes into labelled pairs, a and b as in the duel, whatever side they stood on.

    Args:
        votes (`Sequence[Vote]`): Of a store.
        duels (`Mapping[str, Duel]`): By `duel_id`.

    Returns:
        `list[LabelledPair]`: one for each vote; 1 for the better video, one half each for a tie.
    """
    pairs = []
    for vote in votes:
        duel = duels[vote.duel_id]
        left = {"left": 1.0, "tie": 0.5, "right": 0.0}[vote.choice]
        a = left if vote.left_id == duel.a.candidate_id else 1.0 - left
        ids = (duel.a.candidate_id, duel.b.candidate_id)
        pairs.append(LabelledPair(duel.item_id, duel.prompt, DIMENSION, *ids, a, 1.0 - a))
    return pairs


def compare_models(votes: Sequence[Vote], duels: Mapping[str, Duel]) -> list[ModelComparison]:
    """Count who wins, for every two models that were voted on.

    Args:
        votes (`Sequence[Vote]`): Of a store.
        duels (`Mapping[str, Duel]`): By `duel_id`.

    Returns:
        `list[ModelComparison]`: in the order in which two models first meet. Duels of a model with itself are not
        counted.
    """
    order = list(dict.fromkeys(model for duel in duels.values() for model in (duel.a.model, duel.b.model)))
    found: dict[tuple[str, str], list[tuple[Vote, float]]] = {}
    for vote, pair in zip(votes, labelled_votes(votes, duels), strict=True):
        duel = duels[vote.duel_id]
        a, b = duel.a.model, duel.b.model
        if a == b:
            continue
        is_turned = order.index(a) > order.index(b)
        key, value = ((b, a), pair.human_a) if is_turned else ((a, b), pair.human_b)
        found.setdefault(key, []).append((vote, value))
    return [_compare(*models, rows, duels) for models, rows in found.items()]


def _compare(
    model_a: str, model_b: str, rows: Sequence[tuple[Vote, float]], duels: Mapping[str, Duel]
) -> ModelComparison:
    """Count one comparison; the values are 1 where B wins, one half where nobody does."""
    values = np.array([value for _, value in rows])
    prompts = [duels[vote.duel_id].prompt for vote, _ in rows]
    each = {"win": values == 1.0, "tie": values == 0.5, "lose": values == 0.0}
    by_prompt: dict[str, float] = {}
    for prompt, value in zip(prompts, values, strict=True):
        by_prompt[prompt] = by_prompt.get(prompt, 0.0) + value - 0.5
    won, lost = (sum(sign * balance > 0 for balance in by_prompt.values()) for sign in (1, -1))
    return ModelComparison(
        model_a=model_a,
        model_b=model_b,
        wins=int(each["win"].sum()),
        ties=int(each["tie"].sum()),
        losses=int(each["lose"].sum()),
        num_prompts=len(by_prompt),
        num_raters=len({vote.rater for vote, _ in rows}),
        shares={name: Estimate(float(is_so.mean()), mean_interval(is_so, prompts)) for name, is_so in each.items()},
        win_rate=Estimate(float(values.mean()), mean_interval(values, prompts)),
        sign_test=float(binomtest(won, won + lost).pvalue) if won + lost else 1.0,
    )


def measure_raters(votes: Sequence[Vote], duels: Mapping[str, Duel]) -> RaterAgreement:
    """Compare the raters with each other.

    Args:
        votes (`Sequence[Vote]`): Of a store.
        duels (`Mapping[str, Duel]`): By `duel_id`.

    Returns:
        [`RaterAgreement`]
    """
    pairs = labelled_votes(votes, duels)
    answers: dict[str, list[float]] = {}
    for vote, pair in zip(votes, pairs, strict=True):
        answers.setdefault(vote.duel_id, []).append(pair.human_a)
    same = [
        (first == second, duels[duel_id].prompt)
        for duel_id, values in answers.items()
        for first, second in itertools.combinations(values, 2)
    ]
    credit, prompts = [float(is_same) for is_same, _ in same], [prompt for _, prompt in same]
    raters = sorted({vote.rater for vote in votes})
    decided = [vote.choice for vote in votes if vote.choice != "tie"]
    return RaterAgreement(
        num_raters=len(raters),
        num_shared=sum(len(values) > 1 for values in answers.values()),
        same_answer=Estimate(float(np.mean(credit)), mean_interval(credit, prompts)) if same else Estimate(None),
        alpha=krippendorff_alpha(list(answers.values())),
        by_rater={rater: _against_others(rater, votes, pairs) for rater in raters},
        left_share=decided.count("left") / len(decided) if decided else None,
    )


def _against_others(rater: str, votes: Sequence[Vote], pairs: Sequence[LabelledPair]) -> Agreement | None:
    # Intervals are over prompts, of which there may be several duels: a pair's prompt is its item here.
    pairs = [
        replace(pair, item_id=pair.prompt, a_id=f"{pair.item_id} {pair.a_id}", b_id=f"{pair.item_id} {pair.b_id}")
        for pair in pairs
    ]
    mine = [pair for vote, pair in zip(votes, pairs, strict=True) if vote.rater == rater]
    others = [pair for vote, pair in zip(votes, pairs, strict=True) if vote.rater != rater]
    reference = opinions_of_votes(others, "all others", DIMENSION)
    decided = {key for key, (a, b) in reference.pairs.items() if not are_tied(a, b)}
    judge = opinions_of_votes(mine, rater, DIMENSION)
    return measure_agreement(judge, reference) if decided & judge.pairs.keys() else None


def krippendorff_alpha(units: Sequence[Sequence[float]]) -> float | None:
    """Compute Krippendorff's alpha for answers without order: 1 - observed / expected disagreement.

    Args:
        units (`Sequence[Sequence[float]]`): The answers to each question, of any number of raters; those to fewer than
            two say nothing.

    Returns:
        `float`: at most 1; `None` where no question has two answers, or all answers are the same.

    Reference:
        Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability". Differs: none.
    """
    units = [unit for unit in units if len(unit) > 1]
    labels = sorted({answer for unit in units for answer in unit})
    if len(labels) < 2:
        return None
    counts = np.array([[list(unit).count(label) for label in labels] for unit in units])  # (units, labels)
    sizes, totals = counts.sum(axis=1), counts.sum(axis=0)
    observed = ((sizes**2 - (counts**2).sum(axis=1)) / (sizes - 1)).sum()
    expected = (totals.sum() ** 2 - (totals**2).sum()) / (totals.sum() - 1)
    return float(1 - observed / expected)
