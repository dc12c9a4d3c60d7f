"""Which steps of a sampling trajectory build a graph: a value, any subset of the trajectory.

Sources: the last K, DRaFT (Clark et al. 2024, arXiv 2309.17400); a random cutoff, AlignProp (Prabhudesai et al. 2023,
arXiv 2310.03739); steps spread over the trajectory with a detached input, DRTune (Wu et al. 2024, arXiv 2405.00760);
one late step whose clean prediction is scored, ReFL (Xu et al. 2023, arXiv 2304.05977).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

# Given the number of scheduler steps T, the indices of those that build a graph.
StepChoice = Callable[[int], frozenset[int]]

BACKPROP_MODES = ("last", "random", "drtune", "all", "refl")
PAPER_NUM_BACKPROP_STEPS = 10


@dataclass(frozen=True)
class GraphSteps:
    """The scheduler steps of one trajectory that build a graph, and what their graph leads through.

    From the first of them on, the scheduler's arithmetic is in the graph too; the denoiser's calls of the steps
    between them are not, and count as constants.

    Args:
        choose (`Callable[[int], frozenset[int]]`):
            Maps the number T of scheduler steps to step indices, counted from 0.
        at_most (`int`, *optional*):
            How many there can be; None means T.
        detach_input (`bool`, defaults to `False`):
            Whether the denoiser's input is detached in these steps, so that the gradient reaches an earlier one only
            through the scheduler's arithmetic.
        predict_clean (`bool`, defaults to `False`):
            Whether the trajectory ends at the last of them, with the clean sample that the denoiser predicts there.
    """

    choose: StepChoice
    at_most: int | None = None
    detach_input: bool = False
    predict_clean: bool = False


def last_steps(num_backprop_steps: int) -> GraphSteps:
    """Choose the last K steps.

    Args:
        num_backprop_steps (`int`):
            K of the paper, at least 1, at most the number of scheduler steps.

    Returns:
        `GraphSteps`: a K that is no integer or out of range is a `ValueError`, here or when T is known.

    Reference:
        DRaFT-K of Clark et al. 2024 (arXiv 2309.17400), Sec. 3. Differs: none.
    """
    check_num_backprop_steps(num_backprop_steps)

    def choose(num_steps: int) -> frozenset[int]:
        _check_fits(num_backprop_steps, num_steps)
        return frozenset(range(num_steps - num_backprop_steps, num_steps))

    return GraphSteps(choose, num_backprop_steps)


def all_steps() -> GraphSteps:
    """Choose every step.

    Returns:
        `GraphSteps`: K = T.
    """
    return GraphSteps(lambda num_steps: frozenset(range(num_steps)))


def random_last_steps(num_backprop_steps: int | None, seed: int) -> GraphSteps:
    """Choose the last k steps, k drawn once per trajectory, each number from 1 to K with the same chance.

    Args:
        num_backprop_steps (`int`, *optional*):
            K, the largest k; None means T.
        seed (`int`):
            Of the draw.

    Returns:
        `GraphSteps`: a K that is no integer or out of range is a `ValueError`, here or when T is known.

    Reference:
        Prabhudesai et al. 2023 (AlignProp). Differs: one cutoff for the whole trajectory, as the paper says; the
        known implementation draws anew at every step.
    """
    if num_backprop_steps is not None:
        check_num_backprop_steps(num_backprop_steps)

    def choose(num_steps: int) -> frozenset[int]:
        largest = num_steps if num_backprop_steps is None else num_backprop_steps
        _check_fits(largest, num_steps)
        drawn = int(np.random.default_rng(seed).integers(1, largest, endpoint=True))
        return frozenset(range(num_steps - drawn, num_steps))

    return GraphSteps(choose, num_backprop_steps)


def spread_steps(num_backprop_steps: int, seed: int) -> GraphSteps:
    """Choose K steps spread evenly over the whole trajectory from a random start, the denoiser's input detached.

    Step j of K is floor((u + j) T / K) with one u drawn from [0, 1): every step has the same chance K / T.

    Args:
        num_backprop_steps (`int`):
            K, at least 1, at most the number of scheduler steps.
        seed (`int`):
            Of the draw.

    Returns:
        `GraphSteps`: a K that is no integer or out of range is a `ValueError`, here or when T is known.

    Reference:
        Wu et al. 2024 (DRTune, arXiv 2405.00760). Differs: no early stop.
    """
    check_num_backprop_steps(num_backprop_steps)

    def choose(num_steps: int) -> frozenset[int]:
        _check_fits(num_backprop_steps, num_steps)
        start = np.random.default_rng(seed).random()
        return frozenset(int((start + j) * num_steps / num_backprop_steps) for j in range(num_backprop_steps))

    return GraphSteps(choose, num_backprop_steps, detach_input=True)


def refl_step(step_range: Sequence[int] | None, seed: int) -> GraphSteps:
    """Choose one late step, drawn with the same chance from a range, and end with the clean sample predicted there.

    Args:
        step_range (`list[int]`, *optional*):
            First and last step index, counted from 0, both included; by default the last quarter of the trajectory.
        seed (`int`):
            Of the draw.

    Returns:
        `GraphSteps`: a range that is empty or leaves the trajectory is a `ValueError`, here or when T is known.

    Reference:
        Xu et al. 2023 (ReFL, arXiv 2304.05977): 40 steps, one of 30 to 39. Differs: none.
    """
    if step_range is not None:
        check_refl_range(step_range)

    def choose(num_steps: int) -> frozenset[int]:
        first, last = step_range if step_range is not None else (3 * num_steps // 4, num_steps - 1)
        if last >= num_steps:
            raise ValueError(
                f"refl_range must lie within the trajectory: got {[first, last]}, but the scheduler takes {num_steps} "
                f"steps, 0 to {num_steps - 1}."
            )
        return frozenset({int(np.random.default_rng(seed).integers(first, last, endpoint=True))})

    return GraphSteps(choose, at_most=1, predict_clean=True)


def these_steps(steps: Collection[int]) -> GraphSteps:
    """Choose exactly the given steps, the graph leading through the denoiser's input as well.

    Args:
        steps (`Collection[int]`):
            Step indices, counted from 0, at least one.

    Returns:
        `GraphSteps`: indices outside the trajectory are a `ValueError` when T is known.

    Raises:
        ValueError: If there is none.
    """
    chosen = frozenset(steps)
    if not chosen:
        raise ValueError("The steps that build a graph must be at least one: got none.")
    return GraphSteps(lambda num_steps: chosen, len(chosen))


def make_graph_steps(
    backprop: str, num_backprop_steps: int | None, seed: int, refl_range: Sequence[int] | None = None
) -> GraphSteps:
    """Build the choice that settings describe.

    Args:
        backprop (`str`):
            One of `"last"`, `"random"`, `"drtune"`, `"all"` and `"refl"`.
        num_backprop_steps (`int`, *optional*):
            K; None means 10 for `"last"` and `"drtune"`, T for `"random"`.
        seed (`int`):
            Of the draw, where there is one.
        refl_range (`list[int]`, *optional*):
            For `"refl"`.

    Returns:
        `GraphSteps`: the choice; settings that contradict each other are a `ValueError`.
    """
    check_backprop(backprop, num_backprop_steps, refl_range)
    num_or_paper = PAPER_NUM_BACKPROP_STEPS if num_backprop_steps is None else num_backprop_steps
    if backprop == "last":
        return last_steps(num_or_paper)
    if backprop == "random":
        return random_last_steps(num_backprop_steps, seed)
    if backprop == "drtune":
        return spread_steps(num_or_paper, seed)
    if backprop == "all":
        return all_steps()
    return refl_step(refl_range, seed)


def check_backprop(backprop: str, num_backprop_steps: int | None, refl_range: Sequence[int] | None) -> None:
    """Check what can be known of these settings before sampling starts.

    Args:
        backprop (`str`):
            The mode.
        num_backprop_steps (`int`, *optional*):
            K.
        refl_range (`list[int]`, *optional*):
            First and last step of ReFL.

    Raises:
        ValueError: If the mode is unknown, K is out of range, or a setting does not belong to the mode.
    """
    if backprop not in BACKPROP_MODES:
        raise ValueError(f"backprop must be one of {list(BACKPROP_MODES)}: got {backprop!r}.")
    if num_backprop_steps is not None:
        check_num_backprop_steps(num_backprop_steps)
        if backprop in ("all", "refl"):
            raise ValueError(
                f"num_backprop_steps must be None for backprop={backprop!r}, which says itself how many steps build a "
                f"graph: got {num_backprop_steps}."
            )
    if refl_range is not None:
        if backprop != "refl":
            raise ValueError(f'refl_range belongs to backprop="refl": got it with backprop={backprop!r}.')
        check_refl_range(refl_range)


def check_num_backprop_steps(num_backprop_steps: int) -> None:
    """Check what can be known about K before sampling starts.

    Args:
        num_backprop_steps (`int`):
            K of the paper.

    Raises:
        ValueError: If K is not an integer of at least 1.
    """
    is_integer = isinstance(num_backprop_steps, int) and not isinstance(num_backprop_steps, bool)
    if not is_integer or num_backprop_steps < 1:
        raise ValueError(
            f"num_backprop_steps must be an integer of at least 1: got {num_backprop_steps!r}. "
            "It is the number of sampling steps that the gradient passes through."
        )


def check_refl_range(step_range: Sequence[int]) -> None:
    """Check what can be known about ReFL's range before sampling starts.

    Args:
        step_range (`list[int]`):
            First and last step index, both included.

    Raises:
        ValueError: If it is not two integers in order, the first at least 0.
    """
    if len(step_range) != 2 or not 0 <= step_range[0] <= step_range[1]:
        raise ValueError(f"refl_range must be the first and last step, 0 <= first <= last: got {list(step_range)}.")


def _check_fits(num_backprop_steps: int, num_steps: int) -> None:
    """Raise when K exceeds the number of steps."""
    if num_backprop_steps > num_steps:
        raise ValueError(
            f"num_backprop_steps must be at most the number of sampling steps: got {num_backprop_steps}, but the "
            f"scheduler takes {num_steps} steps. Lower num_backprop_steps or raise num_inference_steps."
        )
