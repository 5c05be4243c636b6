"""A comparison as CSV: a line for each run and task, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
import math
from typing import TYPE_CHECKING, Any

from laconic.reporting.incomparable import why
from laconic.reporting.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from laconic.reporting.comparison import ReportRow, RunComparison
    from laconic.reporting.tables.table import Table
    from laconic.stats import Estimate, Pair


def to_csv(c: RunComparison) -> str:
    """A line for each run and task: shares are fractions, lengths tokens, nothing is empty text.

    What is not known or not finite is left empty.
    """
    pairs = {(p.name, p.task): p for p in c.pairs}
    lines = [dict(_line(c, row, pairs.get((row.name, row.task)))) for row in c.runs]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def tables_to_csv(tables: Iterable[Table]) -> str:
    """Tables as CSV, as they are read, one after the other with an empty line between."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    for i, table in enumerate(tables):
        if i:
            writer.writerow([])
        writer.writerow([_safe(column.head) for column in table.columns])
        for row in table.rows:
            writer.writerow([_safe(" ".join(filter(None, (c.text, c.aside)))) for c in row])
    return stream.getvalue()


def _line(c: RunComparison, row: ReportRow, pair: Pair | None) -> Iterator[tuple[str, Any]]:
    s = row.summary
    yield "task", _safe(row.task)
    yield "run", _safe(row.name)
    yield "role", row.role
    yield "complete", row.complete
    yield "answers", s.n
    yield "problems", s.problems
    yield "max_tokens", row.max_tokens
    yield from _estimate("accuracy", s.accuracy)
    yield from _estimate("length", s.length)
    yield "median", _number(s.median)
    for name in ("truncated", "thinking", "thinking_tokens", "reflective", "reflections"):
        yield name, _number(getattr(s, name))
    yield "loops", _number(row.details.texts.loops)
    yield from _estimate("tokens_per_correct", s.tokens_per_correct)
    yield "on_front", row.name in c.pareto.get(row.task, ())
    yield "front", "" if row.details.front is None else row.details.front
    yield "baseline", _safe(c.baseline)
    yield from _estimate("accuracy_diff", pair.accuracy_diff if pair else None)
    yield from _estimate("length_change", pair.length_change if pair else None)
    yield "not_worse", pair.not_worse.verdict if pair else ""
    yield "tested_together", pair.not_worse.tested if pair else ""
    yield "settled_by", (pair.not_worse.settled_by or "") if pair else ""
    yield "apart", _safe(why(c.incomparable.get(row.task, {}).get(row.name, ())))


def _estimate(name: str, e: Estimate | None) -> Iterator[tuple[str, Any]]:
    for end in ("value", "low", "high"):
        key = name if end == "value" else f"{name}_{end}"
        yield key, "" if e is None else _number(getattr(e, end))


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else ""


def _safe(text: str) -> str:
    """Text that a spreadsheet does not run as a formula."""
    text = plain(text)
    return f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text
