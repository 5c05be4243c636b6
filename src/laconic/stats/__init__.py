"""What results say: estimates with 95 % intervals, paired comparisons and the Pareto front."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from laconic.errors import RunError
from laconic.run import Outcome
from laconic.stats.intervals import (
    LEVEL,
    Estimate,
    average,
    mean,
    paired_difference,
    ratio,
    relative_change,
    share,
)

if TYPE_CHECKING:
    from laconic.run import Result

__all__ = [
    "LEVEL",
    "Estimate",
    "Level",
    "NotWorse",
    "Overall",
    "Pair",
    "Summary",
    "overall",
    "pair",
    "pareto",
    "summarise",
    "verdict",
]
Verdict = Literal["yes", "no", "unclear"]


@dataclass(frozen=True)
class Level:
    """The results of one difficulty.

    Attributes:
        n: How many responses.
        accuracy: Share that is right.
        length: Mean completion tokens.
    """

    n: int
    accuracy: Estimate
    length: Estimate


@dataclass(frozen=True)
class Summary:
    """What the results of one model on one task amount to.

    Accuracy and length weigh every problem the same; shares weigh every response the same. The two
    differ only while a run with repeats is unfinished.

    Attributes:
        n: How many responses.
        problems: How many different problems they answer.
        accuracy: Share that is right, as a fraction.
        length: Mean completion tokens, thinking included.
        truncated: Share that the budget cut; their true lengths are greater.
        thinking: Share in which ``</think>`` closed a thought.
        reflective: Share that holds at least one reflection keyword.
        reflections: Reflection keywords, mean per response.
        thinking_length: Thinking tokens, mean per response.
        outcomes: How many responses ended in each outcome; outcomes that never occurred are 0.
        by_level: The same by the task's own difficulty, easiest first; empty where it has none.
    """

    n: int
    problems: int
    accuracy: Estimate
    length: Estimate
    truncated: float
    thinking: float
    reflective: float
    reflections: float
    thinking_length: float
    outcomes: Mapping[str, int]
    by_level: Mapping[int, Level]


@dataclass(frozen=True)
class NotWorse:
    """The answer to "has accuracy suffered by more than the margin?", a non-inferiority test.

    Attributes:
        margin: The loss of accuracy that is still acceptable, as a fraction.
        verdict: ``yes`` (not worse) where the whole interval of the difference lies above
            -margin, ``no`` where it lies below, else ``unclear``.
    """

    margin: float
    verdict: Verdict


@dataclass(frozen=True)
class Pair:
    """A run against the baseline, problem by problem, on one task.

    Attributes:
        name: The run.
        baseline: What it is compared with.
        task: The task.
        n: Problems that both answered: the comparison rests on these only.
        unmatched: Problems that only one of the two answered.
        accuracy_diff: Accuracy minus the baseline's, as a fraction.
        length_change: Mean length over the baseline's, minus 1; -0.5 is half as long.
        length: Mean tokens on the shared problems.
        baseline_length: The baseline's mean tokens on the shared problems.
        not_worse: Whether accuracy has suffered by more than the margin.
    """

    name: str
    baseline: str
    task: str
    n: int
    unmatched: int
    accuracy_diff: Estimate
    length_change: Estimate
    length: float
    baseline_length: float
    not_worse: NotWorse


@dataclass(frozen=True)
class Overall:
    """A run against the baseline over several tasks.

    The three ways to average a change of length differ by points, so all are given; tables and
    sentences use `length_change`, in which every task counts the same.

    Attributes:
        name: The run.
        baseline: What it is compared with.
        tasks: The tasks that both were asked.
        accuracy_diff: Mean over tasks of the difference of accuracy.
        length_change: Mean over tasks of the relative change of length.
        ratio_of_means: Change of the mean over tasks of the mean length: long tasks count more.
        pooled: Change of the mean length over all problems: large and long tasks count more.
    """

    name: str
    baseline: str
    tasks: tuple[str, ...]
    accuracy_diff: Estimate
    length_change: Estimate
    ratio_of_means: float
    pooled: float


@dataclass(frozen=True)
class _Problem:
    """One problem's responses, averaged: what counts as one independent observation."""

    gold: str
    responses: int
    accuracy: float
    length: float


