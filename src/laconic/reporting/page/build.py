"""A comparison as one HTML page that needs nothing else: words, charts, tables, the answers."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from laconic.reporting.charts.contract import history_charts, task_charts
from laconic.reporting.page.answers import TEXTS, pack, pack_answers
from laconic.reporting.page.chart_data import chart_data
from laconic.reporting.page.markup import folded, section, table, text
from laconic.reporting.styles import PALETTE
from laconic.reporting.tables.details import (
    attempt_table,
    cost_table,
    detail_tables,
    keyword_table,
    reflection_table,
    trend_table,
)
from laconic.reporting.tables.main import condition_table, overall_table
from laconic.reporting.wording import (
    MINUS,
    finite,
    headlines,
    interval_names,
    percent,
    points,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from laconic.reporting.charts.contract import Chart
    from laconic.reporting.comparison import RunComparison

#: The title of a chart's folded tables.
NUMBERS = "These numbers as a table"
SCRIPTS = ("page.js", "charts.js", "prose.js", "answers.js", "start.js")


def to_html(c: RunComparison, *, texts: float = TEXTS) -> str:
    """The comparison as a page: no network, light and dark, nobody's text ever markup.

    Args:
        c: The comparison.
        texts: The most megabytes of packed answers in it; more are sampled, and it says so.
    """
    title = f"Accuracy and length against {c.baseline}"
    answers = pack_answers(c, texts)
    tasks = [_placed(i, task_charts(c, task)) for i, task in enumerate(c.tasks)]
    histories = [_placed("c", history_charts(history)) for history in c.histories]
    charts = {name: chart for several in (*tasks, *histories) for name, chart in several.items()}
    body = [
        '<a class="skip" href="#main">To the content</a>',
        f"<header><h1>{text(title)}</h1>",
        *(f'<p class="headline">{text(line)}</p>' for line in headlines(c)),
        _caution(c),
        _contents(c, answers=bool(answers.blocks)),
        '</header><main id="main" tabindex="-1">',
        _warnings(c.warnings),
        _tasks(c, tasks),
        section("All tasks", table(overall_table(c)), name="all"),
        section("How it got there", *_histories(c, histories), name="histories"),
        _answers() if answers.blocks else "",
        section("How it was measured", table(condition_table(c)), _intervals(c), name="measured"),
        "</main>",
        _data("charts", {name: chart_data(chart) for name, chart in charts.items()}),
        _data("answers", answers.head),
        *(_block(name, packed) for name, packed in answers.blocks.items()),
        _block("plotly", _plotly()[0]),
        f"<script>{_script()}</script>",
    ]
    return _head(title) + "\n".join(part for part in body if part) + "\n</body>\n</html>\n"


def _head(title: str) -> str:
    """Everything before the body's content: only the page's own scripts may run."""
    allowed = " ".join(f"'sha256-{digest}'" for digest in (_digest(_script()), _plotly()[1]))
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(title)}</title>\n<style>{_colours()}{_read('page.css')}</style>\n</head>\n"
        "<body>\n"
    )


def _colours() -> str:
    """The colours by name, for light and for dark; paper is light."""
    light = "; ".join(f"--{name}: {colours[0]}" for name, colours in PALETTE.items())
    dark = "; ".join(f"--{name}: {colours[1]}" for name, colours in PALETTE.items())
    return (
        f"\n:root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )


@cache
def _read(name: str) -> str:
    return files("laconic.reporting.page").joinpath(name).read_text(encoding="utf-8")


@cache
def _script() -> str:
    """The page's own scripts and the one that sets formulas, with its licence."""
    own = "\n".join(map(_read, SCRIPTS))
    licence = f"/*! Temml 0.13.5\n{_read('vendor/temml.LICENSE')}*/"
    return f'\n"use strict";\n{licence}\n{_read("vendor/temml.min.js")}\n{own}'


