"""Figures of small panels, in the colours and type of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from laconic.reporting.styles import GRID, INK, MUTED, PAPER
from laconic.reporting.writers.stills.canvas import DPI, FONT, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def panels(rows: int, columns: int, *, height: float) -> tuple[Figure, list[Axes]]:
    """An empty figure of panels, row by row, each row so many inches high."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height * rows), dpi=DPI, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def dress(axes: Axes, up: str, along: str, *, title: str = "") -> None:
    """Title, names of the axes and grid of a small panel."""
    words: dict[str, Any] = {"color": INK, "fontfamily": FONT, "parse_math": False}
    axes.set_title(title, loc="left", fontsize=9, **words)
    axes.set_xlabel(along, fontsize=8, **words)
    axes.set_ylabel(up, fontsize=8, **words)
    axes.tick_params(labelsize=7, color=GRID, labelcolor=INK, labelfontfamily=FONT)
    axes.grid(visible=True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(MUTED)
