"""Two models on the same problems: differences, lengths, and whether accuracy has suffered."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from laconic.errors import RunError
from laconic.stats.bounded import Estimate, Z, evidence, mean_within, ratio_within
from laconic.stats.intervals import average, error, ratio
from laconic.stats.notworse import NotWorse, settling, verdict
from laconic.stats.responses import Responses, columns, shared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from laconic.runs.run import Result


@dataclass(frozen=True)
class BothRight:
    """Lengths where both models are right, so that giving up does not look like brevity.

    Attributes:
        n: Problems that both answered rightly at least once.
        length: Mean tokens of the model's right answers to them, each problem counting the same.
        baseline_length: The same of the baseline's.
        length_change: The first over the second, minus 1.
    """

    n: int
    length: float
    baseline_length: float
    length_change: Estimate


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
        accuracy_error: The standard error of that difference, clustered by problem.
        length_change: Mean length over the baseline's, minus 1; -0.5 is half as long.
        change_error: The standard error of that change, clustered by problem (delta method).
        length_diff: Mean length minus the baseline's, in tokens.
        length: Mean tokens on the shared problems.
        baseline_length: The baseline's mean tokens on the shared problems.
        both_right: Lengths where both are right; None where they never are.
        not_worse: Whether accuracy has suffered by more than the margin.
    """

    name: str
    baseline: str
    task: str
    n: int
    unmatched: int
    accuracy_diff: Estimate
    accuracy_error: float
    length_change: Estimate
    change_error: float
    length_diff: Estimate
    length: float
    baseline_length: float
    both_right: BothRight | None
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
        change_error: Its standard error.
        ratio_of_means: Change of the mean over tasks of the mean length: long tasks count more.
        pooled: Change of the mean length over all problems: large and long tasks count more.
        not_worse: Whether accuracy, over the tasks, has suffered by more than the margin.
    """

    name: str
    baseline: str
    tasks: tuple[str, ...]
    accuracy_diff: Estimate
    length_change: Estimate
    change_error: float
    ratio_of_means: float
    pooled: float
    not_worse: NotWorse


def pair(
    results: Iterable[Result] | Responses,
    baseline: Iterable[Result] | Responses,
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
    left, right = columns(results), columns(baseline)
    if left.task != right.task:
        raise RunError(
            f"A pair is of one task, got {left.task}, {right.task}. Compare task by task."
        )
    i, j = shared(left, right)
    if not len(i):
        raise RunError(
            f"{name} and {against} share no problem of {left.task}: nothing to compare. Evaluate "
            "both on the same problems."
        )
    ours, theirs = left.lengths[i], right.lengths[j]
    gains = left.accuracies[i] - right.accuracies[j]
    most = max(left.longest, right.longest)
    accuracy_diff = mean_within(gains, -1.0, 1.0)
    return Pair(
        name=name,
        baseline=against,
        task=left.task,
        n=len(i),
        unmatched=_together(left, right) - len(i),
        accuracy_diff=accuracy_diff,
        accuracy_error=error(gains),
        length_change=_change(ours, theirs, most),
        change_error=_change_error(ours, theirs),
        length_diff=mean_within(ours - theirs, -most, most),
        length=float(np.mean(ours)),
        baseline_length=float(np.mean(theirs)),
        both_right=_both_right(_right_lengths(left)[i], _right_lengths(right)[j], most),
        not_worse=NotWorse(
            margin=margin,
            verdict=verdict(accuracy_diff, margin),
            evidence=evidence(gains, -margin, -1.0),
            settled_by=settling(gains, margin),
        ),
    )


def overall(pairs: Sequence[Pair]) -> Overall:
    """Average the comparisons of one run with one baseline over tasks, all counting the same.

    Args:
        pairs: One per task; at least one.
    """
    k, n = len(pairs), sum(p.n for p in pairs)
    theirs = sum(p.baseline_length for p in pairs) / k
    pooled = sum(p.n * p.baseline_length for p in pairs) / n
    accuracy_diff, margin = average([p.accuracy_diff for p in pairs]), pairs[0].not_worse.margin
    below = accuracy_diff.value - accuracy_diff.low
    return Overall(
        name=pairs[0].name,
        baseline=pairs[0].baseline,
        tasks=tuple(p.task for p in pairs),
        accuracy_diff=accuracy_diff,
        length_change=average([p.length_change for p in pairs]),
        change_error=math.hypot(*(p.change_error for p in pairs)) / k,
        ratio_of_means=ratio(sum(p.length for p in pairs) / k, theirs) - 1,
        pooled=ratio(sum(p.n * p.length for p in pairs) / n, pooled) - 1,
        not_worse=NotWorse(
            margin=margin,
            verdict=verdict(accuracy_diff, margin),
            evidence=Z * max(accuracy_diff.value + margin, 0.0) / below if below else 0.0,
        ),
    )


def _together(left: Responses, right: Responses) -> int:
    """How many problems at least one of two runs answers."""
    if left.problems == right.problems:
        return len(left.problems)
    return len({*left.problems, *right.problems})


def _right_lengths(responses: Responses) -> NDArray[np.float64]:
    """Mean tokens of each problem's right answers, NaN where none is right, ``[problem]``."""
    tokens = responses.means(responses.length * responses.correct)
    share = np.where(responses.accuracies > 0, responses.accuracies, np.nan)
    right: NDArray[np.float64] = tokens / share
    return right


def _change(ours: NDArray[np.float64], theirs: NDArray[np.float64], most: float) -> Estimate:
    """Mean length over the baseline's, minus 1; no completion is longer than `most` tokens."""
    found = ratio_within(ours, theirs, most, most)
    return Estimate(found.value - 1, found.low - 1, found.high - 1)


def _change_error(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """The standard error of a ratio of means (Cochran 1977, section 6.4)."""
    below = float(np.mean(theirs))
    if not below:
        return math.inf
    return error((ours - float(np.mean(ours)) / below * theirs) / below)


def _both_right(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], most: float
) -> BothRight | None:
    both = ~np.isnan(ours) & ~np.isnan(theirs)
    if not both.any():
        return None
    ours, theirs = ours[both], theirs[both]
    return BothRight(
        n=len(ours),
        length=float(np.mean(ours)),
        baseline_length=float(np.mean(theirs)),
        length_change=_change(ours, theirs, most),
    )
