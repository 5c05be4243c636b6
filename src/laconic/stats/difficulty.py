"""Accuracy and length by difficulty: the task's own levels, and how often problems were failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from laconic.stats.bounded import Estimate, mean_within
from laconic.stats.intervals import correlation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from laconic.stats.responses import Responses

Ease = Literal["easy", "medium", "hard"]
#: A problem is easy from this share of right answers, and hard below the other.
EASY: Final = 2 / 3
HARD: Final = 1 / 3


@dataclass(frozen=True)
class Level:
    """The results of one difficulty.

    Attributes:
        n: How many responses.
        accuracy: Share that is right.
        length: Mean completion tokens.
        reflections: Reflection keywords, mean per response.
    """

    n: int
    accuracy: Estimate
    length: Estimate
    reflections: float


@dataclass(frozen=True)
class Trend:
    """Whether harder problems get longer answers: Spearman's rank correlations over problems.

    Attributes:
        level: Of mean length with the task's own level; None where no problem has one.
        failed: Of mean length with the share of this run's own answers that is wrong.
        pooled: Of mean length with the share of all runs' answers that is wrong.
    """

    level: Estimate | None
    failed: Estimate
    pooled: Estimate


def level(responses: Responses, chosen: NDArray[np.bool_] | None = None) -> Level:
    """Accuracy and length of some problems' responses.

    Args:
        responses: The run.
        chosen: Which problems, ``[problem]``; all by default.
    """
    accuracies, lengths, counts = responses.accuracies, responses.lengths, responses.counts
    reflections = responses.reflections
    if chosen is not None:
        accuracies, lengths, counts = accuracies[chosen], lengths[chosen], counts[chosen]
        reflections = reflections[chosen[responses.problem]]
    n = int(counts.sum())
    return Level(
        n=n,
        accuracy=mean_within(accuracies, 0.0, 1.0),
        length=mean_within(lengths, 0.0, responses.longest),
        reflections=float(np.mean(reflections)),
    )


def levels(responses: Responses) -> dict[int, Level]:
    """Accuracy and length by the task's own difficulty, easiest first; empty where it has none."""
    own = _own_levels(responses)
    return {int(one): level(responses, own == one) for one in np.unique(own[~np.isnan(own)])}


def pass_rates(runs: Sequence[Responses]) -> dict[str, float]:
    """The share of right answers to each problem, every run that answered it counting the same."""
    if len({run.problems for run in runs}) == 1:
        pooled = sum(run.accuracies for run in runs) / len(runs)
        return dict(zip(runs[0].problems, np.asarray(pooled).tolist(), strict=True))
    rates: dict[str, list[float]] = {}
    for run in runs:
        for name, rate in zip(run.problems, run.accuracies.tolist(), strict=True):
            rates.setdefault(name, []).append(rate)
    return {name: sum(several) / len(several) for name, several in rates.items()}


def by_ease(responses: Responses, rates: Mapping[str, float]) -> dict[Ease, Level]:
    """Accuracy and length on easy, medium and hard problems; none where there is no such problem.

    The rates come from the answers themselves, so a run scores below them on problems that it
    found hard by bad luck; compare runs within a column, not columns of a run.

    Args:
        responses: The run.
        rates: The share of right answers to each problem, over all runs compared.
    """
    met = np.fromiter(map(rates.__getitem__, responses.problems), np.float64)
    groups: dict[Ease, NDArray[np.bool_]] = {
        "easy": met >= EASY - 1e-9,
        "medium": (met >= HARD - 1e-9) & (met < EASY - 1e-9),
        "hard": met < HARD - 1e-9,
    }
    return {ease: level(responses, chosen) for ease, chosen in groups.items() if chosen.any()}


def trend(responses: Responses, rates: Mapping[str, float]) -> Trend:
    """How length goes with difficulty; each problem counts once."""
    own, lengths = _own_levels(responses), responses.lengths
    known = ~np.isnan(own)
    met = np.fromiter(map(rates.__getitem__, responses.problems), np.float64)
    return Trend(
        level=correlation(own[known], lengths[known]) if known.any() else None,
        failed=correlation(1 - responses.accuracies, lengths),
        pooled=correlation(1 - met, lengths),
    )


def _own_levels(responses: Responses) -> NDArray[np.float64]:
    """The level of each problem, NaN where it has none, ``[problem]``."""
    first = np.searchsorted(responses.problem, np.arange(len(responses.problems)))
    own: NDArray[np.float64] = responses.level[first]
    return own
