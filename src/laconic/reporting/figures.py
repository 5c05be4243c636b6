"""Every chart of a report as a still picture for papers, one file each, drawn with matplotlib."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from laconic.reporting.charts import only, task_charts
from laconic.reporting.curves import draw_budgets
from laconic.reporting.drawing import (
    DPI,
    FONT,
    GRID,
    INK,
    LOOKS,
    MUTED,
    PAPER,
    as_element,
    rendered,
    short,
)
from laconic.reporting.palette import MERGES
from laconic.reporting.picture import draw

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from laconic.reporting.charts import Chart, Panel, Series
    from laconic.reporting.data import Comparison

WIDTH: Final = 8.4
#: Inches of a row of bars or boxes, and of a panel of lines.
ROW, TALL = 0.26, 3.4
MARKS: Final = ("o", "P", "*", "h", "v", "p")
DASHES: Final = ("-", "--", ":", "-.")
WORDS: Final[Mapping[str, Any]] = {"color": INK, "fontfamily": FONT, "parse_math": False}


def figures(c: Comparison) -> Iterator[tuple[str, Figure, Chart]]:
    """Every chart of a comparison: a name fit for a file, the picture, what it shows."""
    merges = dict.fromkeys(row.name for row in c.runs if row.role == "merge")
    places = {name: i for i, name in enumerate(merges)}
    for task in c.tasks:
        for chart in task_charts(c, task):
            if chart.name == "front":
                figure = draw(c, [task])
            elif chart.name == "budgets":
                figure = draw_budgets(c, task)
            else:
                figure = draw_chart(only(chart), f"{short(task)}: {chart.title}", places)
            yield f"{_slug(task)}-{chart.name}", figure, chart
    for course in c.courses:
        for chart in course.charts:
            yield _slug(chart.name), draw_chart(chart, chart.title, {}), chart


def picture(name: str, figure: Figure, chart: Chart, kind: str) -> bytes:
    """A figure's file, ``png`` or ``svg``; the latter says in words what it shows."""
    if kind == "png":
        return rendered(figure, "png")
    return as_element(figure, name, chart.title, [chart.says]).encode()


def draw_chart(chart: Chart, title: str, places: Mapping[str, int]) -> Figure:
    """A chart of lines, bars or boxes.

    Args:
        chart: What to draw.
        title: What stands above it.
        places: The place of each merge among the merges: its colour and mark in every chart.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = chart.kind in {"bars", "boxes"}
    height = 1.3 + ROW * len(chart.panels[0].series) if rows else TALL
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, **WORDS)
    panels = figure.subplots(1, len(chart.panels), squeeze=False, sharey=rows)[0]
    for axes, panel in zip(panels, chart.panels, strict=True):
        _frame(axes, panel)
        if rows:
            _rows(axes, panel, chart.kind == "boxes", places)
        else:
            _lines(axes, panel, places)
    if not rows:
        _legend(figure, panels)
    return figure


def _look(series: Series, places: Mapping[str, int], otherwise: int) -> tuple[str, str, str]:
    """Colour, mark and dash of a run, or of one of several other things."""
    if series.role != "merge":
        return LOOKS[series.role].colour, LOOKS[series.role].marker, "-"
    place = places.get(series.name, otherwise)
    dash = DASHES[place // len(MERGES) % len(DASHES)]
    return MERGES[place % len(MERGES)][0], MARKS[place % len(MARKS)], dash


def _frame(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel(panel.across, fontsize=9, **WORDS)
    axes.set_ylabel(panel.up, fontsize=9, **WORDS)
    axes.tick_params(labelsize=8, color=GRID, labelcolor=INK, labelfontfamily=FONT)
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(MUTED)
    if panel.log:
        axes.set_xscale("log")


def _lines(axes: Axes, panel: Panel, places: Mapping[str, int]) -> None:
    for i, series in enumerate(panel.series):
        colour, mark, dash = _look(series, places, i)
        apart = min(0.04, 0.4 / len(panel.series)) if panel.words else 0.0
        aside = apart * (i - (len(panel.series) - 1) / 2)
        x, y = np.array(series.x) + aside, np.array(series.y)
        ends = np.abs(np.array(series.y_ends).T - y) if series.y_ends else None
        axes.errorbar(
            x,
            y,
            yerr=ends,
            color=colour,
            marker=mark,
            markerfacecolor=PAPER if series.hollow else colour,
            markersize=4.5,
            linestyle=dash if series.joined else "none",
            linewidth=1.3,
            elinewidth=0.7,
            drawstyle="steps-post" if series.stepped else "default",
            label=short(series.name),
        )
    if panel.words:
        axes.set_xticks(range(len(panel.words)), panel.words)
    if panel.span is None:
        axes.set_ylim(bottom=0)


def _rows(axes: Axes, panel: Panel, boxes: bool, places: Mapping[str, int]) -> None:
    names = [short(series.name) for series in panel.series]
    for i, series in enumerate(panel.series):
        colour, _, _ = _look(series, places, i)
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
    axes.set_yticks(range(len(names)), names)
    for words in axes.get_yticklabels():
        words.set_parse_math(False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    furthest = max(series.x[-1] for series in panel.series)
    if not panel.log:
        axes.set_xlim(0, max(furthest, 1.0) * (1.04 if boxes else 1.25))


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


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
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


def _slug(name: str) -> str:
    """A name fit for a file on any system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "task"
