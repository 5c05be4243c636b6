"""Lines and tables as plain text of a given width: cells stacked or tables split where needed."""

from __future__ import annotations

import io
from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING

from laconic.reporting.tables.table import Cell, Table
from laconic.reporting.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.table import Table as RichTable

#: The first column names the rows; a table gets narrower until so much of a name fits on a line.
NAME = 12
GAP = 2


def set_lines(things: Iterable[str | Table], *, width: int | None = None) -> str:
    """Lines and tables as plain text, a blank line and the caption above each table.

    Args:
        things: What to set.
        width: Columns; by default the terminal's, 80 where there is none.
    """
    from rich.console import Console

    if width is None:
        terminal = Console()
        width = terminal.width if terminal.is_terminal else 80
    console = Console(
        file=io.StringIO(),
        width=width,
        color_system=None,
        force_terminal=False,
        legacy_windows=False,
    )

    def say(thing: str | RichTable) -> None:
        console.print(thing, markup=False, highlight=False, emoji=False, soft_wrap=False)

    for thing in things:
        if isinstance(thing, str):
            say(plain(thing))
        else:
            say("")
            say(plain(thing.caption))
            for part in _parts(_shown(thing), width):
                say(_rich(part))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _shown(table: Table) -> Table:
    """What is shown where space is scarce: plain text, names without their remarks."""
    keep = [i for i, column in enumerate(table.columns) if column.narrow]
    columns = (table.columns[i] for i in keep)
    rows = ([row[i] for i in keep] for row in table.rows)
    return replace(
        table,
        columns=tuple(replace(column, head=plain(column.head)) for column in columns),
        rows=tuple(
            (Cell(plain(first.text)), *(Cell(plain(c.text), plain(c.aside)) for c in rest))
            for first, *rest in rows
        ),
    )


def _flat(cell: Cell) -> Cell:
    """A cell on one line: ``value (aside)``."""
    return Cell(f"{cell.text} ({cell.aside})") if cell.aside else cell


def _stacked(cell: Cell) -> Cell:
    """A cell on two lines, its aside below its value."""
    return Cell(f"{cell.text}\n{cell.aside}") if cell.aside else cell


def _parts(table: Table, width: int) -> Iterator[Table]:
    """A table as it stands where it fits; else with stacked cells, in as few pieces as can be."""
    flat = replace(table, rows=tuple(tuple(map(_flat, row)) for row in table.rows))
    if _fits(flat, range(1, len(flat.columns)), width):
        yield flat
        return
    tall = replace(
        table,
        columns=tuple(
            replace(column, head="\n".join(wrap(column.head, NAME, break_long_words=False)))
            for column in table.columns
        ),
        rows=tuple(tuple(map(_stacked, row)) for row in table.rows),
    )
    piece: list[int] = []
    for i in range(1, len(tall.columns)):
        if piece and not _fits(tall, [*piece, i], width):
            yield _columns(tall, piece)
            piece = []
        piece.append(i)
    yield _columns(tall, piece)


def _fits(table: Table, chosen: Sequence[int], width: int) -> bool:
    """Whether some columns fit beside the names without a cut."""
    names = max((len(row[0].text) for row in table.rows), default=0)
    texts = ([table.columns[i].head, *(row[i].text for row in table.rows)] for i in chosen)
    taken = sum(
        max(len(line) for text in several for line in text.split("\n")) for several in texts
    )
    return taken + GAP * len(chosen) + min(names, NAME) <= width


def _columns(table: Table, chosen: Sequence[int]) -> Table:
    """The first column and some others."""
    keep = [0, *chosen]
    return replace(
        table,
        columns=tuple(table.columns[i] for i in keep),
        rows=tuple(tuple(row[i] for i in keep) for row in table.rows),
    )


def _rich(table: Table) -> RichTable:
    """A table for a terminal: names folded rather than cut."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)

    for column in table.columns:
        rich.add_column(
            Text(column.head),
            justify="right" if column.numeric else "left",
            overflow="fold",
            no_wrap=column.numeric,
        )
    for row in table.rows:
        rich.add_row(*(Text(cell.text) for cell in row))
    return rich
