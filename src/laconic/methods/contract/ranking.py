"""Ranking: which of a tensor's entries are the largest, exactly, and where a trim cuts them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Scope = Literal["tensor", "model"]
Ties = Literal["all", "exact"]
#: A limit's `last` where every element at its value is kept.
EVERY: Final = (1 << 63) - 1


class TrimLimit(NamedTuple):
    """Where a trim cuts one model's entries.

    Attributes:
        value: The smallest |vector| kept.
        last: The number, within the tensor, of the last element kept among those at `value`.
    """

    value: float
    last: int


#: The limits of a trim that keeps every entry, and none.
ALL: Final = TrimLimit(0.0, EVERY)
NONE: Final = TrimLimit(math.inf, -1)


class Trim(NamedTuple):
    """What a step asks for when it trims.

    Attributes:
        density: The fraction kept.
        scope: Ranked over what.
        ties: Which of the entries at the limit are kept.
        number: How many are kept, whatever `density` is; None goes by `density`.
        model: Whose entries are trimmed; None for every model's.
        nonzero: Whether `density` is a fraction of the entries that are not 0; it may keep none.
    """

    density: float = 1.0
    scope: Scope = "tensor"
    ties: Ties = "all"
    number: int | None = None
    model: int | None = None
    nonzero: bool = False

    def keeps(self, n: int) -> int:
        """How many of n entries are kept; of `nonzero` ones, where n of them are not 0."""
        if self.number is not None:
            return self.number
        return whole(n, self.density) if self.nonzero else kept(n, self.density)


def whole(n: int, density: float) -> int:
    """The whole number that a fraction of n is: a hair is added, so that 100 * 0.29 is 29."""
    return math.floor(n * density + 1e-9)


def kept(n: int, density: float) -> int:
    """How many of n elements a density keeps: rounded down, at least one."""
    return max(1, whole(n, density))


def limit_of(sizes: Tensor, trim: Trim) -> TrimLimit:
    """Where a trim cuts these magnitudes, all of a tensor's, found by sorting them."""
    flat = sizes.flatten()
    k = trim.keeps(int((flat != 0).sum()) if trim.nonzero else flat.numel())
    if k < 1:
        return NONE
    if k >= flat.numel():
        return ALL
    value = _kth_largest(flat, k)
    if trim.ties == "all":
        return TrimLimit(value, EVERY)
    kept_ties = k - int((flat > value).sum())
    return TrimLimit(value, int((flat == value).nonzero()[kept_ties - 1]))


def within(sizes: Tensor, limit: TrimLimit, offset: int = 0) -> Tensor:
    """Which magnitudes a limit keeps; the first is the tensor's element number `offset`."""
    import torch

    if limit.last == EVERY:
        return sizes >= limit.value
    number = torch.arange(sizes.numel(), device=sizes.device).view(sizes.shape) + offset
    return (sizes > limit.value) | ((sizes == limit.value) & (number <= limit.last))


def _kth_largest(values: Tensor, k: int) -> float:
    """The k-th largest of flat values: exact wherever it is taken."""
    import numpy as np

    place = len(values) - k
    if values.device.type == "cpu":
        return float(np.partition(values.numpy(), place)[place])
    return float(values.sort().values[place])
