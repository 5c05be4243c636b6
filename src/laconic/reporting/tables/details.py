"""The tables behind the main one: several answers, thought, reflection, difficulty, budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laconic.reporting.tables.main import outcome_table
from laconic.reporting.tables.table import Cell, Column, Table
from laconic.reporting.wording import (
    DASH,
    number,
    percent,
    share_interval,
    signed,
    signed_interval,
    token_interval,
    tokens,
)
from laconic.scoring.reflection import KEYWORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from laconic.reporting.comparison import ReportRow, RunComparison
    from laconic.stats import Ease, Estimate, Level

NAME = Column("run", numeric=False)
#: The parts of the answers whose longest is shown: the ends of a box and of its whiskers.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
EASES: tuple[Ease, ...] = ("easy", "medium", "hard")


def detail_tables(c: RunComparison, task: str) -> Iterator[Table]:
    """Every table of a task beyond the main one, as far as there is something to show."""
    rows = c.comparable(task)
    yield outcome_table(c, task)
    yield length_table(c, task)
    if any(len(row.summary.pass_at) > 1 for row in rows):
        yield attempt_table(c, task)
    yield cost_table(c, task)
    yield thought_table(c, task)
    yield reflection_table(c, task)
    yield keyword_table(c, task)
    if any(row.summary.by_level for row in rows):
        yield level_table(c, task)
    if any(row.details.by_ease for row in rows):
        yield ease_table(c, task)
    yield trend_table(c, task)
    yield budget_table(c, task)


def attempt_table(c: RunComparison, task: str) -> Table:
    """Several answers to a problem: their average, the best of them, the vote."""
    rows = c.comparable(task)
    ks = sorted({k for row in rows for k in row.summary.pass_at if k > 1})
    votes = [k for k in ks if k > 2]  # two either agree or tie
    most = {row.name: max(row.summary.pass_at) for row in rows}

    def shares(row: ReportRow) -> Iterator[Cell]:
        s = row.summary
        yield _share(s.accuracy)
        for k in ks:
            yield _share(s.pass_at.get(k))
        for k in votes:
            yield _share(s.majority_at.get(k))

    return Table(
        caption=f"{task}: several answers to a problem, in %",
        columns=(
            NAME,
            Column("answers"),
            Column("avg"),
            *_each("pass@", ks),
            *_each("maj@", votes),
        ),
        rows=tuple((Cell(row.name), Cell(str(most[row.name])), *shares(row)) for row in rows),
    )


def length_table(c: RunComparison, task: str) -> Table:
    """How long short and long answers are."""
    return Table(
        caption=f"{task}: how long the answers are, in tokens: so many are within",
        columns=(NAME, *(Column(f"{percent(part)} of answers") for part in QUANTILES)),
        rows=tuple(
            (Cell(row.name), *(Cell(tokens(end)) for end in lengths(c, row)))
            for row in c.comparable(task)
        ),
    )


def lengths(c: RunComparison, row: ReportRow) -> list[float]:
    """The length that each of `QUANTILES` of a run's answers keeps within, in tokens."""
    found = np.quantile(c.responses[row.name, row.task].length, QUANTILES)
    return [float(end) for end in found]


def cost_table(c: RunComparison, task: str) -> Table:
    """What right answers cost, and lengths where the baseline is right too."""
    pairs = {p.name: p for p in c.pairs if p.task == task}

    def both(row: ReportRow) -> Iterator[Cell]:
        p = pairs.get(row.name)
        if p is None:
            yield from [Cell(DASH)] * 4
            return
        e = p.length_diff
        yield Cell(_signed(e.value), f"{_signed(e.low)} to {_signed(e.high)}")
        if p.both_right is None:
            yield from [Cell(DASH)] * 3
            return
        change = p.both_right.length_change
        yield Cell(f"{p.both_right.n:,}", f"of {p.n:,}")
        yield Cell(tokens(p.both_right.length), f"against {tokens(p.both_right.baseline_length)}")
        yield Cell(signed(change.value), signed_interval(change))

    return Table(
        caption=f"{task}: what right answers cost, and where {c.baseline} is right too",
        columns=(
            NAME,
            Column("tokens per right answer"),
            Column("length difference, tokens"),
            Column("both right"),
            Column("length there"),
            Column("change there, %"),
        ),
        rows=tuple(
            (
                Cell(row.name),
                Cell(
                    tokens(row.summary.tokens_per_correct.value),
                    token_interval(row.summary.tokens_per_correct),
                ),
                *both(row),
            )
            for row in c.comparable(task)
        ),
    )


def thought_table(c: RunComparison, task: str) -> Table:
    """Thinking, loops, and how much is said after the answer first stands there."""

    def cells(row: ReportRow) -> Iterator[Cell]:
        s, t = row.summary, row.details.texts
        yield Cell(row.name)
        yield Cell(number(s.thinking * 100))
        yield Cell(tokens(s.thinking_length))
        yield Cell(number(s.thinking_tokens * 100))
        yield Cell(number(t.loops * 100))
        if t.after_right is None:
            yield Cell(DASH)
        else:
            yield Cell(number(t.after_right * 100), f"of {t.placed:,}")

    return Table(
        caption=f"{task}: thought and repetition",
        columns=(
            NAME,
            Column("thinks, %"),
            Column("thought, tokens"),
            Column("thought, % of tokens"),
            Column("loops, %"),
            Column("after the answer, %"),
        ),
        rows=tuple(tuple(cells(row)) for row in c.comparable(task)),
    )


