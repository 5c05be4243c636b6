"""What the pictures of a report share: fonts, colours, frames, keys, labels, files."""

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

from laconic.reporting.labels import Box, place
from laconic.reporting.wording import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from laconic.reporting.data import Row
    from laconic.reporting.families import Role

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


def as_element(figure: Figure, prefix: str, title: str, words: Sequence[str]) -> str:
    """A figure as an ``<svg>`` element, with its title and a description in words."""
    svg = rendered(figure, "svg").decode()
    svg = re.sub(r"<!--.*?-->\s*|<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = svg[svg.index("<svg") :]
    names = {old: f"{prefix}{i}" for i, old in enumerate(re.findall(r'\bid="([^"]+)"', svg))}
    svg = re.sub(r'(\bid="|url\(#|href="#)([^")]+)', lambda m: m[1] + names.get(m[2], m[2]), svg)
    told = escape(" ".join(map(plain, words)))
    head = (
        f' role="img" aria-labelledby="{prefix}-title {prefix}-desc">'
        f'<title id="{prefix}-title">{escape(plain(title))}</title>'
        f'<desc id="{prefix}-desc">{told}</desc>'
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


def frame(axes: Axes, title: str, along: str) -> None:
    """Title, axes and grid of a panel whose height is accuracy."""
    words: dict[str, Any] = {"color": INK, "fontfamily": FONT, "parse_math": False}
    axes.set_title(title, loc="left", fontsize=12, pad=32, **words)
    axes.set_xlabel(along, fontsize=10, **words)
    axes.set_ylabel("accuracy, %", fontsize=10, **words)
    axes.tick_params(labelsize=9, color=GRID, labelcolor=INK, labelfontfamily=FONT)
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(MUTED)


def role_keys(rows: Sequence[Row], **line: Any) -> list[Line2D]:
    """A key for each role that occurs."""
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            marker=look.marker,
            color=look.colour,
            label=look.word,
            **{"linestyle": "none", **line},
        )
        for role, look in LOOKS.items()
        if any(row.role == role for row in rows)
    ]


def legend(axes: Axes, keys: Sequence[Line2D]) -> None:
    """One line of keys between the title and the panel."""
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


def named(rows: Sequence[Row], front: Sequence[str]) -> list[Row]:
    """The rows whose names a picture shows: of many, the parents' and the front's only."""
    several = len(rows) > MOST_LABELS
    return [row for row in rows if not several or row.role != "merge" or row.name in front]


def label(axes: Axes, points: Sequence[tuple[float, float]], words: Sequence[str]) -> None:
    """Write words beside points, over as little as can be."""
    centres = [_points(axes, x, y) for x, y in points]
    sizes = [_size(axes, word) for word in words]
    boxes = place(centres, sizes, _lines(axes), _frame_box(axes))
    for point, word, centre, box in zip(points, words, centres, boxes, strict=True):
        _annotate(axes, point, word, centre, box)


def _annotate(
    axes: Axes, point: tuple[float, float], words: str, centre: tuple[float, float], box: Box
) -> None:
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
        point,
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


def short(name: str) -> str:
    """A name that fits a picture: both ends of a long one."""
    name = plain(name)
    if len(name) <= LONGEST_NAME:
        return name
    half = LONGEST_NAME // 2
    return f"{name[:half]}…{name[-half + 1 :]}"
