"""Thinking, reflection, truncation and loops as shares of the answers: bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.reporting.charts.contract import Chart, Panel, Series, task_chart
from laconic.reporting.tables.details import thought_table
from laconic.reporting.tables.main import outcome_table
from laconic.reporting.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from laconic.reporting.comparison import ReportRow, RunComparison


@task_chart
def shares(c: RunComparison, task: str) -> Iterator[Chart]:
    """Which share of the answers thinks, reflects, was cut off or ends in a loop."""
    kinds: tuple[tuple[str, Callable[[ReportRow], float]], ...] = (
        ("closes a thought", lambda row: row.summary.thinking),
        ("reflects", lambda row: row.summary.reflective),
        ("cut off", lambda row: row.summary.truncated),
        ("ends in a loop", lambda row: row.details.texts.loops),
    )
    yield Chart(
        name="shares",
        title="Thinking, reflection, truncation",
        says="Which share of the answers closes a thought with </think>, holds a word of "
        "reflection such as “wait”, was cut off by the budget, or ends by repeating itself.",
        kind="bars",
        panels=tuple(
            Panel(
                across=f"{words}, %",
                up="",
                series=tuple(
                    Series(plain(row.name), row.role, x=(100 * share(row),))
                    for row in c.comparable(task)
                ),
            )
            for words, share in kinds
        ),
        order=30,
        tables=(thought_table(c, task), outcome_table(c, task)),
    )
