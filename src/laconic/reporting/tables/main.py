"""The main tables of a report: accuracy and length, against the baseline, how it was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from laconic.reporting.checks import TRUNCATED
from laconic.reporting.incomparable import why
from laconic.reporting.tables.table import Cell, Column, Table
from laconic.reporting.wording import (
    DASH,
    ROLES,
    about,
    number,
    points,
    share_interval,
    signed,
    signed_interval,
    some,
    sureness,
    together,
    token_interval,
    tokens,
    unsettled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.reporting.comparison import ReportRow, RunComparison
    from laconic.stats import Pair


#: The outcomes in a table's words.
OUTCOMES: Mapping[str, str] = {
    "correct": "right",
    "wrong": "wrong",
    "no_answer": "no answer",
    "truncated_boxed": "cut, wrong",
    "truncated_no_answer": "cut, no answer",
    "grader_timeout": "timeout",
    "grader_error": "error",
}


#: What the columns of a pair are called beside those of the runs.
AGAINST: Mapping[str, str] = {
    "accuracy, points": "accuracy difference, points",
    "length, %": "change of length, %",
    "not worse": "not worse",
}


def main_tables(c: RunComparison) -> list[Table]:
    """The tables that a paper would hold: the runs of each task, and all tasks together."""
    found: list[Table | None] = []
    for task in c.tasks:
        found += [run_table(c, task), pair_table(c, task), incomparable_table(c, task)]
    return [table for table in (*found, overall_table(c)) if table]


def main_table(c: RunComparison, task: str) -> Table:
    """Every run of a task in one wide table: accuracy, length, and both against the baseline."""
    runs, pairs = run_table(c, task), pair_table(c, task)
    if pairs is None:
        return runs
    against = {row[0].text: row[1:] for row in pairs.rows}
    tested = together([p.not_worse for p in c.pairs if p.task == task])
    blank = tuple(Cell(DASH) for _ in pairs.columns[1:])
    return Table(
        caption=f"{runs.caption}; against {c.baseline} (baseline: {c.why}), problem by problem; "
        f"not worse: by no more than {points(c.margin)}{tested}",
        columns=(
            *runs.columns,
            *(replace(column, head=AGAINST[column.head]) for column in pairs.columns[1:]),
        ),
        rows=tuple((*row, *against.get(row[0].text, blank)) for row in runs.rows),
    )


def run_table(c: RunComparison, task: str) -> Table:
    """Every run of a task: accuracy, length, and what qualifies them."""
    rows = c.comparable(task)
    caps = sorted({row.max_tokens for row in rows if row.max_tokens is not None})
    known = " or ".join(f"{cap:,}" for cap in caps)
    budgets = [f"{known} tokens"] if known else []
    unknown = ["not known"] if any(row.max_tokens is None for row in rows) else []
    return Table(
        caption=f"{task}: accuracy and length, shortest first "
        f"(budget {' or '.join([*budgets, *unknown])})",
        columns=(
            Column("run", numeric=False),
            Column("answers", narrow=False),
            Column("accuracy, %"),
            Column("length, tokens"),
            Column("median", narrow=False),
            Column("cut, %"),
            Column("on front"),
        ),
        rows=tuple(_run(row, c, front=row.name in c.pareto[task]) for row in rows),
    )


def incomparable_table(c: RunComparison, task: str) -> Table | None:
    """The runs of a task that must not be compared with the others; None where all may be."""
    incomparable = c.incomparable.get(task, {})
    if not incomparable:
        return None
    return Table(
        caption=f"{task}: measured otherwise, not to be compared with the runs above",
        columns=(
            Column("run", numeric=False),
            Column("accuracy, %"),
            Column("length, tokens"),
            Column("cut, %"),
            Column("why apart", numeric=False),
        ),
        rows=tuple(
            (
                Cell(row.name, _remarks(row, c)),
                Cell(
                    number(row.summary.accuracy.value * 100), share_interval(row.summary.accuracy)
                ),
                Cell(tokens(row.summary.length.value), token_interval(row.summary.length)),
                Cell(number(row.summary.truncated * 100)),
                Cell(why(incomparable[row.name])),
            )
            for row in c.rows(task)
            if row.name in incomparable
        ),
    )


def pair_table(c: RunComparison, task: str) -> Table | None:
    """Every run of a task against the baseline; None where nothing can be compared."""
    pairs = [p for p in c.pairs if p.task == task]
    if not pairs:
        return None
    return Table(
        caption=f"{task}: against {c.baseline} (baseline: {c.why}), problem by problem; "
        f"not worse: by no more than {points(c.margin)}{together([p.not_worse for p in pairs])}",
        columns=(
            Column("run", numeric=False),
            Column("accuracy, points"),
            Column("length, %"),
            Column("not worse", numeric=False),
        ),
        rows=tuple(
            (
                Cell(p.name),
                Cell(signed(p.accuracy_diff.value), signed_interval(p.accuracy_diff)),
                Cell(signed(p.length_change.value), signed_interval(p.length_change)),
                _verdict(p),
            )
            for p in pairs
        ),
    )


def _verdict(p: Pair) -> Cell:
    """Whether a run is not worse, and how many problems would tell where these cannot."""
    found = p.not_worse
    needed = f"needs about {about(found.settled_by or 0)} problems"
    return Cell(found.verdict, needed if unsettled(found, p.n) else "", mood=found.verdict)


def overall_table(c: RunComparison) -> Table | None:
    """Runs against the baseline over several tasks; None where there is one task only."""
    if not c.overall:
        return None
    tasks, left_out = c.overall[0].tasks, f" (left out: {', '.join(c.left_out)})"
    scope = f"Over {', '.join(tasks)}{left_out}" if c.left_out else "All tasks"
    tested = together([o.not_worse for o in c.overall])
    return Table(
        caption=f"{scope}: against {c.baseline}; length is the mean over tasks of each change; "
        f"not worse: by no more than {points(c.margin)}{tested}",
        columns=(
            Column("run", numeric=False),
            Column("tasks"),
            Column("accuracy, points"),
            Column("length, %"),
            Column("of mean lengths, %", narrow=False),
            Column("of all tokens, %", narrow=False),
            Column("not worse", numeric=False),
        ),
        rows=tuple(
            (
                Cell(o.name),
                Cell(str(len(o.tasks))),
                Cell(signed(o.accuracy_diff.value), signed_interval(o.accuracy_diff)),
                Cell(signed(o.length_change.value), signed_interval(o.length_change)),
                Cell(signed(o.ratio_of_means)),
                Cell(signed(o.pooled)),
                Cell(o.not_worse.verdict, mood=o.not_worse.verdict),
            )
            for o in c.overall
        ),
    )


def outcome_table(c: RunComparison, task: str) -> Table:
    """How the grading of every run's answers ended, each answer counted once."""
    return Table(
        caption=f"{task}: how the answers were graded, by number",
        columns=(Column("run", numeric=False), *(Column(head) for head in OUTCOMES.values())),
        rows=tuple(
            (Cell(row.name), *(Cell(f"{row.summary.outcomes[name]:,}") for name in OUTCOMES))
            for row in c.comparable(task)
        ),
    )


