"""The rewards of a mixture: named, weighted, checked, scored, and turned into a loss on the frames.

Source: the DRaFT-V objective (Wu et al. 2024, Sec. 3.3): maximise the reward of the sampled clip.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from videorm_hf.rewards import VideoRMBlipReward, VideoRMReward
from videorm_hf.rewards.function import reward_name, taken_columns

RewardFunction = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class RewardTerm:
    """One reward of the mixture.

    Args:
        name (`str`):
            Under which it is logged.
        function (`Callable`):
            `(frames (B, T, 3, H, W) in [0, 1], prompts, **columns) -> (B,)`.
        weight (`float`):
            Its share in the total. At 0 it is computed without a graph, only to be logged.
        columns (`frozenset[str]`, *optional*):
            The dataset columns it takes; None means all of them.
    """

    name: str
    function: RewardFunction
    weight: float
    columns: frozenset[str] | None

    def score(self, frames_BTCHW: torch.Tensor, prompts: list[str], columns: dict[str, list[Any]]) -> torch.Tensor:
        """Call the reward with the columns it takes and check what it returns.

        Args:
            frames_BTCHW (`torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`):
                Values in `[0, 1]`.
            prompts (`list[str]`):
                One text per clip.
            columns (`dict[str, list[Any]]`):
                The dataset's other columns.

        Returns:
            `torch.Tensor` of shape `(batch_size,)`, float32: higher is better. Values of the wrong type or shape, or
            not differentiable, are a `TypeError` or `ValueError`; whether they are finite is the caller's to judge.
        """
        taken = columns.keys() - {"frames", "prompts"} if self.columns is None else columns.keys() & self.columns
        chosen = {key: columns[key] for key in sorted(taken)}
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.weight != 0.0):
            values = self.function(frames_BTCHW, prompts, **chosen)
            self._check(values, frames_BTCHW, prompts)
            return values.float()

    def _check(self, values: torch.Tensor, frames_BTCHW: torch.Tensor, prompts: list[str]) -> None:
        """Raise what is wrong with the values, saying what was got and what was expected."""
        if not isinstance(values, torch.Tensor) or not values.is_floating_point():
            kind = values.dtype if isinstance(values, torch.Tensor) else type(values).__name__
            raise TypeError(f"Reward {self.name!r} must return a floating-point tensor: got {kind}.")
        if values.shape != (len(prompts),):
            raise ValueError(
                f"Reward {self.name!r} must return one value per video, shape ({len(prompts)},): got shape "
                f"{tuple(values.shape)} for frames of shape {tuple(frames_BTCHW.shape)}."
            )
        if torch.is_grad_enabled() and not values.requires_grad:
            raise ValueError(
                f"Reward {self.name!r} cannot be differentiated: its values carry no graph to the frames. Remove "
                "detach(), torch.no_grad() and NumPy from it, or give it the weight 0 to log it only."
            )


def make_reward_terms(functions: Sequence[RewardFunction], weights: Sequence[float] | None = None) -> list[RewardTerm]:
    """Name the rewards, pair them with their weights and find out which columns each takes.

    Args:
        functions (`list[Callable]`):
            The rewards.
        weights (`list[float]`, *optional*):
            One per reward; by default 1 each.

    Returns:
        `list[RewardTerm]`: in the same order; a name that occurs twice is numbered (`mean`, `mean_2`).

    Raises:
        TypeError: If a reward cannot be called.
        ValueError: If there is no reward, weights and rewards differ in number, or all weights are 0.
    """
    if not functions:
        raise ValueError("reward_funcs must hold at least one reward: got none.")
    weights = [1.0] * len(functions) if weights is None else list(weights)
    if len(weights) != len(functions):
        raise ValueError(f"reward_weights must hold one weight per reward: got {len(weights)} for {len(functions)}.")
    if not any(weights):
        raise ValueError(f"At least one of reward_weights must differ from 0: got {weights}.")
    terms: list[RewardTerm] = []
    for function, weight in zip(functions, weights, strict=True):
        if not callable(function):
            raise TypeError(
                "reward_funcs must hold callables (frames, prompts, **columns) -> (batch,), paths of VIDEORM folders, "
                f"or names with weights (`hps_v2:PATH`): got {type(function).__name__}."
            )
        name = reward_name(function)
        earlier = sum(re.fullmatch(rf"{re.escape(name)}(_\d+)?", term.name) is not None for term in terms)
        name = f"{name}_{earlier + 1}" if earlier else name
        terms.append(RewardTerm(name, function, float(weight), taken_columns(function)))
    return terms


@dataclass(frozen=True)
class Scores:
    """What the rewards say of a batch of clips.

    Args:
        loss (`torch.Tensor`):
            Minus the mean clipped total, a scalar; with a graph to the frames where one was asked for.
        rewards (`torch.Tensor` of shape `(num_rewards, batch_size)`):
            Unweighted and unclipped, without a graph.
        total (`torch.Tensor` of shape `(batch_size,)`):
            Weighted sum, unclipped, without a graph.
        grad_norms (`torch.Tensor` of shape `(num_rewards,)`):
            For each reward, the L2 norm of its gradient with respect to the frames of one clip, mean over the batch;
            unweighted, 0 for clips above the clip value and for rewards of weight 0.
    """

    loss: torch.Tensor
    rewards: torch.Tensor
    total: torch.Tensor
    grad_norms: torch.Tensor

    def metrics(self, terms: Sequence[RewardTerm]) -> dict[str, torch.Tensor]:
        """Name what is logged.

        Args:
            terms (`list[RewardTerm]`):
                The rewards.

        Returns:
            `dict[str, torch.Tensor]`: `reward`, `rewards/<name>`, and `grad_norm/<name>` where the loss has a graph;
            scalars, means over the batch.
        """
        named = {"reward": self.total.mean()}
        named |= {f"rewards/{term.name}": row.mean() for term, row in zip(terms, self.rewards, strict=True)}
        if self.loss.requires_grad:
            named |= {f"grad_norm/{term.name}": norm for term, norm in zip(terms, self.grad_norms, strict=True)}
        return named


def frames_to_read(terms: Sequence[RewardTerm]) -> int | None:
    """Return the most frames that a VIDEORM among the rewards reads; `None` without one.

    Args:
        terms (`list[RewardTerm]`):
            The rewards.
    """
    rewards = [term.function for term in terms if isinstance(term.function, torch.nn.Module)]
    parts = [part for reward in rewards for part in reward.modules()]
    return max(
        (part.num_frames for part in parts if isinstance(part, VideoRMReward | VideoRMBlipReward)), default=None
    )


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Average the scores of several samples for the same prompts.

    Args:
        scores (`list[Scores]`):
            One or more.

    Returns:
        `Scores`: the mean of each part.
    """
    return Scores(
        loss=torch.stack([score.loss for score in scores]).mean(),
        rewards=torch.stack([score.rewards for score in scores]).mean(dim=0),
        total=torch.stack([score.total for score in scores]).mean(dim=0),
        grad_norms=torch.stack([score.grad_norms for score in scores]).mean(dim=0),
    )


