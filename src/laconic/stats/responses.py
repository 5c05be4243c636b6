"""Results as columns, sorted by problem and repeat: what every statistic is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter, eq
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from laconic.runs.run import Result


@dataclass(frozen=True)
class Responses:
    """The results of one model on one task, column by column, in the order of their names.

    Attributes:
        results: The results themselves, in no certain order.
        order: Where in them each response stands, by problem, then repeat, ``[response]``.
        task: The task.
        problems: The problems' names, sorted.
        golds: The right answer of each problem.
        problem: The problem that each result answers, an index, ``[response]``.
        correct: 1 where the answer counts as right, else 0, ``[response]``.
        length: Completion tokens, ``[response]``.
        thinking_length: Tokens of them that are thought, ``[response]``.
        reflections: Reflection keywords, ``[response]``.
        thinks: Whether ``</think>`` closed a thought, ``[response]``.
        truncated: Whether the budget cut the completion, ``[response]``.
        level: The task's own difficulty, NaN where it has none, ``[response]``.
        budget: The most tokens that a completion could have; None where nobody says.
    """

    results: tuple[Result, ...]
    order: NDArray[np.int64]
    task: str
    problems: tuple[str, ...]
    golds: tuple[str, ...]
    problem: NDArray[np.int64]
    correct: NDArray[np.float64]
    length: NDArray[np.float64]
    thinking_length: NDArray[np.float64]
    reflections: NDArray[np.float64]
    thinks: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    level: NDArray[np.float64]
    budget: int | None = None

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

    @cached_property
    def longest(self) -> float:
        """The most tokens that a completion of this run could have: what bounds a mean length.

        The budget; where nobody says it, or a log's longest completion was taken for it, that
        longest one if any was cut, else twice as much.
        """
        seen = float(self.length.max())
        if self.budget is not None and self.budget > seen:
            return float(self.budget)
        return seen if bool(self.truncated.any()) else 2 * seen

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values ``[response]`` averaged within each problem, ``[problem]``."""
        sums = np.bincount(self.problem, weights=values, minlength=len(self.problems))
        means: NDArray[np.float64] = sums / self.counts
        return means

    @cached_property
    def places(self) -> dict[str, int]:
        """Where each problem stands, by its name."""
        return {name: place for place, name in enumerate(self.problems)}


def columns(
    results: Iterable[Result] | Responses,
    *,
    like: Responses | None = None,
    budget: int | None = None,
) -> Responses:
    """Results as columns; columns stay what they are.

    Args:
        results: The results of one model on one task.
        like: Another model's columns: results in the same order need no sorting of their own.
        budget: The most tokens that a completion could have; None where nobody says.

    Raises:
        RunError: Where there are no results, or results of several tasks.
    """
    if isinstance(results, Responses):
        return results
    rows = list(results)
    if not rows:
        raise RunError("There are no results to sum up yet. Run `laconic eval` to the end.")
    tasks = sorted(set(_column(rows, "task")))
    if len(tasks) > 1:
        raise RunError(f"Results are of one task, got {', '.join(tasks)}. Go task by task.")
    if like is not None and _in_order_of(rows, like.results):
        problems, problem, order = like.problems, like.problem, like.order
    else:
        problems, problem, order = _sorted(rows)
    first = order[np.searchsorted(problem, np.arange(len(problems)))]

    def numbers(name: str) -> NDArray[np.float64]:
        return np.fromiter(_column(rows, name), np.float64, len(rows))[order]

    def booleans(name: str) -> NDArray[np.bool_]:
        return np.fromiter(_column(rows, name), np.bool_, len(rows))[order]

    levels = [np.nan if level is None else level for level in _column(rows, "level")]
    return Responses(
        results=tuple(rows),
        order=order,
        task=tasks[0],
        problems=problems,
        golds=tuple(rows[i].gold for i in first.tolist()),
        problem=problem,
        correct=numbers("correct"),
        length=numbers("length"),
        thinking_length=numbers("thinking_length"),
        reflections=numbers("reflections"),
        thinks=booleans("thinks"),
        truncated=booleans("truncated"),
        level=np.array(levels, dtype=np.float64)[order],
        budget=budget,
    )


def _sorted(
    rows: Sequence[Result],
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]:
    """The problems by name, the problem of each response in order, and that order."""
    names = list(_column(rows, "id"))
    problems = tuple(sorted(set(names)))
    places = {name: place for place, name in enumerate(problems)}
    problem = np.fromiter(map(places.__getitem__, names), np.int64, len(names))
    order = np.lexsort((np.fromiter(_column(rows, "repeat"), np.int64, len(rows)), problem))
    return problems, problem[order], order


def _in_order_of(rows: Sequence[Result], others: Sequence[Result]) -> bool:
    """Whether results answer the same problems in the same order."""
    return len(rows) == len(others) and all(
        all(map(eq, _column(rows, name), _column(others, name))) for name in ("id", "repeat")
    )


def _column(rows: Sequence[Result], name: str) -> Iterator[Any]:
    """One field of every result."""
    return map(attrgetter(name), rows)


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