@cache
def _plotly() -> tuple[str, str]:
    """The library that draws the charts, packed, and its digest."""
    library = f"/*!\n{_read('vendor/plotly.LICENSE')}*/\n{_read('vendor/plotly-basic.min.js')}"
    return pack(library), _digest(library)


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _data(name: str, value: Any) -> str:
    """Data for the scripts; no part of it can end the element."""
    written = json.dumps(finite(value), separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{written}</script>'


def _block(name: str, packed: str) -> str:
    return f'<script type="text/plain" id="{name}">{packed}</script>'


def _placed(where: object, charts: Sequence[Chart]) -> dict[str, Chart]:
    """Charts by the id of the element that holds each."""
    return {f"chart-{where}-{chart.name}": chart for chart in charts}


def _caution(c: RunComparison) -> str:
    """How to read the sentence above it."""
    if not c.pairs:
        return ""
    others = len({p.name for p in c.pairs})
    picked = (
        f" The sentence picks one of {others} runs by the same answers that it reports: confirm it "
        "on problems kept back."
        if others > 1
        else ""
    )
    told = (
        f"Brackets are {percent(c.level)} intervals of that one comparison. “Not worse” is yes "
        f"where the whole interval lies above {MINUS}{points(c.margin)}, no where it lies "
        f"below, else unclear.{picked}"
    )
    return f'<p class="small">{text(told)}</p>'


def _contents(c: RunComparison, *, answers: bool) -> str:
    links = [("tasks", "Charts and tables")]
    links += [("all", "All tasks")] if c.overall else []
    links += [("histories", "How it got there")] if c.histories else []
    links += [("read", "Read the answers")] if answers else []
    links += [("measured", "How it was measured")]
    items = "".join(f'<li><a href="#{name}">{words}</a></li>' for name, words in links)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{text(warning)}</li>" for warning in warnings)
    return (
        '<section class="warnings" aria-labelledby="warnings"><h2 id="warnings">Before you '
        f"believe it</h2><ul>{items}</ul></section>"
    )


def _tasks(c: RunComparison, charts: Sequence[dict[str, Chart]]) -> str:
    """A tab for each task and the panels that they show; without scripts, all of them."""
    tabs = "".join(
        f'<button type="button" role="tab" id="tab-{i}" aria-controls="task-{i}" '
        f'aria-selected="{str(not i).lower()}">{text(task)}</button>'
        for i, task in enumerate(c.tasks)
    )
    panels = "\n".join(
        f'<section role="tabpanel" id="task-{i}" aria-labelledby="tab-{i}">'
        f"<h2>{text(task)}</h2>\n{_task(c, task, charts[i])}\n</section>"
        for i, task in enumerate(c.tasks)
    )
    return (
        '<noscript><p class="note">The charts and the answers need JavaScript; the tables do not.'
        "</p></noscript>\n"
        '<div id="tasks"><div class="tabs" id="tabs" role="tablist" aria-label="Task" hidden>'
        f"{tabs}</div>\n{panels}</div>"
    )


def _task(c: RunComparison, task: str, charts: dict[str, Chart]) -> str:
    """Charts with their tables, then what else is known of a task."""
    parts = []
    for name, chart in charts.items():
        parts += [f"<h3>{text(chart.title)}</h3>", _figure(name, chart)]
        tables = [table(one) for one in chart.tables]
        parts += [folded(NUMBERS, *tables, look="numbers")] if chart.folded else tables
    more = (cost_table, reflection_table, keyword_table, trend_table)
    several = any("several answers" in one.caption for one in detail_tables(c, task))
    rest = [attempt_table] * several + list(more)
    parts.append(
        folded(
            f"More about {task}: what right answers cost, words of reflection, trends",
            *(table(make(c, task)) for make in rest),
            look="more",
        )
    )
    return "\n".join(part for part in parts if part)


def _figure(name: str, chart: Chart) -> str:
    """A place for a chart, with how to read it."""
    instead = chart.instead or "Its numbers stand in the table below."
    hidden = chart.hidden
    hint = f" {hidden} runs are hidden at first: choose them in the legend." if hidden else ""
    caution = f'<p class="caution">{text(chart.caution)}</p>' if chart.caution else ""
    return (
        f'<figure><figcaption class="small">{caution}{text(chart.says + hint)}</figcaption>'
        f'<div class="chart" id="{name}" role="img" '
        f'aria-label="{text(f"{chart.title}. {instead}")}"></div></figure>'
    )


def _histories(c: RunComparison, charts: Sequence[dict[str, Chart]]) -> Iterator[str]:
    """The charts of searches and trainings, with their numbers."""
    for history, several in zip(c.histories, charts, strict=True):
        for name, chart in several.items():
            yield f"<h3>{text(chart.title)}</h3>"
            yield _figure(name, chart)
        yield folded(NUMBERS, *(table(one) for one in history.tables), look="numbers")


def _answers() -> str:
    """The browser of answers: a form, a list, and the pair that is open."""
    return section(
        "Read the answers",
        '<p class="small">Choose two runs and what happened, then open a problem. On the left is '
        'the first run, on the right the second. <span class="key"><mark class="reflects">marked'
        '</mark> is reflection, <mark class="answered">framed</mark> the first place where the '
        "right answer stands.</span></p>",
        _read("answers.html"),
        name="read",
    )


def _intervals(c: RunComparison) -> str:
    items = "".join(f"<li>{text(name)}</li>" for name in interval_names(c))
    return f'<div class="small"><p>{text(percent(c.level))} intervals:</p><ul>{items}</ul></div>'
