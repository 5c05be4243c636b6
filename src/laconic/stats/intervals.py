"""The intervals: each formula with its source, on one number per problem (pure numpy)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEVEL = 0.95
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, which always contains it.

    Attributes:
        value: The number itself.
        low: The lower end.
        high: The upper end; infinite where one problem is all there is to judge a spread by.
    """

    value: float
    low: float
    high: float


def share(values: NDArray[np.float64], responses: int) -> Estimate:
    """A proportion: Wilson's (1927) score interval at the effective number of responses.

    With one response per problem that is the number of problems. With repeats it is
    p(1 - p) / v, where v is the variance of the mean as estimated between problems, shrunk by
    (z / t)^2 for the few problems that v rests on (Korn and Graubard 1998); it never exceeds the
    number of responses. Where all problems agree no spread can be seen: then it is the number of
    problems.

    Args:
        values: Share of right responses, ``[problem]``.
        responses: How many responses there are in all.
    """
    n, p, size = len(values), min(max(_mean(values), 0.0), 1.0), float(len(values))
    spread = float(np.var(values, ddof=1)) if responses > n > 1 else 0.0
    if spread > 1e-12:
        size = min(n * p * (1 - p) / spread * (Z / t_quantile(n - 1)) ** 2, float(responses))
    centre = (p + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * math.sqrt(p * (1 - p) / size + Z**2 / (4 * size**2))
    return _containing(p, max(centre - half, 0.0), min(centre + half, 1.0))


def mean(values: NDArray[np.float64]) -> Estimate:
    """A mean of non-negative numbers: Student's t interval between problems.

    One problem shows no spread: the interval is then everything from 0 up.

    Args:
        values: Mean over the responses of each problem, ``[problem]``.
    """
    value = _mean(values)
    half = _half_width(values)
    return _containing(value, max(value - half, 0.0), value + half)


def paired_difference(differences: NDArray[np.float64], repeats: float = 1.0) -> Estimate:
    """A difference of paired proportions: the adjusted Wald interval of Bonett and Price (2012).

    They add two imagined pairs of responses, one that speaks for each side (+1 and -1), and take
    the normal interval of the differences on n + 2. With repeats, the differences of problem means
    take the place of -1, 0 and 1, which clusters by problem, and each imagined pair of responses
    weighs what a pair of responses does, 1 / repeats of a problem. With one repeat that is their
    formula term by term. It has a width even where nothing differs, and the raw mean, which stays
    the value, lies inside whatever n is.

    Args:
        differences: Model minus baseline, each in [-1, 1], ``[problem]``.
        repeats: Responses per problem behind each difference; the smaller number where the two
            models differ.
    """
    added = 2 / repeats
    n = len(differences) + added
    centre = float(np.sum(differences)) / n
    variance = (float(np.sum(differences**2)) + added) / n - centre**2
    half = Z * math.sqrt(variance / n)
    return _containing(_mean(differences), max(centre - half, -1.0), min(centre + half, 1.0))


def difference(differences: NDArray[np.float64]) -> Estimate:
    """A mean of paired differences: Student's t interval between problems.

    Args:
        differences: Model minus baseline, in any unit, ``[problem]``.
    """
    value, half = _mean(differences), _half_width(differences)
    return _containing(value, value - half, value + half)


def relative_change(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Estimate:
    """A ratio of paired means, minus 1: the linearised (delta-method) interval between problems.

    The variance is that of the residuals ``ours - ratio * theirs`` over the baseline's mean
    (Cochran 1977, section 6.4), the quantile Student's t.

    Args:
        ours: Mean length of each problem, ``[problem]``.
        theirs: The baseline's, in the same order, ``[problem]``.
    """
    below = _mean(theirs)
    change = ratio(_mean(ours), below) - 1
    if below == 0:
        return Estimate(change, -1.0, math.inf)
    half = _half_width((ours - (change + 1) * theirs) / below)
    return _containing(change, max(change - half, -1.0), change + half)


def quotient(above: NDArray[np.float64], below: NDArray[np.float64]) -> Estimate:
    """A ratio of two means over problems, both not negative: Fieller's (1954) interval.

    The ratios r for which ``above - r * below`` has a mean that Student's t does not tell from 0.
    Where the mean below is not told from 0 either, there is no upper end.

    Args:
        above: Say, mean tokens of each problem, ``[problem]``.
        below: Say, the share of its answers that is right, in the same order, ``[problem]``.
    """
    n, top, bottom = len(above), _mean(above), _mean(below)
    value = top / bottom if bottom else math.inf
    if n < 2 or not bottom:
        return Estimate(value, 0.0, math.inf)
    scale = t_quantile(n - 1) ** 2 / n
    (aa, ab), (_, bb) = scale * np.cov(above, below)
    a, b, c = bottom**2 - bb, top * bottom - ab, top**2 - aa  # a r^2 - 2 b r + c <= 0
    root = math.sqrt(max(b * b - a * c, 0.0))
    low = (b - root) / a if a else 0.0
    if a <= 0:
        return Estimate(value, low if 0 < low <= value else 0.0, math.inf)
    return _containing(value, max(low, 0.0), (b + root) / a)


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
    return _containing(r, math.tanh(centre - half), math.tanh(centre + half))


def error(values: NDArray[np.float64]) -> float:
    """The standard error of a mean over problems; infinite for a single one.

    Args:
        values: Mean over the responses of each problem, ``[problem]``: so it is clustered.
    """
    n = len(values)
    return math.sqrt(float(np.var(values, ddof=1)) / n) if n > 1 else math.inf


def t_quantile(freedom: int) -> float:
    """The 97.5 % point of Student's t: what two-sided 95 % intervals multiply the error by.

    Exact for 1 and 2 degrees of freedom; above, the series of Abramowitz and Stegun (26.7.5) to
    the fourth order, which is 0.004 below the true value at 3 and 0.0001 at 6.

    Args:
        freedom: Degrees of freedom, at least 1.
    """
    tail = (1 + LEVEL) / 2
    if freedom == 1:
        return math.tan(math.pi * (tail - 0.5))
    if freedom == 2:
        return (2 * tail - 1) / math.sqrt(2 * tail * (1 - tail))
    terms = (
        Z,
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
        (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92160,
    )
    return math.fsum(term / freedom**order for order, term in enumerate(terms))


def average(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates, by recovering each one's variance from its interval.

    Zou and Donner (2008), "MOVER": the distances from the values to each end add in quadrature,
    so that lopsided intervals stay lopsided.
    """
    k = len(estimates)
    value = sum(e.value for e in estimates) / k
    below = math.hypot(*(e.value - e.low for e in estimates)) / k
    above = math.hypot(*(e.high - e.value for e in estimates)) / k
    return _containing(value, value - below, value + above)


def ratio(above: float, below: float) -> float:
    """A quotient that is 1 where both are 0 and infinite where only the divisor is."""
    if below:
        return above / below
    return math.inf if above else 1.0


def _half_width(values: NDArray[np.float64]) -> float:
    """Half the width of the t interval of a mean; infinite for a single value."""
    n = len(values)
    return t_quantile(n - 1) * error(values) if n > 1 else math.inf


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.mean(values))


def _containing(value: float, low: float, high: float) -> Estimate:
    """An estimate whose ends rounding cannot push past its value."""
    return Estimate(value, min(low, value), max(high, value))
