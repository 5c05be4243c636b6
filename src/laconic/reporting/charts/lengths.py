"""How long the answers are: a box for each run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laconic.reporting.charts.contract import Chart, Panel, Series, round_ticks, task_chart
from laconic.reporting.tables.details import QUANTILES, length_table, lengths
from laconic.reporting.wording import number, percent, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from laconic.reporting.comparison import ReportRow, RunComparison

#: Lengths that differ by this factor or more get a logarithmic axis.
WIDE: Final = 20.0


@task_chart
def answer_lengths(c: RunComparison, task: str) -> Iterator[Chart]:
    """How long short and long answers are."""
    found = [_series(c, row) for row in c.comparable(task)]
    least = min(max(series.x[0], 1) for series in found)
    log = max(series.x[-1] for series in found) / least > WIDE
    yield Chart(
        name="lengths",
        title="How long the answers are",
        says="Half of a run's answers lie within its box, the line in it is the median, and nine "
        "in ten lie between the ends of the thin lines. A long line to the right means a few very "
        "long answers.",
        kind="boxes",
        panels=(
            Panel(
                across="length of an answer, tokens",
                up="",
                series=tuple(found),
                ticks=round_ticks([x for series in found for x in series.x]) if log else (),
                log=log,
            ),
        ),
        order=20,
        tables=(length_table(c, task),),
    )


def _series(c: RunComparison, row: ReportRow) -> Series:
    tokens = lengths(c, row)
    words = ", ".join(
        f"{percent(q)} within {number(end, 0)}" for q, end in zip(QUANTILES, tokens, strict=True)
    )
    note = f"{words}; mean {number(row.summary.length.value, 0)}"
    return Series(plain(row.name), row.role, x=tuple(tokens), notes=(note,))
