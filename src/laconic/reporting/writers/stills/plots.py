"""Panels of lines, of bars and of boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laconic.reporting.styles import INK, PAPER
from laconic.reporting.wording import short
from laconic.reporting.writers.stills.canvas import FONT, WORDS, drawn_as, frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from laconic.reporting.charts.contract import Panel, Series


def draw_lines(axes: Axes, panel: Panel) -> None:
    """Draw one panel of a chart of lines: values over positions, with intervals."""
    frame(axes, panel.across, panel.up, size=9)
    if panel.log:
        axes.set_xscale("log")
    for i, series in enumerate(panel.series):
        _line(axes, series, _shift(panel, i))
    if panel.categories:
        axes.set_xticks(range(len(panel.categories)), panel.categories)
    elif panel.x_from_zero and not panel.log and axes.get_xlim()[0] > 0:
        axes.set_xlim(left=0)
    _ticks(axes, panel)
    if panel.y_from_zero:
        axes.set_ylim(bottom=0)


def draw_rows(axes: Axes, panel: Panel, *, boxes: bool) -> None:
    """Draw one panel of bars or boxes, a row for each run, the first at the top."""
    frame(axes, panel.across, panel.up, size=9)
    if panel.log:
        axes.set_xscale("log")
    for i, series in enumerate(panel.series):
        assert series.style is not None
        colour, _, _ = drawn_as(series.style)
        if boxes:
            _box(axes, i, series.x, colour)
        else:
            axes.barh(i, series.x[0], height=0.6, color=colour)
            axes.annotate(
                f"{series.x[0]:.1f}",
                (series.x[0], i),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                **WORDS,
            )
    axes.set_yticks(range(len(panel.series)), [short(series.name) for series in panel.series])
    for words in axes.get_yticklabels():
        words.set_parse_math(False)
    axes.set_ylim(len(panel.series) - 0.4, -0.6)
    _ticks(axes, panel)
    furthest = max(series.x[-1] for series in panel.series)
    if not panel.log:
        axes.set_xlim(0, max(furthest, 1.0) * (1.04 if boxes else 1.25))


def draw_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """The names of everything drawn, each once, below the panels."""
    keys: dict[str, Artist] = {}
    for axes in panels:
        for handle, words in zip(*axes.get_legend_handles_labels(), strict=True):
            keys.setdefault(words, handle)
    legend = figure.legend(
        list(keys.values()),
        list(keys),
        loc="outside lower left",
        ncols=4,
        frameon=False,
        labelcolor=INK,
        prop={"family": FONT, "size": 8},
    )
    for words in legend.get_texts():
        words.set_parse_math(False)


def _line(axes: Axes, series: Series, shift: float) -> None:
    assert series.style is not None
    colour, marker, stroke = drawn_as(series.style)
    x, y = np.array(series.x) + shift, np.array(series.y)
    axes.errorbar(
        x,
        y,
        yerr=np.abs(np.array(series.y_ends).T - y) if series.y_ends else None,
        color=colour,
        marker=marker,
        markerfacecolor=PAPER if series.hollow else colour,
        markersize=4.5,
        linestyle=stroke if series.joined else "none",
        linewidth=1.3,
        elinewidth=0.7,
        drawstyle="steps-post" if series.stepped else "default",
        label=short(series.name),
    )


def _shift(panel: Panel, i: int) -> float:
    """How far a series is moved aside, so that intervals at one named position stay apart."""
    step = min(0.04, 0.4 / len(panel.series)) if panel.categories else 0.0
    return step * (i - (len(panel.series) - 1) / 2)


def _ticks(axes: Axes, panel: Panel) -> None:
    if panel.ticks:
        limits = axes.get_xlim()
        axes.set_xticks(panel.ticks, [f"{tick:,.0f}" for tick in panel.ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(limits)


def _box(axes: Axes, place: int, ends: Sequence[float], colour: str) -> None:
    low, first, middle, third, high = ends
    part = {"whislo": low, "q1": first, "med": middle, "q3": third, "whishi": high}
    line = {"color": colour, "linewidth": 1.2}
    axes.bxp(
        [part],
        positions=[place],
        widths=0.55,
        orientation="horizontal",
        manage_ticks=False,
        showfliers=False,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops=line | {"linewidth": 2},
    )
