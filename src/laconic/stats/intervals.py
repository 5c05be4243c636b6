"""Intervals of correlations and averages, standard errors: each formula with its source."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from laconic.stats.bounded import Estimate, Z, containing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> Estimate:
    """Spearman's rank correlation, ties at their mean rank: the interval of Bonett and Wright.

    Their standard error (2000) of Fisher's transform is sqrt((1 + r^2 / 2) / (n - 3)), taken no
    nearer to 1 than 1 / n. A variable that does not vary has no correlation: NaN, from -1 to 1.

    Args:
        left: One number per problem, ``[problem]``.
        right: Another, in the same order, ``[problem]``.
    """
    n = len(left)
    x, y = (ranks - ranks.mean() for ranks in (_ranks(left), _ranks(right)))
    size = math.sqrt(float(x @ x) * float(y @ y))
    if not size:
        return Estimate(math.nan, -1.0, 1.0)
    r = min(max(float(x @ y) / size, -1.0), 1.0)
    if n < 4:
        return Estimate(r, -1.0, 1.0)
    centre = math.atanh(min(max(r, 1 / n - 1), 1 - 1 / n))
    half = Z * math.sqrt((1 + r * r / 2) / (n - 3))
    return containing(r, math.tanh(centre - half), math.tanh(centre + half))


def error(values: NDArray[np.float64]) -> float:
    """The standard error of a mean over problems; infinite for a single one.

    Args:
        values: Mean over the responses of each problem, ``[problem]``: so it is clustered.
    """
    n = len(values)
    return math.sqrt(float(np.var(values, ddof=1)) / n) if n > 1 else math.inf


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates, by recovering each one's variance from its interval.

    Zou and Donner (2008), "MOVER": the distances from the values to each end add in quadrature,
    so that lopsided intervals stay lopsided.
    """
    k = len(estimates)
    value = sum(e.value for e in estimates) / k
    below = math.hypot(*(e.value - e.low for e in estimates)) / k
    above = math.hypot(*(e.high - e.value for e in estimates)) / k
    return containing(value, value - below, value + above)


def ratio(above: float, below: float) -> float:
    """A quotient that is 1 where both are 0 and infinite where only the divisor is."""
    if below:
        return above / below
    return math.inf if above else 1.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks
