"""Which runs must not stand beside the others: another budget, grader, problems or wording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from laconic.reporting.wording import plain
from laconic.stats import shared

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from laconic.runs.experiment import TaskRecord
    from laconic.runs.run import Run
    from laconic.stats import Responses


@dataclass(frozen=True)
class Reason:
    """Why a run must not be compared with the others of its task.

    Attributes:
        what: In what it differs.
        words: How, for a reader: ``budget 512 tokens, not 2,048``.
    """

    what: Literal["budget", "length", "grader", "problems"]
    words: str


def find_incomparable(
    named: Mapping[str, Run],
    parts: Mapping[tuple[str, str], Responses],
    baseline: str,
) -> dict[str, dict[str, tuple[Reason, ...]]]:
    """By task, the runs that must not be compared with the baseline, and why.

    Runs that were asked fewer or more of the same problems in the same words may be: their pairs
    rest on the problems that both answered. On a task that the baseline was not asked, the run
    with the most answers takes its place.

    Args:
        named: The runs by name.
        parts: Their results by run and task.
        baseline: The run that the others are compared with.

    Returns:
        Nothing for a task whose runs may all be compared.
    """
    found: dict[str, dict[str, tuple[Reason, ...]]] = {}
    for task in dict.fromkeys(task for _, task in parts):
        runs = [name for name in named if (name, task) in parts]
        against = baseline if baseline in runs else max(runs, key=lambda n: len(parts[n, task]))
        reasons = {
            name: tuple(_reasons(task, (named[name], named[against]), parts)) for name in runs
        }
        if incomparable := {name: why for name, why in reasons.items() if why}:
            found[task] = incomparable
    return found


def why(reasons: Sequence[Reason]) -> str:
    """The reasons in a row, fit to be shown."""
    return plain("; ".join(reason.words for reason in reasons))


def _reasons(
    task: str, runs: tuple[Run, Run], parts: Mapping[tuple[str, str], Responses]
) -> Iterator[Reason]:
    """In what a run differs from the one that it would be compared with."""
    run, against = runs
    mine, other = _record(run, task), _record(against, task)
    left, right = parts[run.name, task], parts[against.name, task]
    if run is not against:
        if not _same_budget((mine.max_tokens, left), (other.max_tokens, right)):
            yield Reason("budget", _budgets(mine.max_tokens, other.max_tokens))
        short = next((r.name for r in (run, against) if r.provenance.get("answers_only")), None)
        if short is not None:
            yield Reason("length", f"the lengths of {short} leave out the thoughts")
    if run.experiment.grader != against.experiment.grader:
        yield Reason(
            "grader", f"graded by {run.experiment.grader}, not {against.experiment.grader}"
        )
    strategies = run.experiment.strategy, against.experiment.strategy
    if mine.digest != other.digest or strategies[0] != strategies[1]:
        common = len(shared(left, right)[0])
        if not common:
            yield Reason("problems", f"no problem in common with {against.name}")
        elif not _same_words(left, right):
            yield Reason("problems", f"asked in other words than {against.name}")


def _same_budget(mine: tuple[int | None, Responses], other: tuple[int | None, Responses]) -> bool:
    """Whether two runs would be what they are under one budget.

    A run of a budget that is not known and that cut nothing is the same under every budget that its
    longest completion fits in.
    """
    if mine[0] is not None and other[0] is not None:
        return mine[0] == other[0]
    for cap, responses in (mine, other):
        if cap is None and responses.truncated.any():
            return False
    known = next(((cap, r) for cap, r in (mine, other) if cap is not None), None)
    longest = max(float(responses.length.max()) for _, responses in (mine, other))
    return known is None or longest <= known[0] or not known[1].truncated.any()


def _budgets(mine: int | None, other: int | None) -> str:
    """How two budgets differ, in words."""
    if mine is None or other is None:
        return "a budget is not known, and answers were cut"
    return f"budget {mine:,} tokens, not {other:,}"


def _record(run: Run, task: str) -> TaskRecord:
    return next(record for record in run.experiment.tasks if record.name == task)


def _same_words(left: Responses, right: Responses) -> bool:
    """Whether the problems of one id and gold are worded alike in both."""
    asked = {(row.id, row.gold): row.problem for row in right.results}
    return all(asked.get((row.id, row.gold), row.problem) == row.problem for row in left.results)
