"""A chart as the JSON that the page's script ``charts.js`` draws."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from laconic.reporting.wording import short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.reporting.charts.contract import Chart, Series


def chart_data(chart: Chart) -> Mapping[str, Any]:
    """What the script draws of a chart: all but the text and the tables around it.

    Args:
        chart: A chart whose series have a style.
    """
    return {
        "kind": chart.kind,
        "panels": [
            {**asdict(panel), "series": [_series(series) for series in panel.series]}
            for panel in chart.panels
        ],
    }


def _series(series: Series) -> Mapping[str, Any]:
    return {**asdict(series), "title": short(series.name)}
