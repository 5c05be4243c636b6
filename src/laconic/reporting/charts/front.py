"""Accuracy against length, with intervals, the Pareto front and how sure that front is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laconic.reporting.charts.contract import Area, Chart, Panel, Series, ends, task_chart
from laconic.reporting.checks import TRUNCATED
from laconic.reporting.tables.main import incomparable_table, main_table
from laconic.reporting.tables.published import published_table
from laconic.reporting.wording import (
    front_sentence,
    number,
    percent,
    plain,
    share_interval,
    short,
    some,
    sureness,
    token_interval,
)
from laconic.stats import front_band

if TYPE_CHECKING:
    from collections.abc import Iterator

    from laconic.reporting.comparison import ReportRow, RunComparison

#: Of more runs than this, only the parents and the front are labelled.
MOST_LABELS: Final = 20


@task_chart
def front(c: RunComparison, task: str) -> Iterator[Chart]:
    """Accuracy against mean length, and the front of the runs that none beats in both."""
    rows = c.comparable(task)
    hollow = any(row.summary.truncated > TRUNCATED for row in rows)
    differences = c.unequal.get(task, ())
    tables = (main_table(c, task), incomparable_table(c, task), published_table(c, task))
    yield Chart(
        name="front",
        title="Accuracy against length",
        says="Each mark is a run: the further up, the more answers are right; the further left, "
        "the shorter they are. Bars are 95 % intervals. The dashed steps are the front: the best "
        "accuracy to be had for at most so many tokens; the shaded band is where it would run, 95 "
        "times in 100, with other problems of the same kind."
        + (f" A hollow mark: more than {percent(TRUNCATED)} of its answers were cut off." * hollow),
        kind="points",
        panels=(_panel(c, task),),
        order=10,
        caution=f"Caution: not measured alike ({some(differences, 2)})" if differences else "",
        hollow_means=f"over {percent(TRUNCATED)} cut off" if hollow else "",
        instead=front_sentence(c, task),
        tables=tuple(table for table in tables if table),
        folded=False,
    )


def _panel(c: RunComparison, task: str) -> Panel:
    rows = c.comparable(task)
    lengths = [row.summary.length.value for row in rows]
    on_front = [row.summary for row in rows if row.name in c.pareto[task]]
    return Panel(
        across="mean length, tokens",
        up="accuracy, %",
        series=tuple(_series(row, labelled=_is_labelled(row, c, task)) for row in rows),
        x_from_zero=min(lengths) < max(lengths) / 2,
        y_from_zero=False,
        front=tuple((s.length.value, 100 * s.accuracy.value) for s in on_front),
        area=_area(c, task) if len(rows) > 1 else None,
    )


def _series(row: ReportRow, *, labelled: bool) -> Series:
    s = row.summary
    return Series(
        name=plain(row.name),
        role=row.role,
        x=(s.length.value,),
        y=(100 * s.accuracy.value,),
        x_ends=(ends(s.length),),
        y_ends=(ends(s.accuracy, 100),),
        notes=(_note(row),),
        label=_label(row) if labelled else "",
        hollow=s.truncated > TRUNCATED,
        joined=False,
    )


def _is_labelled(row: ReportRow, c: RunComparison, task: str) -> bool:
    few = len(c.comparable(task)) <= MOST_LABELS
    return few or row.role != "merge" or row.name in c.pareto[task]


def _label(row: ReportRow) -> str:
    """A run's name, and what qualifies its numbers."""
    remarks = [] if row.complete else ["unfinished"]
    if row.summary.truncated > TRUNCATED:
        remarks.append(f"{100 * row.summary.truncated:.0f} % cut")
    return f"{short(row.name)} ({', '.join(remarks)})" if remarks else short(row.name)


def _note(row: ReportRow) -> str:
    """What is said of a run when a reader points at its mark."""
    s = row.summary
    facts = [
        f"{number(100 * s.accuracy.value)} % right ({share_interval(s.accuracy)})",
        f"{number(s.length.value, 0)} tokens ({token_interval(s.length)})",
        f"{percent(round(s.truncated, 3))} cut off",
        f"on the front in {sureness(row.details.front)} of redrawn sets of problems",
    ]
    return "; ".join([*facts, *([] if row.complete else ["unfinished"])])


def _area(c: RunComparison, task: str) -> Area:
    """Where the front would run with other problems of the same kind, 95 times in 100."""
    band = front_band({row.name: c.responses[row.name, task] for row in c.comparable(task)})
    return Area(
        name="95 % band",
        x=band.length,
        low=tuple(100 * value for value in band.low),
        high=tuple(100 * value for value in band.high),
    )
