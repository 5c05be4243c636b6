"""Published figures beside measured ones, for runs of a paper's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laconic.evaluation.protocols.load import protocol_names, read_protocol
from laconic.reporting.tables import Cell, Column, Table
from laconic.reporting.wording import DASH, number, some, tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from laconic.evaluation.protocols.load import Protocol
    from laconic.reporting.data import Comparison
    from laconic.runs.run import Run


@dataclass(frozen=True)
class Published:
    """One published figure.

    Attributes:
        preset: The protocol it belongs to.
        task: The task.
        name: The model or method.
        accuracy: The share of right answers, a fraction.
        length: Mean tokens; None where it was not published.
    """

    preset: str
    task: str
    name: str
    accuracy: float
    length: float | None


def published(named: Mapping[str, Run]) -> tuple[Published, ...]:
    """The figures of the protocols that some runs followed, task by task."""
    tasks = {task.name for run in named.values() for task in run.experiment.tasks}
    return tuple(
        Published(preset.name, task, name, figures[task][0] / 100, figures[task][1])
        for preset in _presets(named)
        for task in preset.tasks
        if task in tasks
        for name, figures in preset.figures.items()
        if task in figures
    )


def cautions(named: Mapping[str, Run]) -> Iterator[str]:
    """What a reader must know before comparing runs with published figures."""
    for preset in _presets(named):
        for note in preset.notes:
            yield f"Published figures of {preset.name} ({preset.source}): {note}"
        yield from _departures(preset, named)


def published_table(c: Comparison, task: str) -> Table | None:
    """Measured runs of a protocol above the published figures; None where no run follows one."""
    figures = [figure for figure in c.published if figure.task == task]
    if not figures:
        return None
    sources = dict.fromkeys(figure.preset for figure in figures)
    measured = [
        (
            Cell(row.name),
            Cell(number(row.summary.accuracy.value * 100)),
            Cell(tokens(row.summary.length.value)),
            Cell("measured"),
        )
        for row in c.rows(task)
    ]
    return Table(
        caption=f"{task}: beside published figures, which have no intervals "
        f"({'; '.join(f'{name}: {read_protocol(name).source}' for name in sources)})",
        columns=(
            Column("model", numeric=False),
            Column("accuracy, %"),
            Column("length, tokens"),
            Column("from", numeric=False),
        ),
        rows=(
            *measured,
            *(
                (
                    Cell(figure.name),
                    Cell(number(figure.accuracy * 100)),
                    Cell(DASH if figure.length is None else tokens(figure.length)),
                    Cell(figure.preset),
                )
                for figure in figures
            ),
        ),
    )


def _presets(named: Mapping[str, Run]) -> list[Protocol]:
    """The protocols that some runs followed, each once, that this version knows."""
    names = dict.fromkeys(str(_kept(run).get("name")) for run in named.values())
    return [read_protocol(name) for name in names if name in protocol_names()]


def _departures(preset: Protocol, named: Mapping[str, Run]) -> Iterator[str]:
    """Where runs departed from a protocol: another budget, fewer problems or tasks."""
    followers = {n: run for n, run in named.items() if _kept(run).get("name") == preset.name}
    budgets = []
    for name, run in followers.items():
        rule = preset.roles.get(str(_kept(run).get("role")))
        if rule and any(task.max_tokens != rule.max_tokens for task in run.experiment.tasks):
            budgets.append(f"{name}, whose budget is {rule.max_tokens:,} there")
    if budgets:
        yield f"Other budgets than the protocol {preset.name}'s: {some(budgets)}."
    missing = [
        name
        for name, run in followers.items()
        if {task.name for task in run.experiment.tasks} != set(preset.tasks)
    ]
    if missing:
        yield f"Not asked every task of the protocol {preset.name}: {some(missing)}."


def _kept(run: Run) -> dict[str, Any]:
    """What a run keeps of its preset."""
    kept = run.provenance.get("preset")
    return kept if isinstance(kept, dict) else {}
