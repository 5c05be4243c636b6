"""The Pareto front of accuracy and length, and how sure it is who stands on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from laconic.stats.bounded import LEVEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from laconic.stats.responses import Responses

ROUNDS: Final = 1000
#: Means that agree to so many digits are equal: sums in another order may differ in the last.
DIGITS: Final = 7
#: A band of the front is known at so many lengths.
PLACES: Final = 80
#: More problems than this are drawn in so many groups, dealt at random: a thousandth as exact.
MOST: Final = 4096
#: Rounds are drawn this many at a time: enough for fast products, little enough for the cache.
_BATCH: Final = 25


def pareto(points: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """The names that no other beats in both accuracy (more) and length (less), shortest first.

    Equal points beat each other in neither, so ties stay.

    Args:
        points: (accuracy, length) by name.
    """
    best = -math.inf
    front: list[str] = []
    ordered = sorted(points, key=lambda name: (points[name][1], -points[name][0], name))
    for name in ordered:
        accuracy, _ = points[name]
        if accuracy > best or (front and points[name] == points[front[-1]]):
            front.append(name)
            best = accuracy
    return tuple(front)


def hypervolume(points: Mapping[str, tuple[float, float]], corner: tuple[float, float]) -> float:
    """The area, accuracy times tokens, that points rule beside a corner: how good a front is.

    Args:
        points: (accuracy, length) by name; those that do not beat the corner in both add nothing.
        corner: The least accuracy and the greatest length that count.
    """
    inside = {n: p for n, p in points.items() if p[0] > corner[0] and p[1] < corner[1]}
    area, floor = 0.0, corner[0]
    for name in pareto(inside):
        accuracy, length = inside[name]
        area += (accuracy - floor) * (corner[1] - length)
        floor = accuracy
    return area


@dataclass(frozen=True)
class Band:
    """How sure a front is: the best accuracy to be had for at most so many tokens.

    Attributes:
        length: Tokens, ascending, ``[place]``.
        low: The lower end of the interval of that accuracy, a fraction, ``[place]``.
        high: The upper end, ``[place]``.
    """

    length: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def front_chances(runs: Mapping[str, Responses], *, rounds: int = ROUNDS) -> dict[str, float]:
    """How often each run stands on the front when the problems are drawn anew; a fraction.

    The bootstrap over problems: each round draws as many problems as there are, with
    replacement, the same ones for every run, and finds the front of the means over them. A run
    that answered none of a round's problems is not on its front.

    Args:
        runs: Runs of one task by name.
        rounds: How often; with 1,000, a chance is known to within 3 points.
    """
    on = np.zeros(len(runs))
    for accuracy, length, there in _redrawn(runs, rounds):
        on += np.sum(~beaten(accuracy, length, there) & there, axis=0)
    return dict(zip(runs, (on / rounds).tolist(), strict=True))


def front_band(
    runs: Mapping[str, Responses], *, rounds: int = ROUNDS, places: int = PLACES
) -> Band:
    """Where the front would run if the problems were drawn anew: a percentile interval.

    The same bootstrap as `front_chances`. The interval is that of one length at a time, and begins
    at the shortest length that some run keeps within in every round.

    Args:
        runs: Runs of one task by name.
        rounds: How often the problems are drawn.
        places: At how many lengths, from the shortest mean of a round to the longest.
    """
    drawn = list(_redrawn(runs, rounds))
    accuracy, length, there = (np.concatenate(part) for part in zip(*drawn, strict=True))
    length = np.where(there, length, np.inf)
    first, last = length.min(axis=1).max(), float(length[np.isfinite(length)].max())
    at = np.linspace(first, max(first, last), places)
    order = np.argsort(length, axis=1)
    lengths = np.take_along_axis(length, order, axis=1)
    best = np.maximum.accumulate(np.take_along_axis(accuracy, order, axis=1), axis=1)
    reached = np.stack(
        [row[np.searchsorted(own, at, "right") - 1] for row, own in zip(best, lengths, strict=True)]
    )
    low, high = np.quantile(reached, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Band(tuple(at.tolist()), tuple(low.tolist()), tuple(high.tolist()))


def _redrawn(
    runs: Mapping[str, Responses], rounds: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]]:
    """Accuracy, length and presence of every run in each round, ``[round, run]``, in batches."""
    chance = np.random.default_rng(0)
    answered, right, tokens = _grouped(_by_problem(list(runs.values())), chance)
    n = len(answered)
    for start in range(0, rounds, _BATCH):
        drawn = np.stack(
            [
                np.bincount(chance.integers(n, size=n), minlength=n)
                for _ in range(min(_BATCH, rounds - start))
            ]
        ).astype(np.float64)
        there = drawn @ answered
        accuracy = np.round(drawn @ right / np.maximum(there, 1), DIGITS)
        length = np.round(drawn @ tokens / np.maximum(there, 1), DIGITS)
        yield accuracy, length, there > 0


def beaten(
    accuracy: NDArray[np.float64], length: NDArray[np.float64], there: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Whether another run is at least as good in both, and better in one, ``[round, run]``.

    Args:
        accuracy: ``[round, run]``.
        length: ``[round, run]``.
        there: Whether a run takes part, ``[round, run]``.
    """
    a, b = accuracy[:, :, None], accuracy[:, None, :]
    m, n = length[:, :, None], length[:, None, :]
    beats = (b >= a) & (n <= m) & ((b > a) | (n < m)) & there[:, None, :]
    return np.asarray(beats.any(axis=2))


def _grouped(table: NDArray[np.float64], chance: np.random.Generator) -> NDArray[np.float64]:
    """At most `MOST` rows ``[column, row, run]``: of more, each is the sum of a random few."""
    n = table.shape[1]
    if n <= MOST:
        return table
    dealt = chance.permutation(n)
    starts = np.linspace(0, n, MOST, endpoint=False).astype(np.int64)
    return np.asarray(np.add.reduceat(table[:, dealt], starts, axis=1))


def _by_problem(runs: list[Responses]) -> NDArray[np.float64]:
    """Whether each run answers each problem, its accuracy and length, ``[3, problem, run]``."""
    if len({(run.problems, run.golds) for run in runs}) == 1:
        places = [np.arange(len(run.problems)) for run in runs]
        total = len(runs[0].problems)
    else:
        names: dict[tuple[str, str], int] = {}
        places = [
            np.array(
                [
                    names.setdefault((name, gold), len(names))
                    for name, gold in zip(run.problems, run.golds, strict=True)
                ]
            )
            for run in runs
        ]
        total = len(names)
    table = np.zeros((3, total, len(runs)))
    for i, (run, place) in enumerate(zip(runs, places, strict=True)):
        table[0, place, i] = 1
        table[1, place, i] = run.accuracies
        table[2, place, i] = run.lengths
    return table
