"""How a search or a training went, read from the files that it leaves beside its runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.files.append_log import read_lines
from laconic.files.json import read_json
from laconic.reporting.tables.table import Cell, Column, Table
from laconic.reporting.wording import number, plain, tokens
from laconic.runs.run import is_run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from laconic.reporting.families import Role

STUDY, TRIALS, MIXTURE = "study.json", "trials.jsonl", "mixture.jsonl"
#: What became of a candidate, and what charts and tables call it.
STATES: Final[Mapping[str, str]] = {
    "complete": "measured in full",
    "dropped": "dropped early",
    "budget": "out of tokens",
}


@dataclass(frozen=True)
class MeasuredCandidate:
    """One measured candidate of a search.

    Attributes:
        name: Its name, fit to be shown.
        state: What became of it: a key of `STATES`.
        accuracy: Share of right answers, a fraction.
        length: Mean tokens.
        spent: Tokens that the search had generated when it ended.
    """

    name: str
    state: str
    accuracy: float
    length: float
    spent: float


@dataclass(frozen=True)
class MeasuredParent:
    """What a search measured of one of the two models beside its candidates."""

    role: Role
    accuracy: float
    length: float


@dataclass(frozen=True)
class SearchHistory:
    """How a search went.

    Attributes:
        name: Its folder's name, fit to be shown.
        candidates: What it measured, in the order the candidates ended; at least one.
        parents: System 1 and System 2, as far as it measured them.
        winner_name: The winner's name; empty where there is none yet.
        winner: The winner, if it was measured in full; else None.
    """

    name: str
    candidates: tuple[MeasuredCandidate, ...]
    parents: tuple[MeasuredParent, ...]
    winner_name: str
    winner: MeasuredCandidate | None

    @property
    def story(self) -> str:
        """What came of it, in a sentence."""
        complete = sum(one.state == "complete" for one in self.candidates)
        return (
            f"The search {self.name}: {len(self.candidates):,} candidates, {complete:,} measured "
            f"in full, {tokens(max(one.spent for one in self.candidates))} tokens generated"
            + (f"; winner {self.winner_name}." if self.winner_name else "; no winner yet.")
        )

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every candidate in the order they ended."""
        columns = (
            Column("candidate", numeric=False),
            Column("came to", numeric=False),
            Column("accuracy, %"),
            Column("length, tokens"),
            Column("tokens so far"),
        )
        rows = tuple(
            (
                Cell(one.name),
                Cell(STATES.get(one.state, one.state)),
                Cell(number(100 * one.accuracy)),
                Cell(tokens(one.length)),
                Cell(tokens(one.spent)),
            )
            for one in self.candidates
        )
        caption = f"The candidates of the search {self.name}, in the order they ended"
        return (Table(caption, columns, rows),)


@dataclass(frozen=True)
class MixtureStep:
    """One measurement of a training, and the mixture around it.

    Attributes:
        step: The training step, as its file writes it.
        accuracy: Share of right answers, a fraction.
        accuracy_error: Its standard error.
        length: Mean tokens.
        length_error: Its standard error.
        before: The share of each pool before it, a fraction.
        after: The share of each pool from here on.
    """

    step: Any
    accuracy: float
    accuracy_error: float
    length: float
    length_error: float
    before: Mapping[str, float]
    after: Mapping[str, float]


