"""Measured runs beside the figures that a paper published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.evaluation.protocols.load import PRESETS
from laconic.reporting.tables.table import Cell, Column, Table
from laconic.reporting.wording import DASH, number, tokens

if TYPE_CHECKING:
    from laconic.reporting.comparison import RunComparison


def published_table(c: RunComparison, task: str) -> Table | None:
    """Measured runs of a protocol above the published figures; None where no run follows one."""
    figures = [figure for figure in c.published if figure.task == task]
    if not figures:
        return None
    sources = dict.fromkeys(figure.preset for figure in figures)
    measured = [
        (
            Cell(row.name),
            Cell(number(row.summary.accuracy.value * 100)),
            Cell(tokens(row.summary.length.value)),
            Cell("measured"),
        )
        for row in c.rows(task)
    ]
    return Table(
        caption=f"{task}: beside published figures, which have no intervals "
        f"({'; '.join(f'{name}: {PRESETS.get(name).source}' for name in sources)})",
        columns=(
            Column("model", numeric=False),
            Column("accuracy, %"),
            Column("length, tokens"),
            Column("from", numeric=False),
        ),
        rows=(
            *measured,
            *(
                (
                    Cell(figure.name),
                    Cell(number(figure.accuracy * 100)),
                    Cell(DASH if figure.length is None else tokens(figure.length)),
                    Cell(figure.preset),
                )
                for figure in figures
            ),
        ),
    )