def condition_table(c: RunComparison) -> Table:
    """How the runs were measured, and by which method each interval is."""
    names = {row.name for row in c.runs}
    rows = [
        (
            Cell(f"{fact.task}: {fact.what}" if fact.task else fact.what),
            Cell(value),
            Cell("all" if len(fact.values) == 1 and len(who) > 1 else some(who, len(names))),
        )
        for fact in c.conditions
        for value, who in fact.values
    ]
    return Table(
        caption="How the runs were measured",
        columns=(
            Column("what", numeric=False),
            Column("value", numeric=False),
            Column("runs", numeric=False),
        ),
        rows=tuple(rows),
    )


def _run(row: ReportRow, c: RunComparison, *, front: bool) -> tuple[Cell, ...]:
    s = row.summary
    asked = "" if s.n == row.asked else f"of {row.asked:,}"
    return (
        Cell(row.name, _remarks(row, c)),
        Cell(f"{s.n:,}", asked),
        Cell(number(s.accuracy.value * 100), share_interval(s.accuracy)),
        Cell(tokens(s.length.value), token_interval(s.length)),
        Cell(tokens(s.median)),
        Cell(
            number(s.truncated * 100),
            share_interval(s.truncated_share),
            mood="no" if s.truncated > TRUNCATED else "",
        ),
        Cell("yes" if front else DASH, sureness(row.details.front)),
    )


def _remarks(row: ReportRow, c: RunComparison) -> str:
    """What a run is, and what to know of it."""
    remarks = [ROLES[row.role]]
    if row.name == c.baseline:
        remarks.append("baseline")
    if not row.complete:
        remarks.append("unfinished")
    return ", ".join(remarks)
