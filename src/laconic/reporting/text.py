"""A comparison as JSON, as Markdown and as plain text for a terminal."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from laconic.reporting.details import detail_tables
from laconic.reporting.published import published_table
from laconic.reporting.tables import (
    Table,
    apart_table,
    condition_table,
    main_table,
    outcome_table,
    overall_table,
    pair_table,
    run_table,
)
from laconic.reporting.terminal import set_lines
from laconic.reporting.wording import (
    INTERVALS_IN_SHORT,
    finite,
    front,
    headlines,
    interval_names,
    percent,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from laconic.reporting.data import Comparison, Row

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
        "unequal": c.unequal,
        "apart": {
            task: {name: [reason.words for reason in why] for name, why in runs.items()}
            for task, runs in c.apart.items()
        },
        "runs": [_run_record(row) for row in c.runs],
        "pairs": [asdict(p) for p in c.pairs],
        "overall": [asdict(o) for o in c.overall],
        "left_out": c.left_out,
        "pareto": c.pareto,
        "conditions": [asdict(condition) for condition in c.conditions],
        "intervals": c.intervals,
        "published": [asdict(figure) for figure in c.published],
    }
    return json.dumps(finite(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_markdown(c: Comparison) -> str:
    """The comparison as Markdown: sentences, misgivings and tables."""
    blocks = ["# Accuracy and length", *(f"**{_escaped(line)}**" for line in headlines(c))]
    if c.warnings:
        blocks += ["## Before you believe it", _bullets(c.warnings)]
    for task in c.tasks:
        blocks += [f"## {_escaped(task)}", markdown(main_table(c, task)), _escaped(front(c, task))]
        beside = (apart_table(c, task), published_table(c, task))
        blocks += [markdown(table) for table in beside if table]
    whole = overall_table(c)
    blocks += ["## Over several tasks", markdown(whole)] if whole else []
    for task in c.tasks:
        blocks += [f"## {_escaped(task)} in detail"]
        blocks += [markdown(table) for table in detail_tables(c, task)]
    for course in c.courses:
        blocks += [f"## {_escaped(course.name)}", *map(markdown, course.tables)]
    blocks += ["## How it was measured", markdown(condition_table(c))]
    blocks += [f"{percent(c.level)} intervals:", _bullets(interval_names(c))]
    return "\n\n".join(blocks) + "\n"


def main_tables(c: Comparison) -> list[Table]:
    """The tables that a paper would hold: the runs of each task, and all tasks together."""
    found: list[Table | None] = []
    for task in c.tasks:
        found += [run_table(c, task), pair_table(c, task), apart_table(c, task)]
    return [table for table in (*found, overall_table(c)) if table]


def tables_to_markdown(tables: Iterable[Table]) -> str:
    """Tables as Markdown, each below its caption."""
    return "\n\n".join(map(markdown, tables)) + "\n"


def to_text(c: Comparison, *, width: int | None = None, details: bool = False) -> str:
    """The comparison as plain text.

    Args:
        c: The comparison.
        width: Columns; by default the terminal's, 80 where there is none.
        details: Whether to show every table, rather than the main ones.
    """
    return set_lines(_lines(c, details=details), width=width)


def _lines(c: Comparison, *, details: bool) -> Iterator[str | Table]:
    """A comparison as lines and tables."""
    yield from headlines(c)
    for task in c.tasks:
        tables = (run_table(c, task), pair_table(c, task))
        yield from (table for table in tables if table)
        yield from detail_tables(c, task) if details else (outcome_table(c, task),)
        yield front(c, task)
        yield from filter(None, (apart_table(c, task), published_table(c, task)))
    whole = overall_table(c)
    if whole:
        yield whole
    for course in c.courses:
        yield from course.tables if details else (course.story,)
    if details:
        yield condition_table(c)
    for warning in c.warnings:
        yield ""
        yield f"Warning: {warning}"
    if c.pairs:
        yield ""
        yield f"{percent(c.level)} intervals: {INTERVALS_IN_SHORT}."


def _run_record(row: Row) -> dict[str, Any]:
    """A row, with its summary and details beside its name."""
    record = asdict(row)
    return {**record, **record.pop("summary"), **record.pop("details")}


def _escaped(text: str) -> str:
    """Text that Markdown and HTML leave as it is, on one line."""
    return re.sub(r"[\\`*\[\]<>|&$~#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", plain(text))


def _bullets(lines: Any) -> str:
    return "\n".join(f"- {_escaped(line)}" for line in lines)


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
