"""A panel of labelled points: intervals, names beside the marks, the front, what is shaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.reporting.styles import MUTED, PAPER
from laconic.reporting.writers.stills.canvas import (
    FONT,
    ROLE_STYLES,
    WORDS,
    drawn_as,
    frame,
    label,
    legend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from laconic.reporting.charts.contract import Chart, Panel, Series

DASHED = (0, (4, 2))


def draw_points(axes: Axes, chart: Chart, panel: Panel, title: str) -> None:
    """Draw one panel of a chart of points into its axes, below a title and a legend."""
    _scale(axes, panel)
    if panel.area is not None:
        area = panel.area
        axes.fill_between(area.x, area.low, area.high, color=MUTED, alpha=0.12, linewidth=0)
    if len(panel.series) > 1 and panel.front:
        _front(axes, panel)
    for series in panel.series:
        _point(axes, series)
    frame(axes, panel.across, panel.up, size=10)
    axes.set_title(title, loc="left", fontsize=12, pad=32, **WORDS)
    if chart.caution:
        axes.set_title(
            chart.caution,
            loc="right",
            fontsize=8.5,
            pad=32,
            color=ROLE_STYLES["system2"].colour,
            fontfamily=FONT,
            parse_math=False,
        )
    axes.xaxis.set_major_formatter(
        lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"
    )
    legend(axes, _keys(chart, panel))
    labelled = [series for series in panel.series if series.label]
    label(axes, [(s.x[0], s.y[0]) for s in labelled], [s.label for s in labelled])


def _scale(axes: Axes, panel: Panel) -> None:
    """Limits with room for the intervals and the names."""
    x = [end for series in panel.series for pair in series.x_ends for end in pair]
    x += [value for series in panel.series for value in series.x]
    near, far = min(x), max(x)
    left = 0.0 if panel.x_from_zero else max(near - (far - near) * 0.35, 0.0)
    axes.set_xlim(left, max(far + (far - left) * 0.1, 1.0))
    y = [end for series in panel.series for pair in series.y_ends for end in pair]
    y += [value for series in panel.series for value in series.y]
    room = max((max(y) - min(y)) * 0.12, 1.5)
    low, high = min(y) - room, max(y) + room
    axes.set_ylim(0.0 if panel.y_from_zero else max(low, -2.0), min(high, 102.0))


def _front(axes: Axes, panel: Panel) -> None:
    """The best value to be had for at most so much: a step at each point of the front."""
    x = [x for x, _ in panel.front]
    y = [y for _, y in panel.front]
    axes.plot(
        [x[0], *np.repeat([*x[1:], axes.get_xlim()[1]], 2)][: 2 * len(x)],
        np.repeat(y, 2),
        color=MUTED,
        linewidth=1.4,
        linestyle=DASHED,
        zorder=2,
    )


def _point(axes: Axes, series: Series) -> None:
    assert series.style is not None
    colour, marker, _ = drawn_as(series.style)
    low, high = axes.get_xlim()
    interval: dict[str, Any] = {"color": colour, "linewidth": 1.1, "alpha": 0.45, "zorder": 3}
    for y, (start, end) in zip(series.y, series.x_ends, strict=False):
        axes.plot([max(start, low), min(end, high)], [y, y], **interval)
    for x, ends in zip(series.x, series.y_ends, strict=False):
        axes.plot([x, x], ends, **interval)
    axes.plot(
        series.x,
        series.y,
        marker=marker,
        markersize=7.5,
        markerfacecolor=PAPER if series.hollow else colour,
        markeredgecolor=colour,
        markeredgewidth=1.6,
        linestyle="none",
        zorder=4 if series.role == "merge" else 5,
    )


def _keys(chart: Chart, panel: Panel) -> list[Line2D]:
    """A key for each role that occurs, and for what else is drawn."""
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], marker=style.marker, color=style.colour, label=style.word, linestyle="none")
        for role, style in ROLE_STYLES.items()
        if any(series.role == role for series in panel.series)
    ]
    if any(series.hollow for series in panel.series) and chart.hollow_means:
        hollow: dict[str, Any] = {
            "marker": "o",
            "color": MUTED,
            "markerfacecolor": PAPER,
            "linestyle": "none",
        }
        keys.append(Line2D([], [], label=f"hollow: {chart.hollow_means}", **hollow))
    if len(panel.series) > 1 and panel.front:
        keys.append(Line2D([], [], color=MUTED, linestyle=DASHED, label="front"))
    if panel.area is not None:
        shade: dict[str, Any] = {"alpha": 0.25, "linewidth": 6, "solid_capstyle": "butt"}
        keys.append(Line2D([], [], color=MUTED, label=panel.area.name, **shade))
    if any(series.x_ends or series.y_ends for series in panel.series):
        keys.append(Line2D([], [], color=MUTED, alpha=0.6, label="95 % interval"))
    return keys
