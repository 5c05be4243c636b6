"""The picture of a comparison: accuracy against tokens, with intervals, names and the front."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from laconic.reporting.checks import TRUNCATED
from laconic.reporting.drawing import (
    DPI,
    FONT,
    HEIGHT,
    LOOKS,
    MUTED,
    PAPER,
    WIDTH,
    as_element,
    frame,
    label,
    legend,
    named,
    rendered,
    role_keys,
    short,
)
from laconic.reporting.wording import headlines, percent, some

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from laconic.reporting.data import Comparison, Row


def draw(c: Comparison, tasks: Sequence[str] | None = None) -> Figure:
    """A figure with one panel per task, one above the other.

    Args:
        c: The comparison.
        tasks: The tasks to show; all by default.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = c.tasks if tasks is None else tasks
    figure = Figure(figsize=(WIDTH, HEIGHT * len(shown)), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    for i, task in enumerate(shown):
        bottom = (len(shown) - 1 - i) / len(shown)
        axes = figure.add_axes(
            (0.085, bottom + 0.115 / len(shown), 0.895, 0.745 / len(shown)), facecolor="none"
        )
        _panel(axes, c, task)
    return figure


def to_png(c: Comparison) -> bytes:
    """The picture of all tasks, 1680 pixels wide."""
    return rendered(draw(c), "png")


def to_svg(c: Comparison, tasks: Sequence[str] | None = None, *, prefix: str = "s") -> str:
    """The picture as an ``<svg>`` element with a title and a description, ids and all the same.

    Args:
        c: The comparison.
        tasks: The tasks to show; all by default.
        prefix: What its ids start with: pictures on one page need different ones.
    """
    shown = c.tasks if tasks is None else tasks
    title = f"Accuracy against length: {', '.join(shown)}"
    return as_element(draw(c, shown), prefix, title, [*headlines(c), *_description(c, shown)])


def _description(c: Comparison, tasks: Sequence[str]) -> Iterator[str]:
    """The picture in words, for readers who do not see it."""
    for task in tasks:
        yield f"Shortest answers first on {task}, with accuracy and mean tokens:"
        for row in c.alike(task):
            s = row.summary
            yield f"{row.name} {percent(s.accuracy.value)}, {s.length.value:,.0f} tokens;"
        yield f"none is better in both than {', '.join(c.pareto[task])}."


def _panel(axes: Axes, c: Comparison, task: str) -> None:
    rows = c.alike(task)
    _scale(axes, rows)
    if len(rows) > 1:
        _front(axes, [row for row in rows if row.name in c.pareto[task]])
    for row in rows:
        _point(axes, row)
    _frame(axes, task)
    _caution(axes, c.unequal.get(task, ()))
    _legend(axes, rows)
    _label(axes, rows, c.pareto[task])


def _scale(axes: Axes, rows: Sequence[Row]) -> None:
    """Limits with room for the intervals and names; lengths start at 0 unless that wastes half."""
    lengths = [row.summary.length for row in rows]
    far = max(_inside(e.high, e.value * 1.2) for e in lengths)
    near = min(_inside(e.low, e.value) for e in lengths)
    left = 0.0 if near < far / 2 else near - (far - near) * 0.35
    axes.set_xlim(left, max(far + (far - left) * 0.1, 1.0))
    shares = [row.summary.accuracy for row in rows]
    low, high = 100 * min(e.low for e in shares), 100 * max(e.high for e in shares)
    room = max((high - low) * 0.12, 1.5)
    axes.set_ylim(max(low - room, -2.0), min(high + room, 102.0))


def _front(axes: Axes, rows: Sequence[Row]) -> None:
    """The best accuracy to be had for at most so many tokens: a step at each run of the front."""
    x = [row.summary.length.value for row in rows]
    y = [100 * row.summary.accuracy.value for row in rows]
    axes.plot(
        [x[0], *np.repeat([*x[1:], axes.get_xlim()[1]], 2)][: 2 * len(x)],
        np.repeat(y, 2),
        color=MUTED,
        linewidth=1.4,
        linestyle=(0, (4, 2)),
        zorder=2,
    )


def _point(axes: Axes, row: Row) -> None:
    look, accuracy, length = LOOKS[row.role], row.summary.accuracy, row.summary.length
    x, y = length.value, 100 * accuracy.value
    low, high = axes.get_xlim()
    ends = [max(_inside(length.low, low), low), min(_inside(length.high, high), high)]
    axes.plot(ends, [y, y], color=look.colour, linewidth=1.1, alpha=0.45, zorder=3)
    axes.plot(
        [x, x],
        [100 * accuracy.low, 100 * accuracy.high],
        color=look.colour,
        linewidth=1.1,
        alpha=0.45,
        zorder=3,
    )
    axes.plot(
        [x],
        [y],
        marker=look.marker,
        markersize=7.5,
        markerfacecolor=PAPER if row.summary.truncated > TRUNCATED else look.colour,
        markeredgecolor=look.colour,
        markeredgewidth=1.6,
        linestyle="none",
        zorder=4 if row.role == "merge" else 5,
    )


def _frame(axes: Axes, task: str) -> None:
    frame(
        axes,
        f"{short(task)}: accuracy against length",
        "length: mean completion tokens, thinking included",
    )
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"
    )


def _caution(axes: Axes, whats: Sequence[str]) -> None:
    """Say beside the title that the runs were not measured alike."""
    if whats:
        axes.set_title(
            f"Caution: not measured alike ({some(whats, 2)})",
            loc="right",
            fontsize=8.5,
            pad=32,
            color=LOOKS["system2"].colour,
            fontfamily=FONT,
            parse_math=False,
        )


def _legend(axes: Axes, rows: Sequence[Row]) -> None:
    from matplotlib.lines import Line2D

    keys = role_keys(rows)
    if any(row.summary.truncated > TRUNCATED for row in rows):
        keys.append(
            Line2D(
                [],
                [],
                marker="o",
                color=MUTED,
                markerfacecolor=PAPER,
                linestyle="none",
                label=f"hollow: over {percent(TRUNCATED)} cut off",
            )
        )
    if len(rows) > 1:
        keys.append(Line2D([], [], color=MUTED, linestyle=(0, (4, 2)), label="front"))
    keys.append(Line2D([], [], color=MUTED, alpha=0.6, label="95 % interval"))
    legend(axes, keys)


def _label(axes: Axes, rows: Sequence[Row], front: Sequence[str]) -> None:
    """Write the names beside the points."""
    rows = named(rows, front)
    label(
        axes,
        [(row.summary.length.value, 100 * row.summary.accuracy.value) for row in rows],
        [_words(row) for row in rows],
    )


def _words(row: Row) -> str:
    """A run's name, and what qualifies its numbers."""
    remarks = [] if row.complete else ["unfinished"]
    if row.summary.truncated > TRUNCATED:
        remarks.append(f"{100 * row.summary.truncated:.0f} % cut")
    name = short(row.name)
    return f"{name} ({', '.join(remarks)})" if remarks else name


def _inside(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise
