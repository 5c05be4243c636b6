"""Published figures beside measured ones, for runs of a paper's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laconic.evaluation.protocols.load import PRESETS
from laconic.reporting.wording import some

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from laconic.evaluation.protocols.load import Protocol
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


def _presets(named: Mapping[str, Run]) -> list[Protocol]:
    """The protocols that some runs followed, each once, that this version knows."""
    names = dict.fromkeys(str(_kept(run).get("name")) for run in named.values())
    return [PRESETS.get(name) for name in names if name in PRESETS.names()]


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
