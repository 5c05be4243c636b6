"""Whether accuracy has suffered by more than a margin, for one run or the best of many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from laconic.stats.bounded import LEVEL, Estimate, evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

Verdict = Literal["yes", "no", "unclear"]
#: How often a test of two equal models should say yes on as many problems as `settling` asks for.
POWER: Final = 0.8


@dataclass(frozen=True)
class NotWorse:
    """The answer to "has accuracy suffered by more than the margin?", a non-inferiority test.

    Attributes:
        margin: The loss of accuracy that is still acceptable, as a fraction.
        verdict: ``yes`` (not worse) where the whole interval of the difference lies above
            -margin, ``no`` where it lies below, else ``unclear``. Where several runs are tested
            together, ``yes`` is corrected for their number (Holm 1979).
        evidence: How clearly the difference lies above -margin, as a standard normal quantile.
        tested: How many runs are tested together, of which any could have been the one told of.
        settled_by: About how many problems would settle the margin for equal models that differ
            as these do, four times in five; None where no number of problems is known to.
    """

    margin: float
    verdict: Verdict
    evidence: float
    tested: int = 1
    settled_by: int | None = None


def verdict(difference: Estimate, margin: float) -> Verdict:
    """Whether an accuracy difference is above -margin for sure, below it for sure, or neither.

    With a two-sided 95 % interval this is the one-sided non-inferiority test at 2.5 %.
    """
    if difference.low > -margin:
        return "yes"
    return "no" if difference.high < -margin else "unclear"


def corrected(verdicts: Sequence[NotWorse]) -> list[NotWorse]:
    """The verdicts of runs that are tested together: Holm's (1979) step-down procedure.

    Of runs that are all worse by the margin or more, one or more is called not worse in at most
    2.5 % of cases, however the runs depend on each other. The run with the most evidence is tested
    at 2.5 % / k, the next at 2.5 % / (k - 1) and so on, up to the first that fails. ``no`` speaks
    of each run alone and stays.
    """
    k = len(verdicts)
    order = sorted(range(k), key=lambda i: -verdicts[i].evidence)
    found, passing = list(verdicts), True
    for place, i in enumerate(order):
        one = verdicts[i]
        enough = _quantile(k - place)
        passing = passing and one.verdict == "yes" and one.evidence >= enough
        settled_by = one.settled_by
        if settled_by is not None and k > 1:
            more = (_quantile(k) + _quantile_of_power()) / (_quantile(1) + _quantile_of_power())
            settled_by = math.ceil(settled_by * more**2)
        called: Verdict = one.verdict
        if called == "yes" and not passing:
            called = "unclear"
        found[i] = replace(one, verdict=called, tested=k, settled_by=settled_by)
    return found


def settling(gains: NDArray[np.float64], margin: float) -> int | None:
    """About how many problems would settle a margin, were the two models equally accurate.

    So many that 80 of 100 such comparisons say ``yes``, by the variance that the test itself
    assumes at the margin. None where the margin is 0, which no number of problems settles.

    Args:
        gains: Accuracy minus the baseline's, in [-1, 1], ``[problem]``.
        margin: The loss of accuracy that is still acceptable, as a fraction.
    """
    if margin <= 0:
        return None
    equal = np.clip(gains - float(np.mean(gains)), -1.0, 1.0)
    found = evidence(equal, -margin, -1.0)
    if not found:
        return None
    return math.ceil(len(gains) * ((_quantile(1) + _quantile_of_power()) / found) ** 2)


def _quantile(tests: int) -> float:
    """The evidence that the first of several tests needs, 1.96 for a single one."""
    return NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / tests)


def _quantile_of_power() -> float:
    return NormalDist().inv_cdf(POWER)
