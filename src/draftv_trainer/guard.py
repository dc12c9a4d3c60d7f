"""The guard against reward hacking: monitors that are never trained on must not fall while the trained reward rises.

Where they do, the run ends with the weights of the last look at which none was below its start.

Source: reward over-optimisation (Gao et al. 2023, arXiv 2210.10760). The trained reward is a proxy: it can keep rising
while what it stands for falls, and only a measure that no gradient has seen tells.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

# Scores of the fixed prompts, one per clip, by name.
ScoresByName = Mapping[str, Sequence[float]]

TRAINED_REWARD = "trained_reward"

# Prompts that are much alike have hardly any spread: then a tenth of the monitor's mean is its unit.
LEAST_RELATIVE_SPREAD = 0.1


@dataclass(frozen=True)
class Fall:
    """A monitor that has fallen too far.

    Args:
        name (`str`):
            The monitor.
        start (`float`):
            Its mean over the fixed prompts at the start.
        now (`float`):
            Its mean now.
        units (`float`):
            The fall in units of [`spread`] at the start.
    """

    name: str
    start: float
    now: float
    units: float

    def __str__(self) -> str:
        return f"{self.name} fell from {self.start:.4g} to {self.now:.4g} ({self.units:.2g} times its spread)"


def spread(scores: Sequence[float]) -> float:
    """Return the unit in which a monitor's fall is measured; it suits any scale and sign.

    Args:
        scores (`list[float]`):
            The monitor's scores of the fixed prompts at the start.

    Returns:
        `float`: their standard deviation, but at least a tenth of their mean's magnitude.
    """
    return max(statistics.pstdev(scores), LEAST_RELATIVE_SPREAD * abs(statistics.fmean(scores)))


def mean_motion(frames_BTCHW: torch.Tensor) -> torch.Tensor:
    """Measure motion as the mean absolute difference of consecutive frames.

    It needs no second network and no flow; it falls to 0 for a still clip. Flicker counts as motion too.

    Args:
        frames_BTCHW (`torch.Tensor` of shape `(batch_size, num_frames, 3, height, width)`):
            Values in `[0, 1]`.

    Returns:
        `torch.Tensor` of shape `(batch_size,)`: in `[0, 1]`; 0 for a clip of one frame.
    """
    if frames_BTCHW.shape[1] == 1:
        return frames_BTCHW.new_zeros(len(frames_BTCHW))
    return frames_BTCHW.diff(dim=1).abs().mean(dim=(1, 2, 3, 4))


def find_falls(start: ScoresByName, now: ScoresByName, tolerance: float) -> list[Fall]:
    """Find the monitors that have fallen too far while the trained reward has risen.

    A monitor has fallen when its mean over the fixed prompts is lower than at the start by more than `tolerance` times
    its [`spread`] at the start.

    Args:
        start (`dict[str, list[float]]`):
            Scores at the start, of at least two clips each, the trained reward's under `trained_reward`.
        now (`dict[str, list[float]]`):
            Scores of the same prompts and noise now.
        tolerance (`float`):
            At least 0.

    Returns:
        `list[Fall]`: empty while all is well, or where the trained reward has not risen.
    """
    if not statistics.fmean(now[TRAINED_REWARD]) > statistics.fmean(start[TRAINED_REWARD]):
        return []
    falls = []
    for name in start.keys() - {TRAINED_REWARD}:
        before, after = statistics.fmean(start[name]), statistics.fmean(now[name])
        unit = spread(start[name])
        if before - after > tolerance * unit:
            falls.append(Fall(name, before, after, (before - after) / unit if unit else float("inf")))
    return sorted(falls, key=lambda fall: -fall.units)


def is_sound(start: ScoresByName, now: ScoresByName) -> bool:
    """Tell whether no monitor's mean over the fixed prompts is below that at the start.

    Args:
        start (`dict[str, list[float]]`):
            Scores at the start.
        now (`dict[str, list[float]]`):
            Scores of the same prompts and noise now.

    Returns:
        `bool`
    """
    monitors = start.keys() - {TRAINED_REWARD}
    return all(statistics.fmean(now[name]) >= statistics.fmean(start[name]) for name in monitors)
