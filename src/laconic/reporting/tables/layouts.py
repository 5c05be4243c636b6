"""Tables in the layout of a paper, to be held beside its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laconic.reporting.incomparable import why
from laconic.reporting.tables.table import Cell, Column, Table
from laconic.reporting.wording import DASH, number, signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from laconic.reporting.comparison import ReportRow, RunComparison
    from laconic.reporting.families import Role

#: The paper's order of rows: its fast model, its slow one, then what it makes of them.
_ORDER: Final[tuple[Role, ...]] = ("base", "system1", "system2", "merge")


def l2s_table(c: RunComparison) -> Table:
    """Rows and columns as Tables 1 and 3 of arXiv 2503.20641.

    Accuracy and change of length are the paper's own averages: every task counts the same. A run
    that was not asked every task has none, and one that must not be compared has no change.
    """
    cells = {(row.name, row.task): row for row in c.runs}
    incomparable = {
        name: why(reasons) for runs in c.incomparable.values() for name, reasons in runs.items()
    }
    return Table(
        caption="As Tables 1 and 3 of arXiv 2503.20641: accuracy in % (mean tokens) [answers that "
        f"reflect; keywords in each of them]; change of length against {c.baseline}, mean over "
        "tasks; all without intervals",
        columns=(
            Column("model", numeric=False),
            *(Column(task) for task in c.tasks),
            Column("Avg"),
            Column("\N{GREEK CAPITAL LETTER DELTA}Len, %"),
        ),
        rows=tuple(
            (
                Cell(name, f"apart: {incomparable[name]}" if name in incomparable else ""),
                *(_cell(cells.get((name, task))) for task in c.tasks),
                *_means(c, [cells.get((name, task)) for task in c.tasks], cells, incomparable),
            )
            for name in _names(c, incomparable)
        ),
    )


def _names(c: RunComparison, incomparable: Mapping[str, str]) -> list[str]:
    """The runs in the paper's order; incomparable ones last."""
    roles = {row.name: row.role for row in c.runs}
    return sorted(roles, key=lambda name: (name in incomparable, _ORDER.index(roles[name])))


def _cell(row: ReportRow | None) -> Cell:
    if row is None:
        return Cell(DASH)
    s, found = row.summary, row.details.texts.reflection["paper"]
    return Cell(
        f"{number(100 * s.accuracy.value)} ({number(s.length.value)})",
        f"[{round(found.share * s.n):,}; {number(found.per_reflective)}]",
    )


def _means(
    c: RunComparison,
    rows: list[ReportRow | None],
    cells: Mapping[tuple[str, str], ReportRow],
    incomparable: Mapping[str, str],
) -> Iterator[Cell]:
    """Mean accuracy, and the mean change of length against the baseline."""
    whole = [row for row in rows if row is not None]
    if len(whole) < len(rows):
        yield from (Cell(DASH), Cell(DASH))
        return
    yield Cell(number(100 * sum(row.summary.accuracy.value for row in whole) / len(whole)))
    if any(row.name in incomparable or (c.baseline, row.task) not in cells for row in whole):
        yield Cell(DASH)
        return
    changes = [
        row.summary.length.value / cells[c.baseline, row.task].summary.length.value - 1
        for row in whole
    ]
    yield Cell(signed(sum(changes) / len(changes)))


#: The layouts by name.
LAYOUTS: Final[Mapping[str, Callable[[RunComparison], Table]]] = {"l2s": l2s_table}
