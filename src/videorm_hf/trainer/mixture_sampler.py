"""Which rows an epoch draws, in which order, from one data set or several in given proportions."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler


class MixtureSampler(Sampler[int]):
    """Draw the rows of several data sets, laid end to end, in a random order that seed and epoch decide.

    Without proportions an epoch is every row once. With them it has as many draws, shared out exactly; a set gives its
    rows in ever new random orders, each row as often as every other (but for one draw). A draw is the number of a row
    plus `epoch * total`, so that whoever gets it knows the epoch. Every process draws the same.

    Args:
        sizes (`Sequence[int]`):
            Rows of each set.
        proportions (`Sequence[float]`, *optional*):
            Each set's share of the draws; any positive numbers.
        seed (`int`, defaults to 0):
            Of all orders.

    Raises:
        ValueError: If a set is empty, or the proportions are not one positive number a set.
    """

    def __init__(self, sizes: Sequence[int], proportions: Sequence[float] | None = None, seed: int = 0) -> None:
        if not sizes or min(sizes) < 1:
            raise ValueError(f"Every data set must have at least one row: got sizes {list(sizes)}.")
        if proportions is not None and (len(proportions) != len(sizes) or not all(p > 0 for p in proportions)):
            raise ValueError(
                f"proportions must be a positive number for each of the {len(sizes)} data sets: got "
                f"{list(proportions)}."
            )
        self.sizes = list(sizes)
        self.total = sum(sizes)
        self.counts = self.sizes if proportions is None else _share_out(self.total, proportions)
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        offsets = np.cumsum([0, *self.sizes[:-1]])
        rows = [
            offset + self._rows_of(index, self.epoch * count, count)
            for index, (offset, count) in enumerate(zip(offsets, self.counts, strict=True))
        ]
        order = np.random.default_rng([self.seed, len(self.sizes), self.epoch]).permutation(np.concatenate(rows))
        yield from (order + self.epoch * self.total).tolist()

    def _rows_of(self, index: int, start: int, count: int) -> np.ndarray:
        """Return draws `start` to `start + count` of a set's endless series of shuffled passes."""
        size = self.sizes[index]
        first, last = start // size, (start + count - 1) // size
        if count == 0:
            return np.empty(0, dtype=np.int64)
        passes = [np.random.default_rng([self.seed, index, turn]).permutation(size) for turn in range(first, last + 1)]
        return np.concatenate(passes)[start - first * size :][:count]


def _share_out(total: int, proportions: Sequence[float]) -> list[int]:
    """Divide a number into whole parts of given proportions; the largest remainders get what rounding leaves."""
    exact = np.asarray(proportions, dtype=np.float64) / sum(proportions) * total
    counts = np.floor(exact).astype(np.int64)
    left = total - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
    return counts.tolist()