@dataclass(frozen=True)
class TrainingHistory:
    """How a training went: its folder's name, the pools of its mixture, its measurements."""

    name: str
    pools: tuple[str, ...]
    steps: tuple[MixtureStep, ...]

    @property
    def story(self) -> str:
        """What came of it, in a sentence."""
        first, last = self.steps[0], self.steps[-1]
        return (
            f"The training {self.name}, steps {first.step} to {last.step}: accuracy "
            f"{number(100 * first.accuracy)} to {number(100 * last.accuracy)} %, "
            f"length {tokens(first.length)} to {tokens(last.length)} tokens."
        )

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every measurement, with the mixture that follows it."""
        columns = (
            Column("step", numeric=False),
            Column("accuracy, %"),
            Column("length, tokens"),
            *(Column(f"{pool} from here, %") for pool in self.pools),
        )
        rows = tuple(
            (
                Cell(str(step.step)),
                Cell(number(100 * step.accuracy)),
                Cell(tokens(step.length)),
                *(Cell(number(100 * step.after[pool])) for pool in self.pools),
            )
            for step in self.steps
        )
        return (Table(f"The training {self.name}, measurement by measurement", columns, rows),)


History = SearchHistory | TrainingHistory


def find_histories(paths: Iterable[str | Path]) -> tuple[History, ...]:
    """Read every search and training in some folders.

    Args:
        paths: Folders that hold some at any depth; one that has not begun is passed over.

    Raises:
        RunError: Where a file of one is damaged.
    """
    found: dict[Path, History] = {}
    for path in paths:
        for where, inner, files in os.walk(path):
            folder = Path(where)
            inner[:] = sorted(one for one in inner if not is_run(folder / one))
            history: History | None = None
            if TRIALS in files and STUDY in files:
                history = _read_search(folder)
            elif MIXTURE in files:
                history = _read_training(folder)
            if history is not None:
                found.setdefault(folder.resolve(), history)
    return tuple(found.values())


def incomplete_candidates(study: Path) -> frozenset[Path]:
    """The run folders of a search's candidates that were not measured in full, as absolute paths.

    They belong to the history of the search and are not compared as runs. Empty for a folder of
    another kind.
    """
    if not (study / TRIALS).is_file() or not (study / STUDY).is_file():
        return frozenset()
    trials = _records(study / TRIALS)
    complete = {trial.get("run") for trial in trials if trial.get("state") == "complete"}
    return frozenset(
        (study / str(trial["run"])).resolve()
        for trial in trials
        if trial.get("run") and trial["run"] not in complete
    )


def _read_search(folder: Path) -> SearchHistory | None:
    facts, trials = read_json(folder / STUDY, RunError), _records(folder / TRIALS)
    if not trials:
        return None
    try:
        candidates = tuple(map(_candidate, trials))
        winner = (facts.get("winner") or {}).get("name")
        measured = [
            candidate
            for candidate, trial in zip(candidates, trials, strict=True)
            if trial["name"] == winner and candidate.state == "complete"
        ]
        return SearchHistory(
            name=plain(folder.resolve().name),
            candidates=candidates,
            parents=tuple(_parents(facts.get("references") or {})),
            winner_name=plain(str(winner)) if winner else "",
            winner=measured[-1] if measured else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / TRIALS, error) from None


def _candidate(trial: Mapping[str, Any]) -> MeasuredCandidate:
    return MeasuredCandidate(
        name=plain(str(trial["name"])),
        state=str(trial["state"]),
        accuracy=float(trial["measured"]["accuracy"]["value"]),
        length=float(trial["measured"]["length"]["value"]),
        spent=float(trial["spent"]),
    )


def _parents(references: Mapping[str, Any]) -> Iterable[MeasuredParent]:
    roles: tuple[Role, ...] = ("system1", "system2")
    for role in roles:
        if measured := references.get(role):
            accuracy, length = (float(measured[key]["value"]) for key in ("accuracy", "length"))
            yield MeasuredParent(role, accuracy, length)


def _read_training(folder: Path) -> TrainingHistory | None:
    records = _records(folder / MIXTURE)
    if not records:
        return None
    try:
        steps = tuple(map(_mixture_step, records))
        return TrainingHistory(plain(folder.resolve().name), tuple(steps[0].before), steps)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / MIXTURE, error) from None


def _mixture_step(record: Mapping[str, Any]) -> MixtureStep:
    measured = record["measured"]
    return MixtureStep(
        step=record["step"],
        accuracy=float(measured["accuracy"]),
        accuracy_error=float(measured["accuracy_se"] or 0),
        length=float(measured["length"]),
        length_error=float(measured["length_se"] or 0),
        before={plain(pool): float(share) for pool, share in record["before"].items()},
        after={plain(pool): float(share) for pool, share in record["after"].items()},
    )


def _records(path: Path) -> list[dict[str, Any]]:
    """The records of a file; a last line that is still being written is left out."""
    found: list[dict[str, Any]] = []
    for place, line in enumerate(read_lines(path), start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RunError(f"{path}, line {place} is damaged ({error}).") from None
        if not isinstance(record, dict):
            raise RunError(f"{path}, line {place} is damaged: it is no record.")
        found.append(record)
    return found


def _damaged(path: Path, error: Exception) -> RunError:
    """The error for a record that lacks something."""
    lacks = f"a record has no {error}" if isinstance(error, KeyError) else str(error)
    return RunError(f"{path} cannot be drawn: {lacks}. Move it away to report on the runs alone.")
