"""A comparison as JSON, as Markdown and as plain text for a terminal."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from laconic.report.details import detail_tables
from laconic.report.published import published_table
from laconic.report.tables import (
    Table,
    condition_table,
    main_table,
    outcome_table,
    overall_table,
    pair_table,
    run_table,
)
from laconic.report.terminal import set_lines
from laconic.report.words import (
    INTERVALS_IN_SHORT,
    front,
    headlines,
    interval_names,
    percent,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        "unequal": c.unequal,
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
        blocks += [f"## {_escaped(task)}", markdown(main_table(c, task)), _escaped(front(c, task))]
        beside = published_table(c, task)
        blocks += [markdown(beside)] if beside else []
    whole = overall_table(c)
    blocks += ["## All tasks", markdown(whole)] if whole else []
    for task in c.tasks:
        blocks += [f"## {_escaped(task)} in detail"]
        blocks += [markdown(table) for table in detail_tables(c, task)]
    blocks += ["## How it was measured", markdown(condition_table(c))]
    blocks += [f"{percent(c.level)} intervals:", _bullets(interval_names(c))]
    return "\n\n".join(blocks) + "\n"


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
        beside = published_table(c, task)
        if beside:
            yield beside
    whole = overall_table(c)
    if whole:
        yield whole
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


def _finite(value: Any) -> Any:
    """The value with null for whatever JSON has no number for."""
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
