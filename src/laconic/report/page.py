"""A comparison as one HTML page that needs nothing else: words, picture, tables."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from laconic.report.curves import to_curves
from laconic.report.details import detail_tables
from laconic.report.drawing import GRID, INK, LOOKS, MUTED, PAPER
from laconic.report.picture import to_svg
from laconic.report.published import published_table
from laconic.report.tables import Cell, Table, condition_table, main_table, overall_table
from laconic.report.words import MINUS, front, headlines, interval_names, percent, plain, points

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from laconic.report.data import Comparison

COLOURS = {
    "ink": (INK, "#e6edf3"),
    "muted": (MUTED, "#9aa4af"),
    "grid": (GRID, "#30363d"),
    "paper": (PAPER, "#0f1419"),
    "system1": (LOOKS["system1"].colour, "#6cb6ff"),
    "system2": (LOOKS["system2"].colour, "#ff9d6b"),
    "base": (LOOKS["base"].colour, "#c4a6ff"),
    "merge": (LOOKS["merge"].colour, "#57d3a5"),
}
STYLE = """
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
h1 { font-size: 1rem; font-weight: 600; color: var(--muted); margin: 0 0 .5rem }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem }
.headline { font-size: 1.35rem; line-height: 1.4; margin: 0 0 .75rem; max-width: 46rem }
.small, footer { color: var(--muted); font-size: .875rem; max-width: 46rem }
.warnings { border-left: .3rem solid var(--system2); padding: .1rem 0 .1rem 1rem; margin: 1.5rem 0 }
.warnings h2 { margin: .25rem 0; font-size: 1rem }
.warnings ul { margin: .25rem 0; padding-left: 1.2rem; max-width: 50rem }
figure { margin: 1rem 0 }
.scroll { overflow-x: auto }
figure svg { display: block; width: 100%; min-width: 38rem; height: auto }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 1.5rem; font-size: .9rem }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem }
caption span { display: block; position: sticky; left: 0; max-width: min(100%, 100vw - 2rem) }
th, td { padding: .35rem .6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--grid); overflow-wrap: anywhere }
thead th { border-bottom: 2px solid var(--muted); vertical-align: bottom; overflow-wrap: normal;
  font-weight: 600; font-size: .82rem }