def reflection_table(c: RunComparison, task: str) -> Table:
    """Reflection by the three lists of keywords."""

    def cells(row: ReportRow, name: str) -> Iterator[Cell]:
        found = row.details.texts.reflection[name]
        yield Cell(row.name)
        yield Cell(name)
        yield Cell(number(found.share * 100))
        yield Cell(number(found.per_response, 2))
        yield Cell(number(found.per_reflective, 2))
        yield Cell(number(found.per_thousand, 2))

    rows = c.comparable(task)
    return Table(
        caption=f"{task}: reflection keywords",
        columns=(
            NAME,
            Column("list", numeric=False),
            Column("reflects, %"),
            Column("an answer"),
            Column("a reflective answer"),
            Column("per 1,000 tokens"),
        ),
        rows=tuple(
            tuple(cells(row, name)) for row in rows for name in row.details.texts.reflection
        ),
    )


def keyword_table(c: RunComparison, task: str) -> Table:
    """How often each keyword occurs, as a whole word."""
    return Table(
        caption=f"{task}: each keyword as a whole word, by number, with the share of answers",
        columns=(NAME, *(Column(keyword) for keyword in KEYWORDS)),
        rows=tuple(
            (
                Cell(row.name),
                *(
                    Cell(f"{k.total:,}", percent(round(k.share, 3)))
                    for k in row.details.texts.reflection["words"].keywords.values()
                ),
            )
            for row in c.comparable(task)
        ),
    )


def level_table(c: RunComparison, task: str) -> Table:
    """Accuracy and length by the task's own difficulty."""
    there = sorted({level for row in c.comparable(task) for level in row.summary.by_level})
    return _by_difficulty(
        f"{task}: accuracy in % by difficulty, with interval and mean length",
        [f"level {level}" for level in there],
        {
            row.name: [row.summary.by_level.get(level) for level in there]
            for row in c.comparable(task)
        },
    )


def ease_table(c: RunComparison, task: str) -> Table:
    """Accuracy and length by how often all runs together failed a problem."""
    there = [
        ease for ease in EASES if any(ease in row.details.by_ease for row in c.comparable(task))
    ]
    return _by_difficulty(
        f"{task}: accuracy in % on problems that all runs together found easy (two thirds right "
        "or more), medium, or hard (less than a third), with interval and mean length",
        there,
        {row.name: [row.details.by_ease.get(ease) for ease in there] for row in c.comparable(task)},
    )


def trend_table(c: RunComparison, task: str) -> Table:
    """Whether harder problems get longer answers."""

    def cells(row: ReportRow) -> Iterator[Cell]:
        found = row.details.trend
        yield Cell(row.name)
        for one in (found.level, found.failed, found.pooled):
            if one is None:
                yield Cell(DASH)
            else:
                yield Cell(number(one.value, 2), f"{number(one.low, 2)} to {number(one.high, 2)}")

    return Table(
        caption=f"{task}: do harder problems get longer answers? (Spearman, -1 to 1)",
        columns=(
            NAME,
            Column("with level"),
            Column("with own failures"),
            Column("with all runs' failures"),
        ),
        rows=tuple(tuple(cells(row)) for row in c.comparable(task)),
    )


def budget_table(c: RunComparison, task: str) -> Table:
    """Accuracy and length as they would have been under smaller budgets."""
    rows = c.same_but_budget(task)
    caps = sorted({b.cap for row in rows for b in row.details.budgets}, reverse=True)

    def cells(row: ReportRow) -> Iterator[Cell]:
        found = {b.cap: b for b in row.details.budgets}
        yield Cell(row.name)
        for cap in caps:
            if cap not in found:
                yield Cell(DASH)
                continue
            b = found[cap]
            yield Cell(
                number(b.accuracy.value * 100),
                f"{share_interval(b.accuracy)}, {tokens(b.length.value)}",
            )

    return Table(
        caption=f"{task}: smaller budgets, accuracy in % with interval and mean length; an "
        "answer that the budget cuts counts as wrong",
        columns=(NAME, *(Column(f"{cap:,} tokens") for cap in caps)),
        rows=tuple(tuple(cells(row)) for row in rows),
    )


def _signed(value: float) -> str:
    """A difference of lengths, sign included: ``+512``."""
    text = number(value, 0)
    return text if value < 0 else f"+{text}"


def _each(word: str, ks: list[int]) -> Iterator[Column]:
    return (Column(f"{word}{k}") for k in ks)


def _share(e: Estimate | None) -> Cell:
    return Cell(DASH) if e is None else Cell(number(e.value * 100), share_interval(e))


def _by_difficulty(
    caption: str, heads: Sequence[str], found: Mapping[str, Sequence[Level | None]]
) -> Table:
    """A column for each difficulty and a row for each run's levels."""
    counts = [
        max(level.n for level in column if level) for column in zip(*found.values(), strict=True)
    ]
    return Table(
        caption=caption,
        columns=(
            NAME,
            *(Column(f"{head} (n = {n:,})") for head, n in zip(heads, counts, strict=True)),
        ),
        rows=tuple((Cell(name), *map(_level, levels)) for name, levels in found.items()),
    )


def _level(level: Level | None) -> Cell:
    if level is None:
        return Cell(DASH)
    return Cell(
        number(level.accuracy.value * 100),
        f"{share_interval(level.accuracy)}, {tokens(level.length.value)} tokens",
    )
