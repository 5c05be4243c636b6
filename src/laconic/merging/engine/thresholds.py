"""Exact magnitude thresholds from one streaming pass of counting over the bits of the values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Counts = np.ndarray[Any, np.dtype[np.int64]]
    Counter = Callable[["CountRequest"], Counts]

#: About how many entries say where to look for a threshold, and how many upper bins are looked into
#: then: the share kept of a sample of this size is off by 0.1 % of all entries once in 15 times,
#: and a bin holds 0.2 to 0.4 % of normally distributed entries.
SAMPLE: Final = 1 << 19
SPAN: Final = 3
FEWEST: Final = 1 << 8
#: Counts are added up in groups of this size first.
GROUP: Final = 1 << 8


@dataclass(frozen=True)
class CountRequest:
    """What one pass over the entries of every model counts, by the bits of their magnitudes.

    The bit pattern of a non-negative float32 grows with its value; its upper 15 bits (of 31) are
    its bin.

    Attributes:
        every: About one of so many entries is counted; 1 for all.
        bins: The first bin of each model to look into. Without it the counts are those of every
            bin, ``[model, 2**15]``. With it they are those of every magnitude in `span` bins, then
            that of all smaller ones and that of all larger ones, ``[model, span * 2**16 + 2]``.
        span: How many bins to look into.
        model: Whose entries are counted, in one row; None for every model's.
    """

    every: int = 1
    bins: tuple[int, ...] = ()
    span: int = 1
    model: int | None = None

    @property
    def width(self) -> int:
        """How many different magnitudes there are in the bins."""
        return self.span << 16


class Threshold(NamedTuple):
    """The k-th largest magnitude of one model.

    Attributes:
        value: The magnitude.
        kept_ties: How many entries of exactly this magnitude are among the k largest.
        tied: How many entries have exactly this magnitude.
    """

    value: float
    kept_ties: int
    tied: int


def find_thresholds(
    counter: Counter, size: int, count: int, model: int | None = None
) -> tuple[Threshold, ...]:
    """The smallest magnitude of each model that is among its largest, exactly.

    A sample says which bins probably hold it, and a pass over all entries looks into them. Where it
    is not there, and where there are few entries, a pass over all of them finds the bin first.

    Args:
        counter: Counts what a `CountRequest` says.
        size: How many entries each model has, at least 1.
        count: How many of them are the largest, at least 1 and at most `size`.
        model: Which model's threshold is wanted; None for all.
    """
    every = min(FEWEST, size // SAMPLE)
    if every > 1:
        thresholds = _count_twice(counter, CountRequest(every, model=model), SPAN, size, count)
        if None not in thresholds:
            return thresholds  # type: ignore[return-value]  # as the line above says
    return _count_twice(counter, CountRequest(model=model), 1, size, count)  # type: ignore[return-value]  # exact bins


def _count_twice(
    counter: Counter, first: CountRequest, span: int, size: int, count: int
) -> tuple[Threshold | None, ...]:
    """Each model's threshold, from a pass that finds its bin and one that looks around it."""
    bins = []
    for row in counter(first):
        place = _find_place(row, max(1, int(row.sum()) * count // size))
        assert place is not None
        bins.append(max(0, place[0] - span // 2))
    rows = counter(CountRequest(bins=tuple(bins), span=span, model=first.model))
    return tuple(_threshold(row, bin_, count) for row, bin_ in zip(rows, bins, strict=True))


def _threshold(counts: Counts, bin_: int, k: int) -> Threshold | None:
    """The k-th largest magnitude, where it is not among the smaller or larger ones."""
    import numpy as np

    place_and_rank = _find_place(counts[:-2], k - int(counts[-1]))
    if place_and_rank is None:
        return None
    place, kept_ties = place_and_rank
    value = np.array((bin_ << 16) + place, np.uint32).view(np.float32)
    return Threshold(float(value), kept_ties, int(counts[place]))


def _find_place(counts: Counts, k: int) -> tuple[int, int] | None:
    """The place that holds the k-th largest entry and its rank from the top within that place.

    None where there are fewer entries, or more than k above them.
    """
    group, rank = _place(counts.reshape(-1, GROUP).sum(axis=1), k)
    if group < 0 or k < 1:
        return None
    place, rank = _place(counts[group * GROUP : (group + 1) * GROUP], rank)
    return group * GROUP + place, rank


def _place(counts: Counts, k: int) -> tuple[int, int]:
    """The same by one sum over all of them; -1 where there are fewer entries."""
    above = counts[::-1].cumsum()
    position = int(above.searchsorted(k))
    return len(counts) - 1 - position, k - (int(above[position - 1]) if position else 0)