th:first-child, td:first-child { padding-left: 0 }
tbody th { font-weight: 600; min-width: 8rem; max-width: 18rem }
.n { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: normal }
small { display: block; color: var(--muted); font-weight: 400; font-size: .82em }
.n small { white-space: nowrap }
details { margin: 2rem 0; border-top: 1px solid var(--grid) }
summary { cursor: pointer; font-weight: 600; padding: .6rem 0 }
.mood { font-weight: 600 }
.yes { color: var(--merge) } .no { color: var(--system2) } .unclear { color: var(--muted) }
:focus-visible { outline: 2px solid var(--system1); outline-offset: 2px }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt }
  figure, tr, .warnings { break-inside: avoid } h2, caption { break-after: avoid }
  .scroll { overflow: visible } figure svg { min-width: 0 }
}
"""


def to_html(c: Comparison) -> str:
    """The comparison as a page: no script, no network, light and dark, text all escaped."""
    said = headlines(c)
    title = f"Accuracy and length against {c.baseline}"
    body = [
        f"<header><h1>{_text(title)}</h1>",
        *(f'<p class="headline">{_text(line)}</p>' for line in said),
        _caution(c),
        "</header><main>",
        _warnings(c.warnings),
        *(_task(c, task, i) for i, task in enumerate(c.tasks)),
        _section("All tasks", _table(overall_table(c))),
        *(_details(c, task, i) for i, task in enumerate(c.tasks)),
        _section("How it was measured", _table(condition_table(c)), _intervals(c)),
        "</main>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{_text(title)}</title>\n<style>{_colours()}{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def _text(text: str) -> str:
    """Text that is only text, with no line break before a percent sign."""
    return escape(plain(text)).replace(" %", "\N{NO-BREAK SPACE}%")


def _colours() -> str:
    """The colours by name, for light and for dark; paper is light."""
    light = "; ".join(f"--{name}: {colours[0]}" for name, colours in COLOURS.items())
    dark = "; ".join(f"--{name}: {colours[1]}" for name, colours in COLOURS.items())
    return (
        f"\n:root {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    )


def _caution(c: Comparison) -> str:
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
    return (
        '<p class="small">'
        + _text(
            f"Brackets are {percent(c.level)} intervals of that one comparison. “Not worse” is yes "
            f"where the whole interval lies above {MINUS}{points(c.margin)}, no where it lies "
            f"below, else unclear.{picked}"
        )
        + "</p>"
    )


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{_text(warning)}</li>" for warning in warnings)
    return (
        '<section class="warnings" aria-labelledby="warnings"><h2 id="warnings">Before you '
        f"believe it</h2><ul>{items}</ul></section>"
    )


def _task(c: Comparison, task: str, index: int) -> str:
    """The picture and the main table of a task."""
    picture = _figure(
        to_svg(c, [task], prefix=f"p{index}-"),
        f"Picture of {task}",
        f"{front(c, task)}. Up and to the left is better.",
    )
    tables = (main_table(c, task), published_table(c, task))
    return _section(task, picture, *map(_table, tables))


def _details(c: Comparison, task: str, index: int) -> str:
    """Everything else about a task, folded away."""
    curves = _figure(
        to_curves(c, task, prefix=f"b{index}-"),
        f"Smaller budgets of {task}",
        "Accuracy if the budget had been smaller: an answer that it cuts counts as wrong.",
    )
    tables = "\n".join(map(_table, detail_tables(c, task)))
    return (
        f"<details><summary>{_text(task)} in detail: answers, thought, reflection, difficulty, "
        f"budgets</summary>\n{tables}\n{curves}\n</details>"
    )


def _figure(svg: str, label: str, caption: str) -> str:
    """A picture in the page's colours."""
    for name, (light, _dark) in COLOURS.items():
        svg = svg.replace(light, f"var(--{name})")
    return (
        f'<figure><div class="scroll" tabindex="0" role="region" aria-label="{_text(label)}">{svg}'
        f'</div><figcaption class="small">{_text(caption)}</figcaption></figure>'
    )


def _section(title: str, *parts: str) -> str:
    content = "\n".join(part for part in parts if part)
    return f"<section><h2>{_text(title)}</h2>\n{content}\n</section>" if content else ""


def _table(table: Table | None) -> str:
    if table is None:
        return ""
    sides = [' class="n"' if column.numeric else "" for column in table.columns]
    head = "".join(
        f'<th scope="col"{side}>{_text(column.head)}</th>'
        for column, side in zip(table.columns, sides, strict=True)
    )
    rows = "\n".join(f"<tr>{''.join(_cells(row, sides))}</tr>" for row in table.rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_text(table.caption)}">'
        f"<table><caption><span>{_text(table.caption)}</span></caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _cells(row: Iterable[Cell], sides: Sequence[str]) -> Iterable[str]:
    """The first cell names the row; the others are data."""
    for i, (cell, side) in enumerate(zip(row, sides, strict=True)):
        aside = f"<small>{_text(cell.aside)}</small>" if cell.aside else ""
        content = f"{_text(cell.text)}{aside}"
        if i == 0:
            yield f'<th scope="row">{content}</th>'
        elif cell.mood:
            content = f'<span class="mood {cell.mood}">{content}</span>'
            yield f"<td{side}>{content}</td>"
        else:
            yield f"<td{side}>{content}</td>"


def _intervals(c: Comparison) -> str:
    items = "".join(f"<li>{_text(name)}</li>" for name in interval_names(c))
    return f'<div class="small"><p>{_text(percent(c.level))} intervals:</p><ul>{items}</ul></div>'
