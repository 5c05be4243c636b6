"""The picture of a comparison: accuracy against tokens, with intervals, names and the front."""

from __future__ import annotations

import io
import math
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.report.checks import TRUNCATED
from laconic.report.labels import Box, place
from laconic.report.words import headlines, percent, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from laconic.report.data import Comparison, Role, Row

FONT = "DejaVu Sans"
DPI = 200
WIDTH, HEIGHT = 8.4, 5.4
LABEL: dict[str, Any] = {"fontsize": 9, "fontfamily": FONT, "parse_math": False}
MOST_LABELS = 20
FAR = 14.0
LONGEST_NAME = 30
INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#dfe3e8", "#ffffff"


@dataclass(frozen=True)
class Look:
    """How a role is drawn: never by colour alone.

    Attributes:
        word: What the legend calls it.
        marker: The shape.
        colour: The colour on white.
    """

    word: str
    marker: str
    colour: str


LOOKS: dict[Role, Look] = {
    "system1": Look("System 1", "^", "#0b63c4"),
    "system2": Look("System 2", "s", "#b5430b"),
    "base": Look("base", "D", "#6b4fa0"),
    "merge": Look("merge", "o", "#087a58"),
}


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
    svg = rendered(draw(c, shown), "svg").decode()
    svg = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = svg[svg.index("<svg") :]
    names = {old: f"{prefix}{i}" for i, old in enumerate(re.findall(r'\bid="([^"]+)"', svg))}
    svg = re.sub(r'(\bid="|url\(#|href="#)([^")]+)', lambda m: m[1] + names.get(m[2], m[2]), svg)
    title = escape(f"Accuracy against length: {plain(', '.join(shown))}")
    words = escape(" ".join(plain(line) for line in [*headlines(c), *_description(c, shown)]))
    head = (
        f' role="img" aria-labelledby="{prefix}-title {prefix}-desc">'
        f'<title id="{prefix}-title">{title}</title><desc id="{prefix}-desc">{words}</desc>'
    )
    return re.sub(r"^(<svg[^>]*)>", lambda m: m[1] + head, svg)


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure's file: ``png`` or ``svg``, the same bytes each time."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with _quiet():
        figure.savefig(buffer, format=kind, dpi=DPI, facecolor=PAPER, metadata=metadata)
    return buffer.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """No warning for letters that the font has no shape for: they show as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def _description(c: Comparison, tasks: Sequence[str]) -> Iterator[str]:
    """The picture in words, for readers who do not see it."""
    for task in tasks:
        yield f"Shortest answers first on {task}, with accuracy and mean tokens:"
        for row in c.rows(task):
            s = row.summary
            yield f"{row.name} {percent(s.accuracy.value)}, {s.length.value:,.0f} tokens;"
        yield f"none is better in both than {', '.join(c.pareto[task])}."


def _panel(axes: Axes, c: Comparison, task: str) -> None:
    rows = c.rows(task)
    _scale(axes, rows)
    if len(rows) > 1:
        _front(axes, [row for row in rows if row.name in c.pareto[task]])
    for row in rows:
        _point(axes, row)
    _frame(axes, task)
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
    words: dict[str, Any] = {"color": INK, "fontfamily": FONT, "parse_math": False}
    axes.set_title(
        f"{_short(task)}: accuracy against length", loc="left", fontsize=12, pad=32, **words
    )
    axes.set_xlabel("length: mean completion tokens, thinking included", fontsize=10, **words)
    axes.set_ylabel("accuracy, %", fontsize=10, **words)
    axes.tick_params(labelsize=9, color=GRID, labelcolor=INK, labelfontfamily=FONT)
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"
    )
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(MUTED)


def _legend(axes: Axes, rows: Sequence[Row]) -> None:
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], marker=look.marker, color=look.colour, linestyle="none", label=look.word)
        for role, look in LOOKS.items()
        if any(row.role == role for row in rows)
    ]
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
    axes.legend(
        handles=keys,
        loc="lower left",
        bbox_to_anchor=(-0.012, 1.0),
        ncols=len(keys),
        frameon=False,
        labelcolor=INK,
        handletextpad=0.4,
        handlelength=1.6,
        columnspacing=1.3,
        prop={"family": FONT, "size": 9},
    )


def _label(axes: Axes, rows: Sequence[Row], front: Sequence[str]) -> None:
    """Write the names beside the points; of many, the parents' and the front's only."""
    if len(rows) > MOST_LABELS:
        rows = [row for row in rows if row.role != "merge" or row.name in front]
    centres = [_points(axes, r.summary.length.value, 100 * r.summary.accuracy.value) for r in rows]
    words = [_words(row) for row in rows]
    sizes = [_size(axes, word) for word in words]
    boxes = place(centres, sizes, _lines(axes), _frame_box(axes))
    for row, word, centre, box in zip(rows, words, centres, boxes, strict=True):
        _annotate(axes, row, word, centre, box)


def _words(row: Row) -> str:
    """A run's name, and what qualifies its numbers."""
    remarks = [] if row.complete else ["unfinished"]
    if row.summary.truncated > TRUNCATED:
        remarks.append(f"{100 * row.summary.truncated:.0f} % cut")
    name = _short(row.name)
    return f"{name} ({', '.join(remarks)})" if remarks else name


