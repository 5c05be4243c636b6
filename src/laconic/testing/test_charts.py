"""The contract of charts: sound values, in words too, drawn by the page and as still pictures."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from laconic.reporting.charts.contract import HISTORY_CHARTS, TASK_CHARTS, Chart, styled
from laconic.reporting.comparison import RunComparison, compare
from laconic.reporting.history import (
    History,
    MeasuredCandidate,
    MeasuredParent,
    MixtureStep,
    SearchHistory,
    TrainingHistory,
)
from laconic.reporting.page.build import to_html
from laconic.reporting.page.chart_data import chart_data
from laconic.reporting.writers.stills.draw import draw_chart, picture
from laconic.runs.experiment import Experiment, Sampling, TaskRecord
from laconic.runs.run import Result, Run

if TYPE_CHECKING:
    from laconic.registry import Plugin

PLUGINS: tuple[Plugin[Any], ...] = (*TASK_CHARTS.all(), *HISTORY_CHARTS.all())
TASK = "contract"


def run(name: str, length: int, wrong: int) -> Run:
    """A run of thirty problems of three levels, two answers each, every so many of them wrong."""
    results = tuple(
        Result(
            task=TASK,
            id=f"q{i}",
            repeat=repeat,
            level=1 + i % 3,
            problem=f"problem {i}",
            gold="1",
            text="Wait, let me check. </think> 1",
            length=min(length + 40 * (i % 7), 900),
            thinking_length=length // 2,
            thinks=True,
            truncated=length + 40 * (i % 7) > 900,
            answer="1",
            outcome="wrong" if (i + repeat) % wrong == 0 else "correct",
            correct=(i + repeat) % wrong != 0,
            reflections=i % 4,
        )
        for i in range(30)
        for repeat in range(2)
    )
    asked = (TaskRecord(TASK, TASK, "0123456789abcdef", 30, 900),)
    sampling = Sampling(None, 0.6, 0.95, 2)
    made = Experiment(name, name, asked, sampling, "replay", "float32", "stock", "exact 1")
    return Run(name, made, results, True)


@cache
def comparison() -> RunComparison:
    """Two parents and two merges, one of them with a name that means harm."""
    return compare(
        [
            run("system1", 90, 2),
            run("system2", 800, 9),
            run("merge", 300, 7),
            run("<b>$x^$ & |", 500, 5),
        ]
    )


def histories() -> tuple[History, ...]:
    """A search and a training."""
    first = MeasuredCandidate("0.5", "complete", 0.8, 500.0, 1000.0)
    dropped = MeasuredCandidate("0.1", "dropped", 0.2, 100.0, 1500.0)
    parents = (MeasuredParent("system1", 0.6, 200.0), MeasuredParent("system2", 0.9, 900.0))
    halves, end = {"short": 0.5, "long": 0.5}, {"short": 0.7, "long": 0.3}
    steps = (
        MixtureStep(10, 0.7, 0.02, 400.0, 9.0, halves, halves),
        MixtureStep(20, 0.7, 0.02, 380.0, 9.0, halves, end),
    )
    return (
        SearchHistory("search", (first, dropped), parents, "0.5", first),
        TrainingHistory("training", ("short", "long"), steps),
    )


def charts_of(plugin: Plugin[Any]) -> list[Chart]:
    """What a chart function yields for the sample, styled."""
    if plugin in TASK_CHARTS.all():
        found = comparison()
        return [styled(chart, found) for chart in plugin.function(found, TASK)]
    return [styled(c, None) for history in histories() for c in plugin.function(history)]


@pytest.fixture(params=PLUGINS, ids=lambda plugin: plugin.name)
def charts(request: pytest.FixtureRequest) -> list[Chart]:
    """The charts of each function; override `comparison` or `histories` if yours needs more."""
    found = charts_of(request.param)
    if not found:
        pytest.skip(f"{request.param.name} has nothing to show of the sample")
    return found


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_a_chart_explains_itself(plugin: Plugin[Any]) -> None:
    assert plugin.summary.endswith(".")
    for chart in charts_of(plugin):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", chart.name)
        assert chart.title
        assert chart.says.endswith(".")


def test_no_two_charts_have_one_name() -> None:
    names = [chart.name for plugin in PLUGINS for chart in charts_of(plugin)]
    assert len(set(names)) == len(names)


def test_a_series_has_what_its_kind_needs(charts: list[Chart]) -> None:
    for chart in charts:
        assert chart.panels
        for panel in chart.panels:
            assert panel.series
            for series in panel.series:
                if chart.kind in {"bars", "boxes"}:
                    assert len(series.x) == (1 if chart.kind == "bars" else 5)
                    assert list(series.x) == sorted(series.x)
                    assert series.y == ()
                else:
                    assert len(series.y) == len(series.x) > 0
                assert len(series.notes) in {0, 1 if chart.kind == "boxes" else len(series.x)}
                pairs = [*zip(series.x, series.x_ends, strict=False)]
                pairs += [*zip(series.y, series.y_ends, strict=False)]
                assert all(low - 1e-9 <= value <= high + 1e-9 for value, (low, high) in pairs)
                assert not panel.categories or all(0 <= x < len(panel.categories) for x in series.x)


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
def test_equal_runs_give_equal_charts(plugin: Plugin[Any]) -> None:
    assert charts_of(plugin) == charts_of(plugin)


def test_the_page_draws_it(charts: list[Chart]) -> None:
    found = replace(comparison(), histories=histories())
    page = to_html(found, texts=0)
    for chart in charts:
        assert re.search(rf'id="chart-(0|c)-{re.escape(chart.name)}"', page)
        text = json.dumps(chart_data(chart), allow_nan=False)
        assert len(json.loads(text)["panels"]) == len(chart.panels)


def test_a_still_picture_draws_it(charts: list[Chart]) -> None:
    for chart in charts:
        figure = draw_chart(chart, chart.title)
        assert picture(chart.name, figure, chart, "png").startswith(b"\x89PNG")
        root = ET.fromstring(picture(chart.name, figure, chart, "svg").decode())
        assert root.get("role") == "img"
