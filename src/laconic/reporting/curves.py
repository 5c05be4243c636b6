"""The picture of smaller budgets: accuracy if every completion had had fewer tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laconic.reporting.drawing import (
    DPI,
    HEIGHT,
    INK,
    LABEL,
    LOOKS,
    MUTED,
    PAPER,
    WIDTH,
    as_element,
    frame,
    legend,
    named,
    role_keys,
    short,
)
from laconic.reporting.wording import percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from laconic.reporting.data import Comparison, Row

#: The least distance between names, in printer's points.
GAP: Final = 12.0
#: Budgets nearer than this to the one below are drawn without a mark of their own.
CLOSE: Final = 1.25


def draw_budgets(c: Comparison, task: str) -> Figure:
    """A line for each run: accuracy against the budget, its own budget to the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = c.rebudgeted(task)
    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.085, 0.115, 0.64, 0.745), facecolor="none")
    _scale(axes, rows)
    for row in rows:
        look = LOOKS[row.role]
        axes.plot(
            [b.cap for b in row.details.budgets],
            [100 * b.accuracy.value for b in row.details.budgets],
            color=look.colour,
            marker=look.marker,
            markersize=4.5,
            linewidth=1.3,
            alpha=0.8,
        )
    frame(axes, f"{short(task)}: accuracy under smaller budgets", "budget: tokens of a completion")
    legend(axes, role_keys(rows, linestyle="-", markersize=4.5))
    _label(axes, named(rows, c.pareto[task]))
    return figure


def to_curves(c: Comparison, task: str, *, prefix: str) -> str:
    """The picture of one task as an ``<svg>`` element.

    Args:
        c: The comparison.
        task: The task.
        prefix: What its ids start with: pictures on one page need different ones.
    """
    title = f"Accuracy under smaller budgets: {task}"
    return as_element(draw_budgets(c, task), prefix, title, list(_description(c.rebudgeted(task))))


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places moved apart until none is nearer to the next than a gap, about where they were.

    Args:
        places: In any order and unit.
        gap: The least distance, in the same unit.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[tuple[float, int]] = []  # the middle of each group of touching places, its size
    for i in order:
        middle, size = places[i], 1
        while groups and middle - groups[-1][0] < gap * (size + groups[-1][1]) / 2:
            before, n = groups.pop()
            middle, size = (middle * size + before * n) / (size + n), size + n
        groups.append((middle, size))
    moved = [middle + gap * (k - (size - 1) / 2) for middle, size in groups for k in range(size)]
    found = [0.0] * len(places)
    for i, place in zip(order, moved, strict=True):
        found[i] = place
    return found


def _label(axes: Axes, rows: Sequence[Row]) -> None:
    """The names in a column to the right, each with a line to its run's own budget."""
    low, high = axes.get_ylim()
    ends = [row.details.budgets[0] for row in rows]
    gap = GAP * (high - low) / (0.745 * HEIGHT * 72)
    places = spread([100 * end.accuracy.value for end in ends], gap)
    for row, end, place in zip(rows, ends, places, strict=True):
        axes.annotate(
            short(row.name),
            (end.cap, 100 * end.accuracy.value),
            xytext=(1.02, (place - low) / (high - low)),
            textcoords="axes fraction",
            va="center",
            color=INK,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkB": 4},
            **LABEL,
        )


def _scale(axes: Axes, rows: Sequence[Row]) -> None:
    """Budgets on a logarithmic axis, each marked."""
    caps = sorted({b.cap for row in rows for b in row.details.budgets})
    axes.set_xscale("log")
    axes.set_xlim(caps[0] * 0.9, caps[-1] * 1.1)
    marked = [cap for i, cap in enumerate(caps) if not i or cap > caps[i - 1] * CLOSE]
    axes.set_xticks(marked, [f"{cap:,}" for cap in marked])
    axes.set_xticks([], minor=True)
    shares = [100 * b.accuracy.value for row in rows for b in row.details.budgets]
    room = max((max(shares) - min(shares)) * 0.12, 1.5)
    axes.set_ylim(max(min(shares) - room, -2.0), min(max(shares) + room, 102.0))


def _description(rows: Sequence[Row]) -> Iterator[str]:
    """The picture in words."""
    for row in rows:
        said = (f"{percent(b.accuracy.value)} at {b.cap:,}" for b in row.details.budgets)
        yield f"{row.name}: {', '.join(said)};"
