"""The preference losses and what is reported beside them: pure functions of rewards.

Source: Bradley and Terry 1952, as in Wu et al. 2024 (NeurIPS), VIDEORM; ties after Rao and Kupper 1967 ("Ties in
paired-comparison experiments", JASA 62), or as soft labels (Kirstain et al. 2023, PickScore).
"""

import math

import torch
from torch.nn.functional import logsigmoid

TIE_LOSSES = ("drop", "soft", "rao_kupper")


def preference_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    scale: torch.Tensor | float = 1.0,
    margin: torch.Tensor | None = None,
    is_tie: torch.Tensor | None = None,
    ties: str = "drop",
    tie_theta: float = 2.0,
) -> torch.Tensor:
    """Return each pair's negative log-likelihood.

    With `d = scale * (chosen - rejected)`: `-log sigmoid(d - margin)` for a pair with a winner. A tie costs, with
    `"soft"`, the mean of both orders' losses; with `"rao_kupper"`, minus the logarithm of
    `(theta^2 - 1) sigmoid(d - log theta) sigmoid(-d - log theta)`, and a winner must then win by a threshold:
    `-log sigmoid(d - log theta - margin)`.

    Args:
        chosen (`torch.FloatTensor` of shape `(num_pairs,)`):
            Rewards of the better videos.
        rejected (`torch.FloatTensor` of shape `(num_pairs,)`):
            Rewards of the others.
        scale (`torch.FloatTensor` of shape `()` or `float`, defaults to 1.0):
            Turns rewards into logits.
        margin (`torch.FloatTensor` of shape `(num_pairs,)`, *optional*):
            By how much, in logits, the better video should win, as in TRL. Ties have none.
        is_tie (`torch.BoolTensor` of shape `(num_pairs,)`, *optional*):
            Which pairs are ties.
        ties (`str`, defaults to `"drop"`):
            What a tie costs: `"soft"`, `"rao_kupper"`, or nothing for `"drop"`, which expects none.
        tie_theta (`float`, defaults to 2.0):
            Rao and Kupper's theta, above 1: two videos of equal reward tie with probability
            `(theta - 1) / (theta + 1)`.

    Returns:
        `torch.FloatTensor` of shape `(num_pairs,)`: at least 0, not yet averaged.

    Raises:
        ValueError: If `ties` is unknown or `tie_theta` is not above 1.
    """
    if ties not in TIE_LOSSES:
        raise ValueError(f"ties must be one of {', '.join(TIE_LOSSES)}: got {ties!r}.")
    if not tie_theta > 1:
        raise ValueError(f"tie_theta must be above 1: got {tie_theta}.")
    logits = scale * (chosen - rejected)
    threshold = math.log(tie_theta) if ties == "rao_kupper" else 0.0
    decided = -logsigmoid(logits - threshold - (0.0 if margin is None else margin))
    if is_tie is None or ties == "drop":
        return decided
    if ties == "soft":
        tied = -0.5 * (logsigmoid(logits) + logsigmoid(-logits))
    else:
        tied = -math.log(tie_theta**2 - 1) - logsigmoid(logits - threshold) - logsigmoid(-logits - threshold)
    return torch.where(is_tie, tied, decided)


# What `pair_sums` adds up, in this order.
_SUMS = ("pairs", "decided", "right", "loss", "margin", "chosen", "chosen_squared", "rejected", "rejected_squared")


def pair_sums(
    chosen: torch.Tensor, rejected: torch.Tensor, losses: torch.Tensor, is_tie: torch.Tensor
) -> torch.Tensor:
    """Add up what [`pair_metrics`] needs; the sums of batches and processes may be added.

    Args:
        chosen (`torch.FloatTensor` of shape `(num_pairs,)`): Rewards of the better videos.
        rejected (`torch.FloatTensor` of shape `(num_pairs,)`): Rewards of the others.
        losses (`torch.FloatTensor` of shape `(num_pairs,)`): The pairs' losses.
        is_tie (`torch.BoolTensor` of shape `(num_pairs,)`): Which pairs are ties.

    Returns:
        `torch.DoubleTensor` of shape `(9,)`: on the rewards' device.
    """
    # Double where there is such a type: squares of many rewards lose digits. On Apple's GPUs there is none.
    dtype = torch.float32 if chosen.device.type == "mps" else torch.float64
    chosen, rejected, losses = (values.detach().to(dtype) for values in (chosen, rejected, losses))
    decided = ~is_tie
    right = torch.where(chosen > rejected, 1.0, torch.where(chosen == rejected, 0.5, 0.0)).to(dtype)
    columns = (torch.ones_like(chosen), decided.to(dtype), right * decided, losses, (chosen - rejected) * decided)
    return torch.stack([column.sum() for column in (*columns, chosen, chosen**2, rejected, rejected**2)])


def pair_metrics(sums: torch.Tensor) -> dict[str, float]:
    """Turn sums into what is logged.

    Args:
        sums (`torch.DoubleTensor` of shape `(9,)`):
            What [`pair_sums`] returned, added up.

    Returns:
        `dict[str, float]`: the mean `loss`; `accuracy`, the share of pairs with a winner whose rewards are ordered so
        (equal rewards count one half); `margin`, the mean difference of rewards of those; mean and standard deviation
        of the rewards of chosen and of rejected videos; `num_pairs`. Without any pair, only the last.
    """
    values = dict(zip(_SUMS, sums.tolist(), strict=True))
    count, decided = values["pairs"], values["decided"]
    metrics = {"num_pairs": count}
    if count == 0:
        return metrics
    metrics["loss"] = values["loss"] / count
    if decided:
        metrics |= {"accuracy": values["right"] / decided, "margin": values["margin"] / decided}
    for name in ("chosen", "rejected"):
        mean = values[name] / count
        variance = max(0.0, values[f"{name}_squared"] / count - mean**2)
        metrics |= {f"reward_{name}": mean, f"reward_{name}_std": math.sqrt(variance)}
    return metrics
