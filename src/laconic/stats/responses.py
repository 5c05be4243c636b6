"""Results as columns, sorted by problem and repeat: what every statistic is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from laconic.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from laconic.run import Result

Problem = tuple[str, str]


@dataclass(frozen=True)
class Responses:
    """The results of one model, column by column; their order is that of their names.

    Attributes:
        results: The results themselves, by problem, then repeat.
        problems: The problems' names, (task, id), sorted.
        golds: The right answer of each problem.
        problem: The problem that each result answers, an index, ``[response]``.
        correct: 1 where the answer counts as right, else 0, ``[response]``.
        length: Completion tokens, ``[response]``.
        truncated: Whether the budget cut the completion, ``[response]``.
        level: The task's own difficulty, NaN where it has none, ``[response]``.
    """

    results: tuple[Result, ...]
    problems: tuple[Problem, ...]
    golds: tuple[str, ...]
    problem: NDArray[np.int64]
    correct: NDArray[np.float64]
    length: NDArray[np.float64]
    truncated: NDArray[np.bool_]
    level: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.results)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many responses each problem has, ``[problem]``; at least 1."""
        return np.bincount(self.problem, minlength=len(self.problems))

    @cached_property
    def accuracies(self) -> NDArray[np.float64]:
        """The share of each problem's responses that is right, ``[problem]``."""
        return self.means(self.correct)

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """Mean completion tokens of each problem's responses, ``[problem]``."""
        return self.means(self.length)

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values ``[response]`` averaged within each problem, ``[problem]``."""
        sums = np.bincount(self.problem, weights=values, minlength=len(self.problems))
        means: NDArray[np.float64] = sums / self.counts
        return means

    @cached_property
    def places(self) -> dict[Problem, int]:
        """Where each problem stands, by its name."""
        return {name: place for place, name in enumerate(self.problems)}


def columns(results: Iterable[Result] | Responses) -> Responses:
    """Results as columns; columns stay what they are.

    Raises:
        RunError: Where there are no results.
    """
    if isinstance(results, Responses):
        return results
    rows = list(results)
    if not rows:
        raise RunError("There are no results to sum up yet. Run `laconic eval` to the end.")
    names = [(row.task, row.id) for row in rows]
    problems = tuple(sorted(set(names)))
    places = {name: place for place, name in enumerate(problems)}
    problem = np.array([places[name] for name in names], dtype=np.int64)
    order = np.lexsort((np.array([row.repeat for row in rows]), problem))
    rows = [rows[i] for i in order.tolist()]
    problem = problem[order]
    first = np.searchsorted(problem, np.arange(len(problems)))
    return Responses(
        results=tuple(rows),
        problems=problems,
        golds=tuple(rows[i].gold for i in first.tolist()),
        problem=problem,
        correct=np.array([row.correct for row in rows], dtype=np.float64),
        length=np.array([row.length for row in rows], dtype=np.float64),
        truncated=np.array([row.truncated for row in rows]),
        level=np.array([np.nan if row.level is None else row.level for row in rows]),
    )


def shared(left: Responses, right: Responses) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The problems that both answer, id and gold alike: their places in each, name by name."""
    if left.problems == right.problems and left.golds == right.golds:
        every = np.arange(len(left.problems))
        return every, every
    pairs = [
        (i, j)
        for i, (name, gold) in enumerate(zip(left.problems, left.golds, strict=True))
        if (j := right.places.get(name, -1)) >= 0 and right.golds[j] == gold
    ]
    both = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]
