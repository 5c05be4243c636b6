"""Score intervals of means of bounded numbers, and of ratios of such means (pure numpy).

A mean is tested against a value mu by the variance of the likeliest distribution that has this
mean and lies within the bounds: weights on the observed numbers (nonparametric maximum likelihood,
Owen 1988) and, where these are too alike to explain mu, weight on the bound that none of them is
at. With n numbers, their mean m and the Lagrange multiplier k of the constraint, that variance is
(m - mu) / k, so that the squared score statistic is n k (m - mu), with k at most 1 / (mu - bound).
The interval holds every mu whose statistic is at most z^2. With numbers that are 0 or 1 it is
Wilson's (1927), with paired differences of -1, 0 and 1 it is Tango's (1998), each term by term.
With means over the repeats of a problem it is clustered by problem, and a problem unlike all that
were seen may still be as bad as the bound: repeats are no substitute for problems.
`benchmarks/coverage.py` simulates how often the intervals hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL: Final = 0.95
Z: Final = NormalDist().inv_cdf(0.5 + LEVEL / 2)


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, which always contains it.

    Attributes:
        value: The number itself.
        low: The lower end.
        high: The upper end; infinite where nothing bounds a ratio.
    """

    value: float
    low: float
    high: float


def mean_within(values: NDArray[np.float64], least: float, most: float) -> Estimate:
    """The score interval of a mean; one number alone shows no spread and has the bounds' own.

    Args:
        values: One number per problem, each in [least, most], ``[problem]``.
        least: The lower bound.
        most: The upper bound.
    """
    value, c = float(np.mean(values)), Z**2 / len(values)
    if len(values) < 2:
        return containing(value, least, most)
    deviations = values - value
    usual = math.sqrt(c * float(np.mean(deviations**2)))

    def distance(sign: float, room: float) -> float:
        tilted = _Tilt(sign * c * deviations, 1 + c, 1.0)
        return _root(tilted, c * room / (1 + c), room, usual)

    low, high = value - distance(1.0, value - least), value + distance(-1.0, most - value)
    return containing(value, max(low, least), min(high, most))


def ratio_within(
    above: NDArray[np.float64],
    below: NDArray[np.float64],
    most_above: float,
    most_below: float,
) -> Estimate:
    """The score interval of a ratio of two means over the same problems, none of them negative.

    It holds the ratios r for which the mean of ``above - r * below``, which lies within
    -r * most_below and most_above, is not told from 0. Two problems are the fewest that show a
    spread: one, or nothing below, has an interval from 0 without an upper end.

    Args:
        above: The numerator's numbers, each in [0, most_above], ``[problem]``.
        below: The denominator's, each in [0, most_below], in the same order, ``[problem]``.
        most_above: The upper bound of the first.
        most_below: The upper bound of the second.
    """
    top, bottom = float(np.mean(above)), float(np.mean(below))
    if not bottom:
        return Estimate(math.inf if top else 1.0, 0.0, math.inf)
    value, c = top / bottom, Z**2 / len(above)
    if len(above) < 2:
        return Estimate(value, 0.0, math.inf)
    residuals = above - value * below
    usual = math.sqrt(c * float(np.mean(residuals**2))) / bottom

    def distance(sign: float, nearest: float, furthest: float) -> float:
        tilted = _Tilt(sign * c * residuals, bottom + c * below, bottom)
        return _root(tilted, nearest, furthest, usual)

    nearest = value - top / (bottom + c * most_below)
    low = value - distance(1.0, nearest, value)
    high = value + distance(-1.0, c * most_above / bottom, math.inf)
    return containing(value, max(low, 0.0), high)


def evidence(values: NDArray[np.float64], against: float, least: float) -> float:
    """How clearly a mean lies above a value, as a standard normal quantile; 0 where it does not.

    The root of the score statistic of the interval: above 1.96 where the 95 % interval lies above
    the value.

    Args:
        values: One number per problem, each at least `least`, ``[problem]``.
        against: The value, above `least`.
        least: The lower bound of the numbers.
    """
    gaps = values - against
    mean = float(np.mean(gaps))
    if mean <= 0:
        return 0.0
    low, high = 0.0, 1 / (against - least)
    while high - low > 1e-10 * high:  # below the multiplier, the tilted weights sum to less than 1
        middle = (low + high) / 2
        if float(np.mean(1 / (1 + middle * gaps))) < 1:
            low = middle
        else:
            high = middle
    return math.sqrt(len(values) * high * mean)


def containing(value: float, low: float, high: float) -> Estimate:
    """An estimate whose ends rounding cannot push past its value."""
    return Estimate(value, min(low, value), max(high, value))


@dataclass(frozen=True)
class _Tilt:
    """By how much the likeliest weights, with the multiplier that z^2 allows, miss 1.

    As a function of the distance s from the estimate: 1 - s * unit * mean(1 / (start + s * slope)).

    Attributes:
        start: The denominators at distance 0, ``[problem]``.
        slope: What each grows by, ``[problem]`` or one for all.
        unit: The estimate's own denominator: 1 for a mean, the mean below for a ratio.
    """

    start: NDArray[np.float64]
    slope: NDArray[np.float64] | float
    unit: float

    def __call__(self, distance: float) -> tuple[float, float]:
        """The function, negative where the distance is too small, and its derivative."""
        parts = self.start + distance * self.slope
        if float(parts.min()) <= 1e-12 * distance * self.unit:
            return -math.inf, math.inf
        inverse = np.reciprocal(parts, out=parts)
        mean = float(np.mean(inverse))
        if isinstance(self.slope, float):
            bend = self.slope * float(inverse @ inverse) / len(inverse)
        else:
            bend = float((inverse * self.slope) @ inverse) / len(inverse)
        return 1 - distance * self.unit * mean, self.unit * (distance * bend - mean)


def _root(tilted: _Tilt, start: float, end: float, guess: float) -> float:
    """The distance where a tilt is 0: Newton's steps, halving where one leaves the bracket.

    Args:
        tilted: The function.
        start: The smallest distance; the root where the function is not negative there.
        end: The largest, where it is not negative; infinite where nobody knows one.
        guess: Where to begin.
    """
    if end <= start or tilted(start)[0] >= 0:
        return start
    low, high = start, end
    place = guess if start < guess < end else min(2 * start, (start + end) / 2)
    for _ in range(100):
        value, slope = tilted(place)
        low, high = (place, high) if value < 0 else (low, place)
        following = place - value / slope if 0 < slope < math.inf else math.nan
        if abs(following - place) <= 1e-9 * place:
            break
        if not low < following < high:
            following = (low + high) / 2 if high < math.inf else 2 * low
        place = following
    return place
