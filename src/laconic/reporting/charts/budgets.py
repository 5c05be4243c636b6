"""Accuracy as it would have been under smaller budgets: a line for each run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laconic.reporting.charts.contract import (
    Chart,
    Panel,
    Series,
    ends,
    shown_first,
    task_chart,
)
from laconic.reporting.tables.details import budget_table
from laconic.reporting.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from laconic.reporting.comparison import ReportRow, RunComparison

#: Budgets nearer than this factor to the one below are not marked on the axis.
CLOSE: Final = 1.25


@task_chart
def budgets(c: RunComparison, task: str) -> Iterator[Chart]:
    """What each run would have scored, had its answers been cut at fewer tokens."""
    if all(len(row.details.budgets) < 2 for row in c.comparable(task)):
        return
    rows, first = c.same_but_budget(task), shown_first(c, task)
    caps = sorted({b.cap for row in rows for b in row.details.budgets})
    ticks = [cap for i, cap in enumerate(caps) if not i or cap > caps[i - 1] * CLOSE]
    yield Chart(
        name="budgets",
        title="What smaller budgets would have cost",
        says="The accuracy each run would have had, had its answers been cut at fewer tokens; an "
        "answer that the cut meets counts as wrong. Where a short run lies above a long one, it "
        "is the better choice at that budget.",
        kind="lines",
        panels=(
            Panel(
                across="budget, tokens an answer",
                up="accuracy, %",
                series=tuple(_series(row, shown=row.name in first) for row in rows),
                ticks=tuple(map(float, ticks)),
                log=True,
                y_from_zero=False,
            ),
        ),
        order=60,
        tables=(budget_table(c, task),),
    )


def _series(row: ReportRow, *, shown: bool) -> Series:
    ascending = row.details.budgets[::-1]
    return Series(
        name=plain(row.name),
        role=row.role,
        x=tuple(float(b.cap) for b in ascending),
        y=tuple(100 * b.accuracy.value for b in ascending),
        y_ends=tuple(ends(b.accuracy, 100) for b in ascending),
        shown=shown,
    )
