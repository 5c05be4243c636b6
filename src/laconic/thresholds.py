"""Exact magnitude thresholds from two streaming passes of counting over the bits of the values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from laconic.method import kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    Counts = np.ndarray[Any, np.dtype[np.int64]]


class Counter(Protocol):
    """Counts the magnitudes of every model's entries by their bits, in one pass over them.

    The bit pattern of a non-negative float32 grows with its value.
    """

    def upper(self) -> Counts:
        """How many there are of each upper 15 bits (of 31), ``[model, 2**15]``."""

    def lower(self, bins: Sequence[int]) -> Counts:
        """Within one upper bin a model: how many of each lower 16 bits, ``[model, 2**16]``."""


class Threshold(NamedTuple):
    """The k-th largest magnitude of one model.

    Attributes:
        value: The magnitude.
        spare: How many entries of exactly this magnitude are among the k largest.
        tied: How many entries have exactly this magnitude.
    """

    value: float
    spare: int
    tied: int


def find_thresholds(counter: Counter, density: float) -> tuple[Threshold, ...]:
    """The smallest magnitude of each model that is kept at a density, exactly.

    The first pass finds the bin of the upper bits that holds the k-th largest entry; the second
    looks into that bin.
    """
    import numpy as np

    places = [_find(row, kept(int(row.sum()), density)) for row in counter.upper()]
    found = []
    for (high, rank), row in zip(places, counter.lower([bin_ for bin_, _ in places]), strict=True):
        low, spare = _find(row, rank)
        value = float(np.array(high << 16 | low, np.uint32).view(np.float32))
        found.append(Threshold(value, spare, int(row[low])))
    return tuple(found)


def _find(counts: Counts, k: int) -> tuple[int, int]:
    """The bin that holds the k-th largest entry, and its rank from the top within that bin.

    Where there are fewer entries, it is the lowest bin.
    """
    above = counts[::-1].cumsum()
    position = min(int(above.searchsorted(k)), len(counts) - 1)
    before = int(above[position - 1]) if position else 0
    return len(counts) - 1 - position, k - before
