"""A comparison as plain text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.reporting.tables.details import detail_tables
from laconic.reporting.tables.main import (
    condition_table,
    incomparable_table,
    outcome_table,
    overall_table,
    pair_table,
    run_table,
)
from laconic.reporting.tables.published import published_table
from laconic.reporting.wording import INTERVALS_IN_SHORT, front_sentence, headlines, percent
from laconic.reporting.writers.terminal import set_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from laconic.reporting.comparison import RunComparison
    from laconic.reporting.tables.table import Table


def to_text(c: RunComparison, *, width: int | None = None, details: bool = False) -> str:
    """The comparison as plain text.

    Args:
        c: The comparison.
        width: Columns; by default the terminal's, 80 where there is none.
        details: Whether to show every table, rather than the main ones.
    """
    return set_lines(_lines(c, details=details), width=width)


def _lines(c: RunComparison, *, details: bool) -> Iterator[str | Table]:
    """A comparison as lines and tables."""
    yield from headlines(c)
    for task in c.tasks:
        tables = (run_table(c, task), pair_table(c, task))
        yield from (table for table in tables if table)
        yield from detail_tables(c, task) if details else (outcome_table(c, task),)
        yield front_sentence(c, task)
        yield from filter(None, (incomparable_table(c, task), published_table(c, task)))
    whole = overall_table(c)
    if whole:
        yield whole
    for course in c.histories:
        yield from course.tables if details else (course.story,)
    if details:
        yield condition_table(c)
    for warning in c.warnings:
        yield ""
        yield f"Warning: {warning}"
    if c.pairs:
        yield ""
        yield f"{percent(c.level)} intervals: {INTERVALS_IN_SHORT}."