def summarise(results: Iterable[Result]) -> Summary:
    """Sum up the results of one model on one task; their order does not matter.

    Raises:
        RunError: Where there are none.
    """
    rows = list(results)
    if not rows:
        raise RunError("There are no results to sum up yet. Run `laconic eval` to the end.")
    counts = Counter(row.outcome for row in rows)
    levels = sorted({row.level for row in rows if row.level is not None})
    whole = _level(rows)
    n = len(rows)
    return Summary(
        n=n,
        problems=len(_by_problem(rows)),
        accuracy=whole.accuracy,
        length=whole.length,
        truncated=sum(row.truncated for row in rows) / n,
        thinking=sum(row.thinks for row in rows) / n,
        reflective=sum(row.reflections > 0 for row in rows) / n,
        reflections=sum(row.reflections for row in rows) / n,
        thinking_length=sum(row.thinking_length for row in rows) / n,
        outcomes={outcome: counts[outcome] for outcome in get_args(Outcome)},
        by_level={level: _level([r for r in rows if r.level == level]) for level in levels},
    )


def pair(
    results: Iterable[Result],
    baseline: Iterable[Result],
    *,
    name: str,
    against: str,
    margin: float,
) -> Pair:
    """Compare two models on one task, problem by problem.

    A problem is shared where id and gold agree; repeats are averaged within a problem first.

    Args:
        results: The model's results.
        baseline: The baseline's results on the same task.
        name: What to call the model.
        against: What to call the baseline.
        margin: The loss of accuracy that is still acceptable, as a fraction.

    Raises:
        RunError: Where no problem is shared.
    """
    rows, others = list(results), list(baseline)
    tasks = sorted({row.task for row in (*rows, *others)})
    if len(tasks) > 1:
        raise RunError(f"A pair is of one task, got {', '.join(tasks)}. Compare task by task.")
    left, right = _by_problem(rows), _by_problem(others)
    shared = sorted(k for k in left.keys() & right.keys() if left[k].gold == right[k].gold)
    if not shared:
        raise RunError(
            f"{name} and {against} share no problem{''.join(f' of {t}' for t in tasks)}: nothing "
            "to compare. Evaluate both on the same problems."
        )
    ours = np.array([left[k].length for k in shared])
    theirs = np.array([right[k].length for k in shared])
    differences = np.array([left[k].accuracy - right[k].accuracy for k in shared])
    repeats = min(sum(side[k].responses for k in shared) / len(shared) for side in (left, right))
    difference = paired_difference(differences, repeats)
    return Pair(
        name=name,
        baseline=against,
        task=tasks[0],
        n=len(shared),
        unmatched=len(left.keys() | right.keys()) - len(shared),
        accuracy_diff=difference,
        length_change=relative_change(ours, theirs),
        length=float(np.mean(ours)),
        baseline_length=float(np.mean(theirs)),
        not_worse=NotWorse(margin, verdict(difference, margin)),
    )


def overall(pairs: Sequence[Pair]) -> Overall:
    """Average the comparisons of one run with one baseline over tasks, all counting the same.

    Args:
        pairs: One per task; at least one.
    """
    k, n = len(pairs), sum(p.n for p in pairs)
    theirs = sum(p.baseline_length for p in pairs) / k
    pooled = sum(p.n * p.baseline_length for p in pairs) / n
    return Overall(
        name=pairs[0].name,
        baseline=pairs[0].baseline,
        tasks=tuple(p.task for p in pairs),
        accuracy_diff=average([p.accuracy_diff for p in pairs]),
        length_change=average([p.length_change for p in pairs]),
        ratio_of_means=ratio(sum(p.length for p in pairs) / k, theirs) - 1,
        pooled=ratio(sum(p.n * p.length for p in pairs) / n, pooled) - 1,
    )


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


def verdict(difference: Estimate, margin: float) -> Verdict:
    """Whether an accuracy difference is above -margin for sure, below it for sure, or neither.

    With a two-sided 95 % interval this is the one-sided non-inferiority test at 2.5 %.
    """
    if difference.low > -margin:
        return "yes"
    return "no" if difference.high < -margin else "unclear"


def _level(rows: Sequence[Result]) -> Level:
    problems = _by_problem(rows).values()
    return Level(
        n=len(rows),
        accuracy=share(np.array([p.accuracy for p in problems]), len(rows)),
        length=mean(np.array([p.length for p in problems])),
    )


def _by_problem(rows: Iterable[Result]) -> dict[tuple[str, str], _Problem]:
    """Results averaged within each problem, in the order of the problems' names."""
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for row in rows:
        groups[row.task, row.id].append(row)
    return {
        key: _Problem(
            gold=groups[key][0].gold,
            responses=len(groups[key]),
            accuracy=sum(row.correct for row in groups[key]) / len(groups[key]),
            length=sum(row.length for row in groups[key]) / len(groups[key]),
        )
        for key in sorted(groups)
    }
