"""A comparison as JSON: shares and changes are fractions, lengths are tokens."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from laconic.reporting.wording import finite, headlines

if TYPE_CHECKING:
    from laconic.reporting.comparison import ReportRow, RunComparison

SCHEMA = 1


def to_json(c: RunComparison) -> str:
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
            for task, runs in c.incomparable.items()
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


def _run_record(row: ReportRow) -> dict[str, Any]:
    """A row, with its summary and details beside its name."""
    record = asdict(row)
    return {**record, **record.pop("summary"), **record.pop("details")}
