"""What the page is made of: escaped text, sections, tables."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from laconic.reporting.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from laconic.reporting.tables.table import Cell, Table


def text(words: str) -> str:
    """Text that is only text, with no line break before a percent sign."""
    return escape(plain(words)).replace(" %", "\N{NO-BREAK SPACE}%")


def section(title: str, *parts: str, name: str = "") -> str:
    """A section with a heading; nothing where it would be empty."""
    content = "\n".join(part for part in parts if part)
    if not content:
        return ""
    identity = f' id="{name}"' if name else ""
    return f"<section{identity}><h2>{text(title)}</h2>\n{content}\n</section>"


def folded(title: str, *parts: str, look: str) -> str:
    """Content that is shown on demand; nothing where it would be empty."""
    content = "\n".join(part for part in parts if part)
    if not content:
        return ""
    return f'<details class="{look}"><summary>{text(title)}</summary>\n{content}\n</details>'


def table(content: Table | None) -> str:
    """A table that scrolls by itself where it is too wide."""
    if content is None:
        return ""
    sides = [' class="n"' if column.numeric else "" for column in content.columns]
    head = "".join(
        f'<th scope="col"{side}>{text(column.head)}</th>'
        for column, side in zip(content.columns, sides, strict=True)
    )
    rows = "\n".join(f"<tr>{''.join(_cells(row, sides))}</tr>" for row in content.rows)
    caption = text(content.caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
        f"<table><caption><span>{caption}</span></caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _cells(row: Iterable[Cell], sides: Sequence[str]) -> Iterable[str]:
    """The first cell names the row; the others are data."""
    for i, (cell, side) in enumerate(zip(row, sides, strict=True)):
        aside = f"<small>{text(cell.aside)}</small>" if cell.aside else ""
        content = f"{text(cell.text)}{aside}"
        if i == 0:
            yield f'<th scope="row">{content}</th>'
        elif cell.mood:
            yield f'<td{side}><span class="mood {cell.mood}">{content}</span></td>'
        else:
            yield f"<td{side}>{content}</td>"