def score_frames(
    terms: Sequence[RewardTerm],
    frames_BTCHW: torch.Tensor,
    prompts: list[str],
    columns: dict[str, list[Any]],
    reward_clip: float | None = None,
) -> Scores:
    """Score clips by every reward and form the loss -mean_b min(sum_i w_i r_i(b), clip).

    With gradients on, the rewards are differentiated here, to the frames, and the loss carries that gradient on: so
    each reward's gradient norm costs nothing more, and the rewards' activations are gone before the backward pass
    through the pipeline begins.

    Args:
        terms (`list[RewardTerm]`):
            The rewards.
        frames_BTCHW (`torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`):
            Values in `[0, 1]`.
        prompts (`list[str]`):
            One text per clip.
        columns (`dict[str, list[Any]]`):
            The dataset's other columns.
        reward_clip (`float`, *optional*):
            The largest total that counts: a clip above it gives no gradient.

    Returns:
        `Scores`: with a graph to `frames_BTCHW` if gradients are on.
    """
    differentiate = torch.is_grad_enabled()
    # Rewards refuse frames that are not finite: such a clip is scored as grey, and its rewards are then not finite.
    is_finite = frames_BTCHW.detach().isfinite().flatten(1).all(dim=1)
    seen = torch.where(is_finite[:, None, None, None, None], frames_BTCHW.detach(), 0.5).requires_grad_(differentiate)
    values: list[torch.Tensor] = []
    gradients: dict[int, torch.Tensor] = {}
    for index, term in enumerate(terms):
        value = term.score(seen, prompts, columns)
        if differentiate and reward_clip is None and term.weight != 0.0:
            # At once: one reward's activations are gone when the next one's are made.
            gradients[index] = _gradient(term, value, seen, torch.ones_like(value))
            value = value.detach()
        values.append(value)
    rewards = torch.stack([torch.where(is_finite, value.detach(), torch.nan) for value in values])
    weights = torch.tensor([term.weight for term in terms], device=rewards.device)
    # Only what counts: a reward of weight 0 is logged, and one that is not a number there spoils nothing.
    counted = weights != 0
    total = (weights[counted, None] * rewards[counted]).sum(dim=0)
    clipped = total if reward_clip is None else total.clamp(max=reward_clip)
    loss, grad_norms = -clipped.mean(), torch.zeros(len(terms), device=rewards.device)
    if differentiate:
        if reward_clip is not None:  # which clips count is known when all rewards are
            counts = (total <= reward_clip).to(total.dtype)
            counted_terms = [index for index, term in enumerate(terms) if term.weight != 0.0]
            gradients = {index: _gradient(terms[index], values[index], seen, counts) for index in counted_terms}
        slope = torch.zeros_like(seen)
        for index, gradient in gradients.items():
            grad_norms[index] = gradient.flatten(1).norm(dim=1).mean()
            slope -= terms[index].weight / len(total) * gradient
        linear = (frames_BTCHW * slope).sum()
        # Worth exactly 0: it lends the loss its gradient and leaves its value.
        loss = loss + (linear - linear.detach())
    return Scores(loss, rewards, total, grad_norms)


def _gradient(term: RewardTerm, value: torch.Tensor, frames: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Differentiate the sum of one reward over the clips that count, to the frames."""
    (gradient,) = torch.autograd.grad(value, frames, grad_outputs=counts, allow_unused=True)
    if gradient is None:
        raise ValueError(
            f"Reward {term.name!r} cannot be differentiated: its values carry a graph, but none to the frames. Remove "
            "detach(), torch.no_grad() and NumPy from it, or give it the weight 0 to log it only."
        )
    return gradient


def check_finite(terms: Sequence[RewardTerm], rewards: torch.Tensor, prompts: list[str]) -> None:
    """Check that every reward of every clip is finite.

    Args:
        terms (`list[RewardTerm]`):
            The rewards.
        rewards (`torch.Tensor` of shape `(num_rewards, batch_size)`):
            Their values.
        prompts (`list[str]`):
            One text per clip.

    Raises:
        ValueError: If one is not; the message names the reward and the prompt.
    """
    wrong = (~torch.isfinite(rewards)).nonzero().tolist()
    if wrong:
        index, clip = wrong[0]
        raise ValueError(
            f"Reward {terms[index].name!r} must return finite values: got {rewards[index, clip].item()} for the "
            f"prompt {prompts[clip]!r}."
        )
