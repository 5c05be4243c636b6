"""A table as plain values: cells of text that every writer sets in its own way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """What a cell says.

    Attributes:
        text: The value.
        aside: Its interval or a remark, set smaller.
        mood: ``yes``, ``no`` or ``unclear`` where the cell is a verdict, ``no`` where it is a cause
            for concern, else empty.
    """

    text: str
    aside: str = ""
    mood: str = ""


@dataclass(frozen=True)
class Column:
    """A column's head.

    Attributes:
        head: What it holds, unit included.
        numeric: Whether its cells are aligned to the right.
        narrow: Whether it is shown where space is scarce too.
    """

    head: str
    numeric: bool = True
    narrow: bool = True


@dataclass(frozen=True)
class Table:
    """A table with its caption; the first column names the rows."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
