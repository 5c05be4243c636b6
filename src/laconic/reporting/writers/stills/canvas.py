"""What still pictures share: fonts, colours, frames, legends, labels, files."""

from __future__ import annotations

import io
import math
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from laconic.reporting.styles import GRID, INK, MUTED, PALETTE, PAPER, ROLE_MARKS
from laconic.reporting.wording import ROLES, plain
from laconic.reporting.writers.stills.labels import Box, place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from laconic.reporting.families import Role
    from laconic.reporting.styles import Dash, Mark, SeriesStyle

FONT = "DejaVu Sans"
DPI = 200
#: Inches.
WIDTH, HEIGHT = 8.4, 5.4
WORDS: Final[Mapping[str, Any]] = {"color": INK, "fontfamily": FONT, "parse_math": False}
LABEL: dict[str, Any] = {"fontsize": 9, "fontfamily": FONT, "parse_math": False}
#: A label farther than this from its point gets a line to it, in printer's points.
FAR = 14.0
#: Matplotlib's names of the marks and dashes.
MARKERS: Final[Mapping[Mark, str]] = {
    "triangle-up": "^",
    "square": "s",
    "diamond": "D",
    "circle": "o",
    "cross": "P",
    "star": "*",
    "hexagon": "h",
    "triangle-down": "v",
    "pentagon": "p",
}
STROKES: Final[Mapping[Dash, str]] = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


@dataclass(frozen=True)
class RoleStyle:
    """How a role is drawn: never by colour alone.

    Attributes:
        word: What the legend calls it.
        marker: Matplotlib's name of the shape.
        colour: The colour on white.
    """

    word: str
    marker: str
    colour: str


ROLE_STYLES: dict[Role, RoleStyle] = {
    role: RoleStyle(ROLES[role], MARKERS[mark], PALETTE[role][0])
    for role, mark in ROLE_MARKS.items()
}


def drawn_as(style: SeriesStyle) -> tuple[str, str, str]:
    """Colour on white, marker and line style of a series, as Matplotlib names them."""
    return PALETTE[style.colour][0], MARKERS[style.mark], STROKES[style.dash]


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


def frame(axes: Axes, across: str, up: str, *, size: float) -> None:
    """The names of the axes, their ticks and the grid.

    Args:
        axes: The axes.
        across: What the horizontal axis holds.
        up: What the vertical axis holds.
        size: The size of the names, in printer's points; ticks are one smaller.
    """
    axes.set_xlabel(across, fontsize=size, **WORDS)
    axes.set_ylabel(up, fontsize=size, **WORDS)
    axes.tick_params(labelsize=size - 1, color=GRID, labelcolor=INK, labelfontfamily=FONT)
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(MUTED)


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
        columnspacing=1.0,
        prop={"family": FONT, "size": 8},
    )


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
