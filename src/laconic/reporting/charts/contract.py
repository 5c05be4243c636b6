"""What a chart is: axes with series as plain values, and the registries that find all charts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from laconic.errors import RunError
from laconic.registry import Registry
from laconic.reporting.styles import SeriesStyle, style_of
from laconic.reporting.wording import plain

if TYPE_CHECKING:
    from laconic.reporting.comparison import RunComparison
    from laconic.reporting.families import Role
    from laconic.reporting.history import History
    from laconic.reporting.tables.table import Table
    from laconic.stats import Estimate

Kind = Literal["points", "lines", "bars", "boxes"]
#: With more merges than this, a chart of lines first shows those of the front only.
MOST_LINES: Final = 6


@dataclass(frozen=True)
class Series:
    """What one run shows in one panel.

    Attributes:
        name: The run.
        role: What the run is; with `style`, its colour and mark.
        x: Horizontal positions: numbers, or indices of `Panel.categories`. One value in ``bars``;
            the five of `laconic.reporting.tables.details.QUANTILES` in ``boxes``.
        y: Values, one for each position; empty in ``bars`` and ``boxes``.
        x_ends: The interval of each position; empty where there is none.
        y_ends: The interval of each value; empty where there is none.
        notes: A text for each point, shown when a reader points at it; empty where the numbers
            say it all.
        label: What is written beside the points; empty for nothing.
        shown: Whether it is visible at first, rather than on demand.
        hollow: Whether its points are drawn as outlines.
        stepped: Whether a value holds until the next position.
        joined: Whether a line joins the points.
        style: How it is drawn; None until `task_charts` or `history_charts` sets it.
    """

    name: str
    role: Role
    x: tuple[float, ...]
    y: tuple[float, ...] = ()
    x_ends: tuple[tuple[float, float], ...] = ()
    y_ends: tuple[tuple[float, float], ...] = ()
    notes: tuple[str, ...] = ()
    label: str = ""
    shown: bool = True
    hollow: bool = False
    stepped: bool = False
    joined: bool = True
    style: SeriesStyle | None = None


@dataclass(frozen=True)
class Area:
    """A shaded area between two curves, in the units of the axes; all ``[position]``.

    Attributes:
        name: What it is, for the legend.
        x: Horizontal positions, ascending.
        low: The lower curve.
        high: The upper curve.
    """

    name: str
    x: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """Axes with what is drawn on them.

    Attributes:
        across: What the horizontal axis holds, unit included.
        up: What the vertical axis holds; empty where it names the runs.
        series: What is drawn.
        categories: Names of the positions 0, 1, 2 ... of the horizontal axis; empty for numbers.
        ticks: Positions to mark on the horizontal axis; empty to leave them to the writer.
        log: Whether the horizontal axis is logarithmic.
        x_from_zero: Whether the horizontal axis begins at 0.
        y_from_zero: Whether the vertical axis begins at 0.
        front: The Pareto front as points (x, y), drawn as steps; empty for none.
        area: What is shaded; None for nothing.
    """

    across: str
    up: str
    series: tuple[Series, ...]
    categories: tuple[str, ...] = ()
    ticks: tuple[float, ...] = ()
    log: bool = False
    x_from_zero: bool = True
    y_from_zero: bool = True
    front: tuple[tuple[float, float], ...] = ()
    area: Area | None = None


@dataclass(frozen=True)
class Chart:
    """A chart, with the text and the tables that go with it.

    Attributes:
        name: The name of its file and of its place in the page.
        title: What it shows.
        says: How to read it, in a sentence or two.
        kind: What is drawn: points with labels, lines, bars or boxes.
        panels: Axes side by side; bars and boxes have the same runs in all panels.
        order: Charts are shown in ascending order of this number.
        caution: What a reader must know first, beside the title; empty for nothing.
        hollow_means: What an outlined point means, for the legend; empty where there is none.
        instead: What a reader who cannot see it is told; empty where the tables say it.
        tables: The same in numbers.
        folded: Whether the page shows the tables on demand only.
    """

    name: str
    title: str
    says: str
    kind: Kind
    panels: tuple[Panel, ...]
    order: int = 100
    caution: str = ""
    hollow_means: str = ""
    instead: str = ""
    tables: tuple[Table, ...] = ()
    folded: bool = True

    @property
    def hidden(self) -> int:
        """How many series are shown on demand only."""
        return sum(not series.shown for series in self.panels[0].series)

    def visible(self) -> Chart:
        """The chart with only the series that are visible at first: what a still picture shows."""
        return replace(
            self,
            panels=tuple(
                replace(panel, series=tuple(s for s in panel.series if s.shown))
                for panel in self.panels
            ),
        )


TaskChart = Callable[["RunComparison", str], Iterator[Chart]]
HistoryChart = Callable[["History"], Iterator[Chart]]
T = TypeVar("T", bound=TaskChart)
H = TypeVar("H", bound=HistoryChart)
TASK_CHARTS: Registry[TaskChart] = Registry("chart", "laconic.reporting.charts", RunError)
HISTORY_CHARTS: Registry[HistoryChart] = Registry("chart", "laconic.reporting.charts", RunError)


def task_chart(function: T) -> T:
    """Register a function ``(comparison, task)`` that yields charts of the runs of a task.

    It yields nothing where there is nothing to show.
    """
    return TASK_CHARTS.register(function)


def history_chart(function: H) -> H:
    """Register a function ``(history)`` that yields charts of a search or a training.

    It yields nothing for a history of another kind.
    """
    return HISTORY_CHARTS.register(function)


def task_charts(c: RunComparison, task: str) -> list[Chart]:
    """Every chart of a task, in order and styled."""
    found = [chart for plugin in TASK_CHARTS.all() for chart in plugin.function(c, task)]
    return [styled(chart, c) for chart in sorted(found, key=lambda chart: chart.order)]


def history_charts(history: History) -> list[Chart]:
    """Every chart of a search or a training, in order and styled."""
    found = [chart for plugin in HISTORY_CHARTS.all() for chart in plugin.function(history)]
    return [styled(chart, None) for chart in sorted(found, key=lambda chart: chart.order)]


def styled(chart: Chart, c: RunComparison | None) -> Chart:
    """A chart whose series all have a style.

    Args:
        chart: The chart.
        c: The comparison, in all of whose charts a run has one style; None to style the series of
            each panel in turn.
    """
    merges = [plain(row.name) for row in c.runs if row.role == "merge"] if c else []
    numbers = {name: i for i, name in enumerate(dict.fromkeys(merges))}
    return replace(
        chart,
        panels=tuple(
            replace(
                panel,
                series=tuple(
                    replace(s, style=s.style or style_of(s.role, numbers.get(s.name, i)))
                    for i, s in enumerate(panel.series)
                ),
            )
            for panel in chart.panels
        ),
    )


def shown_first(c: RunComparison, task: str) -> set[str]:
    """The runs that a chart of lines shows at first: of many, the parents and the front only."""
    rows = c.same_but_budget(task)
    merges = [row.name for row in rows if row.role == "merge"]
    if len(merges) <= MOST_LINES:
        return {row.name for row in rows}
    chosen = sorted(
        (name for name in merges if name in c.pareto[task]),
        key=lambda name: next(-(row.details.front or 0) for row in rows if row.name == name),
    )
    return {row.name for row in rows if row.role != "merge"} | {*chosen[:MOST_LINES], c.baseline}


def ends(e: Estimate, times: float = 1.0) -> tuple[float, float]:
    """An interval's ends, multiplied; the value itself where an end is not finite."""
    low = e.low if math.isfinite(e.low) else e.value
    high = e.high if math.isfinite(e.high) else e.value
    return low * times, high * times


def round_ticks(values: list[float]) -> tuple[float, ...]:
    """Round numbers (1, 2, 5, 10, 20 ...) for a logarithmic axis that holds some values."""
    positive = [value for value in values if value > 0]
    if not positive:
        return ()
    low, high = min(positive), max(positive)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    numbers = [float(times * 10**power) for power in powers for times in (1, 2, 5)]
    return tuple(n for n in numbers if max(low / 2, 1) <= n <= high * 2)
