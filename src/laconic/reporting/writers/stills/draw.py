"""Every chart of a report as a still picture for papers, one file each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from laconic.reporting.charts.contract import TASK_CHARTS, history_charts, styled, task_charts
from laconic.reporting.styles import PAPER
from laconic.reporting.wording import headlines, number, short
from laconic.reporting.writers.stills.canvas import (
    DPI,
    HEIGHT,
    WIDTH,
    WORDS,
    as_element,
    rendered,
)
from laconic.reporting.writers.stills.plots import draw_legend, draw_lines, draw_rows
from laconic.reporting.writers.stills.points import draw_points

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.figure import Figure

    from laconic.reporting.charts.contract import Chart, Series
    from laconic.reporting.comparison import RunComparison

#: Inches of a row of bars or boxes, and of a panel of lines.
ROW, TALL = 0.26, 3.4
#: The chart of a task that a .png or .svg report shows.
MAIN: Final = "front"


def to_png(c: RunComparison) -> bytes:
    """Accuracy against length on all tasks, 1680 pixels wide."""
    return rendered(draw_fronts(c), "png")


def to_svg(c: RunComparison, tasks: Sequence[str] | None = None, *, prefix: str = "s") -> str:
    """Accuracy against length as an ``<svg>`` element with a title and a description.

    Args:
        c: The comparison.
        tasks: The tasks to show; all by default.
        prefix: What its ids start with: pictures on one page need different ones.
    """
    shown = c.tasks if tasks is None else tasks
    words = [line for task in shown for line in described(_front_chart(c, task))]
    title = f"Accuracy against length: {', '.join(shown)}"
    return as_element(draw_fronts(c, shown), prefix, title, [*headlines(c), *words])


def draw_fronts(c: RunComparison, tasks: Sequence[str] | None = None) -> Figure:
    """Accuracy against length, one panel for each task, one above the other.

    Args:
        c: The comparison.
        tasks: The tasks to show; all by default.
    """
    charts = {task: _front_chart(c, task) for task in (c.tasks if tasks is None else tasks)}
    return _stacked([(_title(task, chart), chart) for task, chart in charts.items()])


def figures(c: RunComparison) -> Iterator[tuple[str, Figure, Chart]]:
    """Every chart of a comparison: a name fit for a file, the picture, what it shows."""
    for task in c.tasks:
        for chart in task_charts(c, task):
            yield f"{_slug(task)}-{chart.name}", draw_chart(chart, _title(task, chart)), chart
    for history in c.histories:
        for chart in history_charts(history):
            yield _slug(chart.name), draw_chart(chart, chart.title), chart


def picture(name: str, figure: Figure, chart: Chart, kind: str) -> bytes:
    """A figure's file, ``png`` or ``svg``; the latter says in words what it shows."""
    if kind == "png":
        return rendered(figure, "png")
    return as_element(figure, name, chart.title, [chart.says, *described(chart)]).encode()


def draw_chart(chart: Chart, title: str) -> Figure:
    """A chart as a figure, without the series that are shown on demand only.

    Args:
        chart: What to draw, styled.
        title: What stands above it.
    """
    chart = chart.visible()
    if chart.kind == "points":
        return _stacked([(title, chart)])
    rows = chart.kind in {"bars", "boxes"}
    height = 1.3 + ROW * len(chart.panels[0].series) if rows else TALL
    figure = _figure(height, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, **WORDS)
    panels = figure.subplots(1, len(chart.panels), squeeze=False, sharey=rows)[0]
    for axes, panel in zip(panels, chart.panels, strict=True):
        if rows:
            draw_rows(axes, panel, boxes=chart.kind == "boxes")
        else:
            draw_lines(axes, panel)
    if not rows:
        draw_legend(figure, panels)
    return figure


def described(chart: Chart) -> Iterator[str]:
    """A chart in words, for readers who do not see it: what each run shows in each panel."""
    for panel in chart.visible().panels:
        yield f"{panel.up or panel.across}:"
        yield from (f"{series.name}: {_values(series)};" for series in panel.series)
    if chart.instead:
        yield f"{chart.instead}."


def _values(series: Series) -> str:
    """The values of a series in words."""
    if len(series.notes) == 1:
        return series.notes[0]
    if not series.y:
        return ", ".join(number(x) for x in series.x)
    return ", ".join(
        f"{number(y)} at {number(x, 0)}" for x, y in zip(series.x, series.y, strict=True)
    )


def _front_chart(c: RunComparison, task: str) -> Chart:
    (chart,) = TASK_CHARTS.get(MAIN).function(c, task)
    return styled(chart, c)


def _title(task: str, chart: Chart) -> str:
    return f"{short(task)}: {chart.title}"


def _stacked(charts: Sequence[tuple[str, Chart]]) -> Figure:
    """Charts of points, each panel below the one before.

    The axes have fixed places, as labels are placed by where the axes are.
    """
    panels = [(title, chart, panel) for title, chart in charts for panel in chart.panels]
    figure = _figure(HEIGHT * len(panels))
    for i, (title, chart, panel) in enumerate(panels):
        bottom = (len(panels) - 1 - i) / len(panels)
        axes = figure.add_axes(
            (0.085, bottom + 0.115 / len(panels), 0.895, 0.745 / len(panels)), facecolor="none"
        )
        draw_points(axes, chart, panel, title)
    return figure


def _figure(height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure of a height in inches, which changes no setting of Matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=PAPER, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def _slug(name: str) -> str:
    """A name fit for a file on any system."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:80] or "task"
