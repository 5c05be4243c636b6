"""A comparison as JSON, as Markdown and as plain text for a terminal."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from laconic.report.published import published_table
from laconic.report.tables import (
    Table,
    condition_table,
    level_table,
    outcome_table,
    overall_table,
    pair_table,
    run_table,
)
from laconic.report.words import INTERVALS_IN_SHORT, headlines, interval_names, percent, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.table import Table as RichTable

    from laconic.report.data import Comparison, Row

SCHEMA = 1


def to_json(c: Comparison) -> str:
    """The comparison as JSON: shares and changes are fractions, lengths are tokens.

    What is not finite (an interval that one problem cannot close) is null.
    """
    record = {
        "schema": SCHEMA,
        "baseline": c.baseline,
        "margin": c.margin,
        "level": c.level,
        "headlines": headlines(c),
        "warnings": c.warnings,
        "runs": [_run_record(row) for row in c.runs],
        "pairs": [asdict(p) for p in c.pairs],
        "overall": [asdict(o) for o in c.overall],
        "pareto": c.pareto,
        "conditions": [asdict(condition) for condition in c.conditions],
        "intervals": c.intervals,
        "published": [asdict(figure) for figure in c.published],
    }
    return json.dumps(_finite(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_markdown(c: Comparison) -> str:
    """The comparison as Markdown: sentences, misgivings and tables."""
    blocks = ["# Accuracy and length", *(f"**{_escaped(line)}**" for line in headlines(c))]
    if c.warnings:
        blocks += ["## Before you believe it", _bullets(c.warnings)]
    for task in c.tasks:
        blocks += [f"## {_escaped(task)}"]
        for table in (
            run_table(c, task),
            pair_table(c, task),
            outcome_table(c, task),
            level_table(c, task),
            published_table(c, task),
        ):
            blocks += [_markdown(table)] if table else []
        blocks += [f"Front (none is better in both): {_escaped(', '.join(c.pareto[task]))}"]
    whole = overall_table(c)
    blocks += ["## All tasks", _markdown(whole)] if whole else []
    blocks += ["## How it was measured", _markdown(condition_table(c))]
    blocks += [f"{percent(c.level)} intervals:", _bullets(interval_names(c))]
    return "\n\n".join(blocks) + "\n"


def to_text(c: Comparison, *, width: int | None = None) -> str:
    """The comparison as plain text.

    Args:
        c: The comparison.
        width: Columns; by default the terminal's, 80 where there is none.
    """
    return set_lines(_lines(c), width=width)


def _lines(c: Comparison) -> Iterator[str | Table]:
    """A comparison as lines and tables."""
    yield from headlines(c)
    for task in c.tasks:
        for table in (
            run_table(c, task),
            pair_table(c, task),
            outcome_table(c, task),
            published_table(c, task),
        ):
            if table:
                yield table
        yield f"Front (none is better in both): {', '.join(c.pareto[task])}"
    whole = overall_table(c)
    if whole:
        yield whole
    for warning in c.warnings:
        yield ""
        yield f"Warning: {warning}"
    if c.pairs:
        yield ""
        yield f"{percent(c.level)} intervals: {INTERVALS_IN_SHORT}."


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
            say(_rich(thing))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def _run_record(row: Row) -> dict[str, Any]:
    summary = asdict(row.summary)
    summary["by_level"] = {str(level): v for level, v in summary["by_level"].items()}
    head = {key: value for key, value in asdict(row).items() if key != "summary"}
    return {**head, **summary}


def _finite(value: Any) -> Any:
    """The value with null for whatever JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _escaped(text: str) -> str:
    """Text that Markdown and HTML leave as it is, on one line."""
    return re.sub(r"[\\`*\[\]<>|&$~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", plain(text))


def _bullets(lines: Any) -> str:
    return "\n".join(f"- {_escaped(line)}" for line in lines)


def _markdown(table: Table) -> str:
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


def _rich(table: Table) -> RichTable:
    """A table for a terminal: the columns that fit, names folded rather than cut."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = [i for i, column in enumerate(table.columns) if column.narrow]
    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for i in shown:
        column = table.columns[i]
        rich.add_column(
            Text(plain(column.head)),
            justify="right" if column.numeric else "left",
            overflow="fold",
            no_wrap=column.numeric,
        )
    for row in table.rows:
        cells = [row[i] for i in shown]
        words = [cells[0].text]
        words += [f"{c.text} ({c.aside})" if c.aside else c.text for c in cells[1:]]
        rich.add_row(*(Text(plain(word)) for word in words))
    return rich
