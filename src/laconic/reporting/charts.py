"""The charts of a report as plain values, computed here and drawn elsewhere.

The page draws them with plotly.js, `laconic.reporting.figures` with matplotlib for papers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from laconic.reporting.checks import TRUNCATED
from laconic.reporting.details import EASES, QUANTILES, lengths
from laconic.reporting.wording import (
    number,
    percent,
    plain,
    share_interval,
    sureness,
    token_interval,
)
from laconic.stats import front_band

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from laconic.reporting.data import Comparison, Row
    from laconic.reporting.families import Role
    from laconic.stats import Band, Estimate, Level

Kind = Literal["front", "lines", "bars", "boxes"]
#: Of more merges than this, a chart of lines begins with those of the front only.
MOST_LINES: Final = 6
#: Lengths that differ by this factor and more get a logarithmic axis.
WIDE: Final = 20.0


@dataclass(frozen=True)
class Series:
    """What one run shows in one panel.

    Attributes:
        name: The run.
        role: What the run is, for its colour and mark.
        x: Places: numbers, or the words of `Panel.words` counted from 0. Of ``bars`` a single
            value; of ``boxes`` the five `QUANTILES`.
        y: Values, one a place; empty where `x` is all there is.
        x_ends: The interval of each place; empty where there is none.
        y_ends: The interval of each value; empty where there is none.
        notes: What a reader is told of each point; empty where the numbers say it all.
        shown: Whether it is drawn at once, rather than on demand.
        hollow: Whether many of its answers were cut off.
        stepped: Whether a value holds until the next place.
        joined: Whether a line joins the points.
    """

    name: str
    role: Role
    x: tuple[float, ...]
    y: tuple[float, ...] = ()
    x_ends: tuple[tuple[float, float], ...] = ()
    y_ends: tuple[tuple[float, float], ...] = ()
    notes: tuple[str, ...] = ()
    shown: bool = True
    hollow: bool = False
    stepped: bool = False
    joined: bool = True


@dataclass(frozen=True)
class Panel:
    """Axes with what is drawn on them.

    Attributes:
        across: What the horizontal axis holds, unit included.
        up: What the vertical axis holds; empty where it names the runs.
        series: What is drawn.
        words: Names for the places 0, 1, 2 ... of the horizontal axis; empty for numbers.
        log: Whether the horizontal axis is logarithmic.
        tall: Whether the vertical axis is logarithmic.
        span: The least and greatest share that the vertical axis could show; None for any number.
    """

    across: str
    up: str
    series: tuple[Series, ...]
    words: tuple[str, ...] = ()
    log: bool = False
    tall: bool = False
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chart:
    """A chart, with the words that go with it.

    Attributes:
        name: What its file and its place in the page are called.
        title: What it shows.
        says: How to read it, for somebody who has never seen one: a sentence or two.
        kind: What is drawn: points with the front, lines, bars or boxes.
        panels: Axes side by side; several share their series.
        steps: The front as places (tokens, percent); empty for other kinds.
        band: Where the front would run if the problems were drawn anew.
    """

    name: str
    title: str
    says: str
    kind: Kind
    panels: tuple[Panel, ...]
    steps: tuple[tuple[float, float], ...] = ()
    band: Band | None = None


def task_charts(c: Comparison, task: str) -> Iterator[Chart]:
    """Every chart of a task, as far as there is something to show."""
    rows = c.alike(task)
    yield front_chart(c, task)
    yield length_chart(c, task)
    yield share_chart(c, task)
    levels = sorted({level for row in rows for level in row.summary.by_level})
    if len(levels) > 1:
        yield _difficulty_chart(
            c,
            task,
            ("level", "by the task's own difficulty", "The task's own levels, 1 the easiest."),
            [str(level) for level in levels],
            lambda row: [row.summary.by_level.get(level) for level in levels],
        )
    eases = [ease for ease in EASES if any(ease in row.details.by_ease for row in rows)]
    if len(eases) > 1:
        yield _difficulty_chart(
            c,
            task,
            (
                "ease",
                "by how hard the problems proved",
                "Easy problems were answered right two times in three or more by all runs "
                "together, hard ones less than once in three.",
            ),
            eases,
            lambda row: [row.details.by_ease.get(ease) for ease in eases],
        )
    if any(len(row.details.budgets) > 1 for row in rows):
        yield budget_chart(c, task)


def front_chart(c: Comparison, task: str) -> Chart:
    """Accuracy against length with intervals, and the front with what is unsure of it."""
    rows = c.alike(task)
    runs = {row.name: c.responses[row.name, task] for row in rows}
    on = [row.summary for row in rows if row.name in c.pareto[task]]
    hollow = any(row.summary.truncated > TRUNCATED for row in rows)
    return Chart(
        name="front",
        title="Accuracy against length",
        says="Each mark is a run: the further up, the more answers are right; the further left, "
        "the shorter they are. Bars are 95 % intervals. The dashed steps are the front: the best "
        "accuracy to be had for at most so many tokens; the shaded band is where it would run, 95 "
        "times in 100, with other problems of the same kind."
        + (f" A hollow mark: more than {percent(TRUNCATED)} of its answers were cut off." * hollow),
        kind="front",
        panels=(
            Panel(
                across="mean length, tokens",
                up="accuracy, %",
                series=tuple(
                    Series(
                        name=plain(row.name),
                        role=row.role,
                        x=(row.summary.length.value,),
                        y=(100 * row.summary.accuracy.value,),
                        x_ends=(_ends(row.summary.length),),
                        y_ends=(_ends(row.summary.accuracy, 100),),
                        notes=(_note(row),),
                        hollow=row.summary.truncated > TRUNCATED,
                    )
                    for row in rows
                ),
                span=(0, 100),
            ),
        ),
        steps=tuple((s.length.value, 100 * s.accuracy.value) for s in on),
        band=front_band(runs) if len(rows) > 1 else None,
    )


def length_chart(c: Comparison, task: str) -> Chart:
    """How long the answers are, short and long ones."""
    rows = c.alike(task)
    found = []
    for row in rows:
        ends = lengths(c, row)
        words = ", ".join(
            f"{percent(q)} within {number(end, 0)}" for q, end in zip(QUANTILES, ends, strict=True)
        )
        note = f"{words}; mean {number(row.summary.length.value, 0)}"
        found.append(Series(plain(row.name), row.role, x=tuple(ends), notes=(note,)))
    least = min(max(series.x[0], 1) for series in found)
    return Chart(
        name="lengths",
        title="How long the answers are",
        says="Half of a run's answers lie within its box, the line in it is the median, and nine "
        "in ten lie between the ends of the thin lines. A long line to the right means a few very "
        "long answers.",
        kind="boxes",
        panels=(
            Panel(
                across="length of an answer, tokens",
                up="",
                series=tuple(found),
                log=max(series.x[-1] for series in found) / least > WIDE,
            ),
        ),
    )


def share_chart(c: Comparison, task: str) -> Chart:
    """Thinking, truncation, reflection and loops as shares of the answers."""
    rows = c.alike(task)
    shares: tuple[tuple[str, Callable[[Row], float]], ...] = (
        ("closes a thought", lambda row: row.summary.thinking),
        ("reflects", lambda row: row.summary.reflective),
        ("cut off", lambda row: row.summary.truncated),
        ("ends in a loop", lambda row: row.details.texts.loops),
    )
    return Chart(
        name="shares",
        title="Thinking, reflection, truncation",
        says="Which share of the answers closes a thought with </think>, holds a word of "
        "reflection such as “wait”, was cut off by the budget, or ends by repeating itself.",
        kind="bars",
        panels=tuple(
            Panel(
                across=f"{words}, %",
                up="",
                series=tuple(
                    Series(plain(row.name), row.role, x=(100 * share(row),)) for row in rows
                ),
                span=(0, 100),
            )
            for words, share in shares
        ),
    )


def budget_chart(c: Comparison, task: str) -> Chart:
    """Accuracy as it would have been under smaller budgets."""
    rows = c.rebudgeted(task)
    return Chart(
        name="budgets",
        title="What smaller budgets would have cost",
        says="The accuracy each run would have had, had its answers been cut at fewer tokens; an "
        "answer that the cut meets counts as wrong. Where a short run lies above a long one, it "
        "is the better choice at that budget.",
        kind="lines",
        panels=(
            Panel(
                across="budget, tokens an answer",
                up="accuracy, %",
                series=tuple(
                    Series(
                        name=plain(row.name),
                        role=row.role,
                        x=tuple(float(b.cap) for b in reversed(row.details.budgets)),
                        y=tuple(100 * b.accuracy.value for b in reversed(row.details.budgets)),
                        y_ends=tuple(_ends(b.accuracy, 100) for b in reversed(row.details.budgets)),
                        shown=row.name in first(c, task),
                    )
                    for row in rows
                ),
                log=True,
                span=(0, 100),
            ),
        ),
    )


def first(c: Comparison, task: str) -> set[str]:
    """The runs that a chart of lines begins with: of many, the parents and the front only."""
    rows = c.rebudgeted(task)
    merges = [row.name for row in rows if row.role == "merge"]
    if len(merges) <= MOST_LINES:
        return {row.name for row in rows}
    chosen = sorted(
        (name for name in merges if name in c.pareto[task]),
        key=lambda name: next(-(row.details.front or 0) for row in rows if row.name == name),
    )
    return {row.name for row in rows if row.role != "merge"} | {*chosen[:MOST_LINES], c.baseline}


def _difficulty_chart(
    c: Comparison,
    task: str,
    told: tuple[str, str, str],
    places: Sequence[str],
    found: Callable[[Row], Sequence[Level | None]],
) -> Chart:
    """Accuracy, length and reflection over steps of difficulty.

    Args:
        c: The comparison.
        task: The task.
        told: The chart's name, the end of its title, and what the steps are.
        places: The words of the steps.
        found: What a run shows at each step.
    """
    name, title, what = told
    rows = [(row, found(row)) for row in c.alike(task)]

    def panel(
        up: str, value: Callable[[Level], tuple[float, tuple[float, float] | None]]
    ) -> Iterator[Series]:
        for row, levels in rows:
            there = [(i, level, *value(level)) for i, level in enumerate(levels) if level]
            ends = tuple(e for _, _, _, e in there if e is not None)
            yield Series(
                name=plain(row.name),
                role=row.role,
                x=tuple(float(i) for i, *_ in there),
                y=tuple(y for _, _, y, _ in there),
                y_ends=ends if len(ends) == len(there) else (),
                notes=tuple(f"{level.n:,} answers" for _, level, _, _ in there),
                shown=row.name in first(c, task),
            )

    panels: tuple[tuple[str, Callable[[Level], tuple[float, tuple[float, float] | None]]], ...] = (
        ("accuracy, %", lambda v: (100 * v.accuracy.value, _ends(v.accuracy, 100))),
        ("mean length, tokens", lambda v: (v.length.value, _ends(v.length))),
        ("reflection words an answer", lambda v: (v.reflections, None)),
    )
    return Chart(
        name=name,
        title=f"Accuracy, length and reflection {title}",
        says=f"{what} A model that thinks no more than it must spends its tokens on the right, "
        "where problems are hard, and few on the left. Bars are 95 % intervals.",
        kind="lines",
        panels=tuple(
            Panel(
                across="difficulty",
                up=up,
                series=tuple(panel(up, value)),
                words=tuple(places),
                span=(0, 100) if "%" in up else None,
            )
            for up, value in panels
        ),
    )


def hidden(chart: Chart) -> int:
    """How many runs a chart shows on demand only."""
    return sum(not series.shown for series in chart.panels[0].series)


def only(chart: Chart) -> Chart:
    """The chart without what is shown on demand: what a picture on paper holds."""
    return replace(
        chart,
        panels=tuple(
            replace(panel, series=tuple(s for s in panel.series if s.shown))
            for panel in chart.panels
        ),
    )


def _note(row: Row) -> str:
    """What a mark of the front's chart says of its run."""
    s = row.summary
    told = [
        f"{number(100 * s.accuracy.value)} % right ({share_interval(s.accuracy)})",
        f"{number(s.length.value, 0)} tokens ({token_interval(s.length)})",
        f"{percent(round(s.truncated, 3))} cut off",
        f"on the front in {sureness(row.details.front)} of redrawn sets of problems",
    ]
    return "; ".join([*told, *([] if row.complete else ["unfinished"])])


def _ends(e: Estimate, times: float = 1.0) -> tuple[float, float]:
    """An interval's ends; the value itself where an end is not finite."""
    low = e.low if math.isfinite(e.low) else e.value
    high = e.high if math.isfinite(e.high) else e.value
    return low * times, high * times
