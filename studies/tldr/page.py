"""The page of the study of training: its tables, its pictures, and whether the goal was met."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from laconic.reporting.tables.table import Cell, Column, Table
from laconic.reporting.wording import (
    DASH,
    number,
    percent,
    points,
    share_interval,
    signed,
    signed_interval,
    token_interval,
    tokens,
)
from laconic.reporting.writers.markdown import markdown
from laconic.reporting.writers.stills.canvas import rendered
from laconic.stats import pair, summarise
from studies.tldr.arms import DAMPED, EVEN_STATIC, MATCHED
from studies.tldr.pictures import draw_front, draw_ways
from studies.tldr.study import MARGIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from laconic.runs.run import Result
    from laconic.stats import Pair
    from studies.tldr.study import TldrFindings

NAME: Final = "tldr"
#: How much shorter than System 2 an arm is to be.
GOAL: Final = 0.45
#: A note below the pictures of the trainings.
WAYS: Final = (
    "Where a mixture moves, its short share rises with the steps: such an arm differs from a "
    "static one in the order of its rows, too."
)
#: A note below the comparisons of arms.
DOUBT: Final = (
    "These are differences between trainings, not between ideas. A mixture that moves and one "
    "that stands still differ in their share of short answers, in its order, or in both; no static "
    "share but those above was tried, and no path by the clock. So no row shows that steering by "
    "what is measured does anything."
)
#: Which arms are compared with which.
DUELS: Final = (
    (DAMPED, MATCHED),
    (DAMPED, EVEN_STATIC),
    ("constrained", MATCHED),
    ("constrained", DAMPED),
    ("tldr, paper's rule", DAMPED),
    ("short answers only", DAMPED),
    ("tldr, System 1's answers", DAMPED),
    ("DPO", DAMPED),
)
RUN: Final = (
    Column("accuracy, %"),
    Column("length, tokens"),
    Column("cut, %"),
    Column("against System 2, points"),
    Column("change of length, %"),
    Column("not worse", numeric=False),
)


def write_tldr_page(findings: TldrFindings, output: Path) -> Path:
    """Write ``tldr.md`` and its pictures.

    Returns:
        The page.
    """
    for name, figure in (("front", draw_front(findings)), ("ways", draw_ways(findings))):
        (output / f"{NAME}-{name}.png").write_bytes(rendered(figure, "png"))
    page = output / f"{NAME}.md"
    page.write_text("\n\n".join(_blocks(findings)) + "\n", encoding="utf-8")
    return page


def _blocks(findings: TldrFindings) -> Iterator[str]:
    """The page, block by block."""
    seeds = ", ".join(map(str, findings.seeds))
    problems = len(findings.test["system2"].results)
    yield f"## All arms\n\n![Accuracy against tokens]({NAME}-front.png)"
    yield (
        f"Each arm was trained on the seeds {seeds}; its checkpoint was chosen on "
        f"{findings.scale.dev} dev problems of the seed. The figures are of {problems:,} fresh "
        "problems, the same for all, which nothing was chosen by. An arm's row is the mean "
        "over its seeds; intervals are over problems, for these very trainings: how much seeds "
        "differ is in the next table."
    )
    yield markdown(arm_table(findings))
    yield goal(findings)
    yield "## Each training"
    yield markdown(training_table(findings))
    yield "## By level"
    yield markdown(level_table(findings))
    yield f"## The way of each training\n\n![Mixture, accuracy and length by step]({NAME}-ways.png)"
    yield WAYS
    yield "## One against the other"
    yield markdown(duel_table(findings))
    yield (
        "The checkpoint that dev chose is part of that. Without the choice, after the last step "
        "and so after the same number of rows, on the dev problems of all seeds:"
    )
    yield markdown(duel_table(findings, last=True))
    yield DOUBT
    yield "## What it cost"
    yield cost(findings)


def arm_table(findings: TldrFindings) -> Table:
    """Every arm, all seeds together, beside the models and merges that were not trained."""
    rows = [(name, run.results) for name, run in findings.test.items()]
    rows += [(arm.name, findings.pooled(arm.name)) for arm in findings.arms]
    rows.sort(key=lambda row: summarise(row[1]).length.value)
    return Table(
        caption=f"Shortest first; not worse: than System 2 by no more than {points(MARGIN)}",
        columns=(Column("arm", numeric=False), *RUN, Column("seeds not worse")),
        rows=tuple(
            (Cell(name), *_cells(findings, name, results), Cell(_seeds_kept(findings, name)))
            for name, results in rows
        ),
    )


def training_table(findings: TldrFindings) -> Table:
    """Every training on its own."""

    def cells(arm: str, seed: int) -> tuple[Cell, ...]:
        training = findings.trainings[arm, seed]
        return (
            Cell(arm),
            Cell(str(seed)),
            Cell(str(training.step) + ("*" if training.lacking else "")),
            Cell(number(100 * training.shares.get("short", math.nan), 0)),
            Cell(f"{number(100 * training.accuracy)} / {number(training.length, 0)}"),
            *_cells(findings, arm, findings.trained[arm, seed].results),
        )

    return Table(
        caption="Step: of the checkpoint that dev chose; *: none was good enough there, it is the "
        "most accurate. Short: share of the short answers in the trained tokens of the whole run",
        columns=(
            Column("arm", numeric=False),
            Column("seed"),
            Column("step"),
            Column("short, %"),
            Column("on dev, % / tokens"),
            *RUN,
        ),
        rows=tuple(cells(arm.name, seed) for arm in findings.arms for seed in findings.seeds),
    )


def level_table(findings: TldrFindings) -> Table:
    """Accuracy and length by level, all seeds of an arm together."""
    rows = [(name, run.results) for name, run in findings.test.items()]
    rows += [(arm.name, findings.pooled(arm.name)) for arm in findings.arms]
    levels = sorted(summarise(rows[0][1]).by_level)

    def cell(results: Sequence[Result], level: int | None) -> Cell:
        s = summarise([result for result in results if result.level == level])
        return Cell(f"{number(100 * s.accuracy.value)} / {number(s.length.value, 0)}")

    return Table(
        caption="Accuracy in % / tokens",
        columns=(
            Column("arm", numeric=False),
            *(Column(f"level {level}") for level in levels),
        ),
        rows=tuple(
            (Cell(name), *(cell(results, level) for level in levels)) for name, results in rows
        ),
    )


def duel_table(findings: TldrFindings, *, last: bool = False) -> Table:
    """Arms against one another, problem by problem, all seeds together.

    Args:
        findings: The measurements.
        last: The last checkpoints on dev in place of the chosen ones on the fresh problems.
    """
    names = {arm.name for arm in findings.arms}
    results = findings.ended if last else findings.pooled
    duels = [
        pair(results(one), results(other), name=one, against=other, margin=MARGIN)
        for one, other in DUELS
        if {one, other} <= names
    ]
    return Table(
        caption=f"The first against the second, paired by problem: the "
        f"{'last' if last else 'chosen'} checkpoints",
        columns=(
            Column("first", numeric=False),
            Column("second", numeric=False),
            Column("accuracy, points"),
            Column("length, %"),
            Column("shown", numeric=False),
        ),
        rows=tuple(
            (
                Cell(duel.name),
                Cell(duel.baseline),
                Cell(signed(duel.accuracy_diff.value), signed_interval(duel.accuracy_diff)),
                Cell(signed(duel.length_change.value), signed_interval(duel.length_change)),
                Cell(shown(duel)),
            )
            for duel in duels
        ),
    )


def shown(duel: Pair) -> str:
    """What two intervals show: a difference in accuracy, in length, in both, or none."""
    differences = []
    if duel.accuracy_diff.low > 0:
        differences.append("more right")
    if duel.accuracy_diff.high < 0:
        differences.append("less right")
    if duel.length_change.high < 0:
        differences.append("shorter")
    if duel.length_change.low > 0:
        differences.append("longer")
    return ", ".join(differences) or "no difference"


def goal(findings: TldrFindings) -> str:
    """Whether the goal was met, arm by arm."""
    met: list[str] = []
    kept: list[str] = []
    for arm in findings.arms:
        p = _against(findings, arm.name, findings.pooled(arm.name))
        if p.not_worse.verdict == "yes":
            (met if p.length_change.value <= -GOAL else kept).append(arm.name)
    target = f"At least {percent(GOAL)} shorter than System 2 and not worse by {points(MARGIN)}"
    sentence = f"{target}, all seeds together: {_listed(met)}."
    return f"{sentence} Not worse, but less short: {_listed(kept)}."


def cost(findings: TldrFindings) -> str:
    """CPU seconds of the trainings and of the data."""
    trained = [t.seconds for t in findings.trainings.values() if t.seconds is not None]
    data = [s for s in findings.data_seconds.values() if s is not None]
    sentences = []
    for what, seconds in (("A training", trained), ("A seed's data and bounds", data)):
        if seconds:
            mean = sum(seconds) / len(seconds)
            sentences.append(
                f"{what} took {mean:,.0f} CPU seconds (mean of {len(seconds)}, {min(seconds):,.0f} "
                f"to {max(seconds):,.0f})."
            )
    return " ".join(sentences) or "No piece of work was timed from its beginning to its end."


def _cells(findings: TldrFindings, name: str, results: Sequence[Result]) -> tuple[Cell, ...]:
    """The cells of the columns `RUN`."""
    s = summarise(results)
    own = (
        Cell(number(100 * s.accuracy.value), share_interval(s.accuracy)),
        Cell(tokens(s.length.value), token_interval(s.length)),
        Cell(number(100 * s.truncated)),
    )
    if name == "system2":
        return (*own, Cell(DASH), Cell(DASH), Cell(DASH))
    p = _against(findings, name, results)
    return (
        *own,
        Cell(signed(p.accuracy_diff.value), signed_interval(p.accuracy_diff)),
        Cell(signed(p.length_change.value), signed_interval(p.length_change)),
        Cell(p.not_worse.verdict, mood=p.not_worse.verdict),
    )


def _against(findings: TldrFindings, name: str, results: Sequence[Result]) -> Pair:
    """Some results against System 2's."""
    baseline = findings.test["system2"].results
    return pair(results, baseline, name=name, against="system2", margin=MARGIN)


def _seeds_kept(findings: TldrFindings, name: str) -> str:
    """On how many seeds an arm alone is shown to be not worse; a dash for what has no seeds."""
    if (name, findings.seeds[0]) not in findings.trained:
        return DASH
    verdicts = [
        _against(findings, name, findings.trained[name, seed].results).not_worse.verdict
        for seed in findings.seeds
    ]
    return f"{verdicts.count('yes')} of {len(verdicts)}"


def _listed(names: Sequence[str]) -> str:
    return "; ".join(names) or "none"