def _annotate(axes: Axes, row: Row, words: str, centre: tuple[float, float], box: Box) -> None:
    """Write a label into its box, with a line to its point where that is not close by."""
    (x, y), (left, bottom, right, top) = centre, box
    near_x, near_y = min(max(x, left), right), min(max(y, bottom), top)
    line = {
        "arrowstyle": "-",
        "color": MUTED,
        "linewidth": 0.6,
        "shrinkA": 0,
        "shrinkB": 4,
        "relpos": ((near_x - left) / (right - left), (near_y - bottom) / (top - bottom)),
    }
    axes.annotate(
        words,
        (row.summary.length.value, 100 * row.summary.accuracy.value),
        xytext=((left + right) / 2 - x, (bottom + top) / 2 - y),
        textcoords="offset points",
        ha="center",
        va="center",
        color=INK,
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        arrowprops=line if math.hypot(near_x - x, near_y - y) >= FAR else None,
        annotation_clip=False,
        zorder=6,
        **LABEL,
    )


def _size(axes: Axes, words: str) -> tuple[float, float]:
    """Width and height of a label, in points."""
    from matplotlib.text import Text

    with _quiet():
        box = Text(0, 0, words, figure=axes.figure, **LABEL).get_window_extent()
    return box.width * 72 / DPI, box.height * 72 / DPI


def _points(axes: Axes, x: float, y: float) -> tuple[float, float]:
    """A place in data coordinates as printer's points from the corner of the figure."""
    where = axes.transData.transform((x, y)) * 72 / DPI
    return float(where[0]), float(where[1])


def _frame_box(axes: Axes) -> Box:
    corners = axes.get_window_extent().get_points() * 72 / DPI
    (left, bottom), (right, top) = corners
    return float(left), float(bottom), float(right), float(top)


def _lines(axes: Axes) -> list[Box]:
    """The straight pieces of everything drawn so far, as thin boxes in points."""
    boxes: list[Box] = []
    for line in axes.get_lines():
        corners = axes.transData.transform(line.get_path().vertices) * 72 / DPI
        low, high = np.minimum(corners[:-1], corners[1:]), np.maximum(corners[:-1], corners[1:])
        for (left, bottom), (right, top) in zip(low, high, strict=True):
            boxes.append((float(left), float(bottom), float(right), float(top)))
    return boxes


def _inside(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise


def _short(name: str) -> str:
    """A name that fits a picture: both ends of a long one."""
    name = plain(name)
    if len(name) <= LONGEST_NAME:
        return name
    half = LONGEST_NAME // 2
    return f"{name[:half]}…{name[-half + 1 :]}"
