"""The study's page: its runs as the report's own tables and pictures, part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laconic.lab.reading import mended
from laconic.reporting.report import compare, write
from laconic.reporting.tables.details import level_table, reflection_table, thought_table
from laconic.reporting.tables.main import main_table
from laconic.reporting.tables.table import Cell, Column, Table
from laconic.reporting.wording import number, share_interval, signed, signed_interval
from laconic.reporting.writers.markdown import markdown
from laconic.reporting.writers.stills.canvas import rendered
from laconic.stats import pair, summarise
from studies.merging.pictures import draw_difficulty, draw_settings
from studies.merging.study import MARGIN, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from laconic.reporting.report import RunComparison
    from studies.merging.study import Findings, Runs

NAME: Final = "merging"
#: Methods of which the pictures by difficulty show the merge.
SHOWN: Final = ("system1", "system2", "Task Arithmetic", "TIES", "AIM-TIES", "Sens-Merging")


def write_page(findings: Findings, output: Path) -> Path:
    """Write ``merging.md`` and its pictures.

    Returns:
        The page.
    """
    whole = compare(_titled(findings), baseline="system2", margin=MARGIN)
    write(whole, output / f"{NAME}-front.png")
    shown = {
        name: run for name, run in findings.test.items() if name in (*SHOWN, "system1", "system2")
    }
    for name, figure in (
        ("difficulty", draw_difficulty(shown)),
        ("settings", draw_settings(findings)),
    ):
        (output / f"{NAME}-{name}.png").write_bytes(rendered(figure, "png"))
    page = output / f"{NAME}.md"
    page.write_text("\n\n".join(_blocks(findings, whole)) + "\n", encoding="utf-8")
    return page


def _blocks(findings: Findings, whole: RunComparison) -> Iterator[str]:
    """The page, block by block."""
    problems = whole.runs[0].summary.n
    yield f"## All methods\n\n![Accuracy against tokens]({NAME}-front.png)"
    yield (
        f"Coefficients were chosen on {findings.dev['system2'].results[0].task} "
        f"({len(findings.dev['system2'].results)} problems): the shortest within "
        f"{100 * MARGIN:g} points of System 2 there, else the most accurate. The figures are of "
        f"{problems:,} fresh problems."
    )
    yield from _tables(whole, main_table, thought_table)
    yield "## Reflection (the paper's Table 6)"
    yield markdown(reflection_shares(findings.test))
    yield from _tables(whole, reflection_table)
    yield (
        f"## Length and reflection against difficulty (Figure 2)\n\n"
        f"![Length and reflection by level]({NAME}-difficulty.png)"
    )
    yield from _tables(whole, level_table)
    for size, runs in findings.sizes.items():
        yield f"## Scale: {size} (Tables 2 to 4)"
        yield from _tables(compare(runs, baseline="system2", margin=MARGIN), main_table)
    yield "## Several System 2s (Table 5)"
    yield from _tables(compare(findings.thinkers, baseline="system2", margin=MARGIN), main_table)
    yield "## Where the way starts"
    yield from _tables(compare(findings.starts, baseline="system2", margin=MARGIN), main_table)
    yield "## Short to long: a little of System 2 on System 1"
    yield from _tables(compare(findings.towards, baseline="system2", margin=MARGIN), main_table)
    yield f"## Each coefficient\n\n![Accuracy and length by coefficient]({NAME}-settings.png)"
    yield markdown(setting_table(findings))
    if findings.calibrations:
        yield "## Calibration: how many samples, and which"
        yield from _tables(
            compare(findings.calibrations, baseline="system2", margin=MARGIN), main_table
        )
    yield "## Self-correction"
    yield markdown(planted_table(findings))


def reflection_shares(runs: Runs) -> Table:
    """The share of responses that reflect, by level, as the paper's Table 6 has it by data set."""
    summaries = {name: summarise(run.results) for name, run in runs.items()}
    levels = sorted(next(iter(summaries.values())).by_level)
    by_level = {
        name: [
            summarise([r for r in run.results if r.level == level]).reflective for level in levels
        ]
        for name, run in runs.items()
    }
    return Table(
        caption="Responses that hold a reflection keyword, %",
        columns=(
            Column("run", numeric=False),
            *(Column(f"level {level}") for level in levels),
            Column("mean"),
        ),
        rows=tuple(
            (
                Cell(name),
                *(Cell(number(100 * share)) for share in shares),
                Cell(number(100 * sum(shares) / len(shares))),
            )
            for name, shares in by_level.items()
        ),
    )


def setting_table(findings: Findings) -> Table:
    """Every coefficient of every method on the dev split."""
    against = findings.dev["system2"].results

    def cells(method: str, label: str) -> tuple[Cell, ...]:
        run = findings.dev[named(method, label)]
        s, p = (
            summarise(run.results),
            pair(run.results, against, name=method, against="system2", margin=MARGIN),
        )
        taken = "yes" if findings.chosen[method] == label else ""
        return (
            Cell(method),
            Cell(label or "none"),
            Cell(number(100 * s.accuracy.value)),
            Cell(signed(p.accuracy_diff.value), signed_interval(p.accuracy_diff)),
            Cell(number(s.length.value, 0)),
            Cell(signed(p.length_change.value)),
            Cell(taken),
        )

    return Table(
        caption="Coefficients on the dev split; taken: what the tables above show",
        columns=(
            Column("method", numeric=False),
            Column("coefficients", numeric=False),
            Column("accuracy, %"),
            Column("against system2, points"),
            Column("length, tokens"),
            Column("change of length, %"),
            Column("taken", numeric=False),
        ),
        rows=tuple(
            cells(method, label) for method, grid in findings.grids.items() for label in grid
        ),
    )


def planted_table(findings: Findings) -> Table:
    """Who notices a wrong line in a thought already begun, and who recovers from it."""

    def cells(name: str) -> tuple[Cell, ...]:
        results = findings.planted[name].results
        s = summarise(results)
        return (
            Cell(named(name, findings.chosen.get(name, ""))),
            Cell(number(100 * s.accuracy.value), share_interval(s.accuracy)),
            Cell(number(100 * sum(map(mended, results)) / len(results))),
            Cell(number(100 * s.reflective)),
            Cell(number(s.length.value, 0)),
        )

    return Table(
        caption="Thoughts begun with a wrong last line; mended: a check of that very line ends in "
        "its right value",
        columns=(
            Column("run", numeric=False),
            Column("right answer, %"),
            Column("line mended, %"),
            Column("reflects, %"),
            Column("length, tokens"),
        ),
        rows=tuple(cells(name) for name in findings.planted),
    )


def _titled(findings: Findings) -> Runs:
    """The test runs, methods with their coefficients."""
    return {named(name, findings.chosen.get(name, "")): run for name, run in findings.test.items()}


def _tables(c: RunComparison, *tables: Callable[[RunComparison, str], Table]) -> Iterator[str]:
    for task in c.tasks:
        yield from (markdown(table(c, task)) for table in tables)
