"""Accuracy, length and reflection by difficulty: the task's own levels, or what proved hard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.reporting.charts.contract import Chart, Panel, Series, ends, shown_first, task_chart
from laconic.reporting.tables.details import EASES, ease_table, level_table
from laconic.reporting.wording import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from laconic.reporting.comparison import ReportRow, RunComparison
    from laconic.stats import Level

    #: A value at a difficulty, with its interval where there is one.
    Measure = Callable[[Level], tuple[float, tuple[float, float] | None]]

SAYS = (
    "A model that thinks no more than it must spends its tokens on the right, where problems are "
    "hard, and few on the left. Bars are 95 % intervals."
)


@task_chart
def level(c: RunComparison, task: str) -> Iterator[Chart]:
    """By the task's own levels."""
    rows = c.comparable(task)
    levels = sorted({level for row in rows for level in row.summary.by_level})
    if len(levels) > 1:
        yield Chart(
            name="level",
            title="Accuracy, length and reflection by the task's own difficulty",
            says=f"The task's own levels, 1 the easiest. {SAYS}",
            kind="lines",
            panels=_panels(
                c,
                task,
                [str(level) for level in levels],
                {row.name: [row.summary.by_level.get(level) for level in levels] for row in rows},
            ),
            order=40,
            tables=(level_table(c, task),),
        )


@task_chart
def ease(c: RunComparison, task: str) -> Iterator[Chart]:
    """By how often all runs together failed a problem."""
    rows = c.comparable(task)
    eases = [ease for ease in EASES if any(ease in row.details.by_ease for row in rows)]
    if len(eases) > 1:
        yield Chart(
            name="ease",
            title="Accuracy, length and reflection by how hard the problems proved",
            says="Easy problems were answered right two times in three or more by all runs "
            f"together, hard ones less than once in three. {SAYS}",
            kind="lines",
            panels=_panels(
                c,
                task,
                eases,
                {row.name: [row.details.by_ease.get(ease) for ease in eases] for row in rows},
            ),
            order=50,
            tables=(ease_table(c, task),),
        )


def _panels(
    c: RunComparison, task: str, words: Sequence[str], by_run: dict[str, list[Level | None]]
) -> tuple[Panel, ...]:
    """A panel for each of accuracy, length and reflection.

    Args:
        c: The comparison.
        task: The task.
        words: The names of the difficulties, the easiest first.
        by_run: What each run shows at each difficulty.
    """
    first = shown_first(c, task)
    measures: tuple[tuple[str, Measure], ...] = (
        ("accuracy, %", lambda v: (100 * v.accuracy.value, ends(v.accuracy, 100))),
        ("mean length, tokens", lambda v: (v.length.value, ends(v.length))),
        ("reflection words an answer", lambda v: (v.reflections, None)),
    )
    return tuple(
        Panel(
            across="difficulty",
            up=up,
            series=tuple(
                _series(row, by_run[row.name], measure, shown=row.name in first)
                for row in c.comparable(task)
            ),
            categories=tuple(words),
            y_from_zero="%" not in up,
        )
        for up, measure in measures
    )


def _series(
    row: ReportRow, levels: Sequence[Level | None], measure: Measure, *, shown: bool
) -> Series:
    measured = [(i, level, *measure(level)) for i, level in enumerate(levels) if level]
    intervals = tuple(interval for *_, interval in measured if interval is not None)
    return Series(
        name=plain(row.name),
        role=row.role,
        x=tuple(float(i) for i, *_ in measured),
        y=tuple(y for _, _, y, _ in measured),
        y_ends=intervals if len(intervals) == len(measured) else (),
        notes=tuple(f"{level.n:,} answers" for _, level, _, _ in measured),
        shown=shown,
    )
