"""A comparison, or tables alone, as Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from laconic.reporting.tables.details import detail_tables
from laconic.reporting.tables.main import (
    condition_table,
    incomparable_table,
    main_table,
    overall_table,
)
from laconic.reporting.tables.published import published_table
from laconic.reporting.wording import front_sentence, headlines, interval_names, percent, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from laconic.reporting.comparison import RunComparison
    from laconic.reporting.tables.table import Table


def to_markdown(c: RunComparison) -> str:
    """The comparison as Markdown: sentences, misgivings and tables."""
    blocks = ["# Accuracy and length", *(f"**{_escaped(line)}**" for line in headlines(c))]
    if c.warnings:
        blocks += ["## Before you believe it", _bullets(c.warnings)]
    for task in c.tasks:
        blocks += [
            f"## {_escaped(task)}",
            markdown(main_table(c, task)),
            _escaped(front_sentence(c, task)),
        ]
        beside = (incomparable_table(c, task), published_table(c, task))
        blocks += [markdown(table) for table in beside if table]
    whole = overall_table(c)
    blocks += ["## Over several tasks", markdown(whole)] if whole else []
    for task in c.tasks:
        blocks += [f"## {_escaped(task)} in detail"]
        blocks += [markdown(table) for table in detail_tables(c, task)]
    for course in c.histories:
        blocks += [f"## {_escaped(course.name)}", *map(markdown, course.tables)]
    blocks += ["## How it was measured", markdown(condition_table(c))]
    blocks += [f"{percent(c.level)} intervals:", _bullets(interval_names(c))]
    return "\n\n".join(blocks) + "\n"


def tables_to_markdown(tables: Iterable[Table]) -> str:
    """Tables as Markdown, each below its caption."""
    return "\n\n".join(map(markdown, tables)) + "\n"


def markdown(table: Table) -> str:
    """A table in Markdown, its caption above it."""
    rules = ["---:" if column.numeric else "---" for column in table.columns]
    lines = [
        [_escaped(column.head) for column in table.columns],
        rules,
        *(
            [_escaped(f"{cell.text} ({cell.aside})" if cell.aside else cell.text) for cell in row]
            for row in table.rows
        ),
    ]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{_escaped(table.caption)}\n\n{rows}"


def _escaped(text: str) -> str:
    """Text that Markdown and HTML leave as it is, on one line."""
    return re.sub(r"[\\`*\[\]<>|&$~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", plain(text))


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_escaped(line)}" for line in lines)
