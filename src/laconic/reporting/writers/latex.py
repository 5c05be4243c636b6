"""Tables as LaTeX, for papers: booktabs, text escaped."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from laconic.reporting.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from laconic.reporting.tables.table import Cell, Table

_SIGNS: Final[Mapping[str, str]] = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{INFINITY}": "$\\infty$",
    "\N{GREEK CAPITAL LETTER DELTA}": "$\\Delta$",
    "\N{EN DASH}": "--",
    "\N{HORIZONTAL ELLIPSIS}": "\\dots{}",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
}


def to_latex(tables: Iterable[Table]) -> str:
    """Tables as LaTeX, each in a ``table`` of its own; needs the package booktabs."""
    head = "% Needs \\usepackage{booktabs}.\n"
    return head + "\n".join(map(_table, tables))


def _table(table: Table) -> str:
    sides = "".join("r" if column.numeric else "l" for column in table.columns)
    lines = [
        "\\begin{table}",
        "\\centering\\small",
        f"\\caption{{{escape(table.caption)}}}",
        f"\\begin{{tabular}}{{{sides}}}",
        "\\toprule",
        _row(escape(column.head) for column in table.columns),
        "\\midrule",
        *(_row(map(_cell, row)) for row in table.rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _cell(cell: Cell) -> str:
    aside = escape(cell.aside)
    if aside and not aside.startswith("["):
        aside = f"({aside})"
    # Braces: a row that began with a bracket would be read as the distance to the one before.
    return f"{{{escape(cell.text)}}}" + (f" {{\\scriptsize {aside}}}" if aside else "")


def escape(text: str) -> str:
    """Text that LaTeX sets as it stands."""
    return re.sub(".", lambda sign: _SIGNS.get(sign[0], sign[0]), plain(text))
