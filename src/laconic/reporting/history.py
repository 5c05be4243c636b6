"""How a search or a training went, read from the files that it leaves beside its runs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.errors import RunError
from laconic.files.append_log import read_lines
from laconic.files.json import read_json
from laconic.reporting.charts import Chart, Panel, Series
from laconic.reporting.tables import Cell, Column, Table
from laconic.reporting.wording import number, plain, tokens
from laconic.runs.run import is_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from laconic.reporting.families import Role

STUDY, TRIALS, MIXTURE = "study.json", "trials.jsonl", "mixture.jsonl"
#: Standard errors to the end of a 95 % interval.
ERRORS: Final = 1.96
#: What became of a candidate, and what the charts call it.
STATES: Final[Mapping[str, str]] = {
    "complete": "measured in full",
    "dropped": "dropped early",
    "budget": "out of tokens",
}


@dataclass(frozen=True)
class Course:
    """How one search or training went.

    Attributes:
        name: Its folder's name.
        story: What came of it, in a sentence.
        charts: What it looked like.
        tables: The same in numbers.
    """

    name: str
    story: str
    charts: tuple[Chart, ...]
    tables: tuple[Table, ...]


def find_courses(paths: Iterable[str | Path]) -> tuple[Course, ...]:
    """Read every search and training in some folders.

    Args:
        paths: Folders that hold some at any depth; one that has not begun is passed over.

    Raises:
        RunError: Where a file of one is damaged.
    """
    found: dict[Path, Course] = {}
    for path in paths:
        for where, inner, files in os.walk(path):
            folder = Path(where)
            inner[:] = sorted(one for one in inner if not is_run(folder / one))
            if TRIALS in files and STUDY in files:
                course = _search(folder)
            elif MIXTURE in files:
                course = _training(folder)
            else:
                continue
            if course is not None:
                found.setdefault(folder.resolve(), course)
    return tuple(found.values())


def left_early(study: Path) -> frozenset[Path]:
    """The run folders of a search's candidates that were not measured in full, as absolute paths.

    They are part of the search's story, not runs to compare. Empty for a folder of another kind.
    """
    if not (study / TRIALS).is_file() or not (study / STUDY).is_file():
        return frozenset()
    trials = _lines(study / TRIALS)
    whole = {trial.get("run") for trial in trials if trial.get("state") == "complete"}
    return frozenset(
        (study / str(trial["run"])).resolve()
        for trial in trials
        if trial.get("run") and trial["run"] not in whole
    )


def _search(folder: Path) -> Course | None:
    facts, trials = read_json(folder / STUDY, RunError), _lines(folder / TRIALS)
    if not trials:
        return None
    name = plain(folder.resolve().name)
    try:
        return Course(
            name,
            _search_story(name, facts, trials),
            tuple(_search_charts(name, facts, trials)),
            (_trials(name, trials),),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / TRIALS, error) from None


def _search_story(name: str, facts: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> str:
    whole = sum(trial["state"] == "complete" for trial in trials)
    winner = (facts.get("winner") or {}).get("name")
    return (
        f"The search {name}: {len(trials):,} candidates, {whole:,} measured in full, "
        f"{tokens(max(_of(trial, 'spent') for trial in trials))} tokens generated"
        + (f"; winner {plain(str(winner))}." if winner else "; no winner yet.")
    )


def _training_story(name: str, records: Sequence[Mapping[str, Any]]) -> str:
    first, last = records[0]["measured"], records[-1]["measured"]
    return (
        f"The training {name}, steps {records[0]['step']} to {records[-1]['step']}: accuracy "
        f"{number(100 * float(first['accuracy']))} to {number(100 * float(last['accuracy']))} %, "
        f"length {tokens(float(first['length']))} to {tokens(float(last['length']))} tokens."
    )


def _search_charts(
    name: str, facts: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]
) -> Iterator[Chart]:
    """A search over the tokens it spent, and its candidates in the plane of both aims."""
    last = max(float(trial["spent"]) for trial in trials)

    def series(across: str, up: str) -> Iterator[Series]:
        for state, words in STATES.items():
            these = [trial for trial in trials if trial["state"] == state]
            if these:
                yield _marks(words, these, (across, up), hollow=state != "complete")
        winner = (facts.get("winner") or {}).get("name")
        chosen = [t for t in trials if t["name"] == winner and t["state"] == "complete"]
        if chosen:
            yield _marks("the winner", chosen[-1:], (across, up), hollow=False)

    def parents(across: str, up: str) -> Iterator[Series]:
        for parent, role in _parents(facts):
            at = {"measured": parent, "spent": 0.0}
            ends = (0.0, last) if across == "spent" else (_of(at, across),)
            yield Series(
                role.replace("system", "System "),
                role,
                x=ends,
                y=(_of(at, up),) * len(ends),
                joined=across == "spent",
            )

    aims = (("accuracy", "accuracy, %"), ("length", "mean length, tokens"))
    yield Chart(
        name=f"search-{name}",
        title=f"The search {name}, over the tokens it generated",
        says="Each mark is a candidate, in the order they were measured. Hollow ones were dropped "
        "before they had answered every problem. A search that learns finds shorter candidates "
        "of the same accuracy as it goes on.",
        kind="lines",
        panels=tuple(
            Panel(
                across="tokens generated so far",
                up=words,
                series=(*series("spent", aim), *parents("spent", aim)),
                span=(0, 100) if aim == "accuracy" else None,
            )
            for aim, words in aims
        ),
    )
    yield Chart(
        name=f"candidates-{name}",
        title=f"The candidates of the search {name}",
        says="Up and to the left is better. These are the problems that the search chose by; how "
        "its winner did on problems kept back stands among the runs.",
        kind="lines",
        panels=(
            Panel(
                across="mean length, tokens",
                up="accuracy, %",
                series=(*series("length", "accuracy"), *parents("length", "accuracy")),
                span=(0, 100),
            ),
        ),
    )


def _marks(
    name: str, trials: Sequence[Mapping[str, Any]], axes: tuple[str, str], *, hollow: bool
) -> Series:
    """Some candidates as marks."""
    across, up = axes
    return Series(
        name=name,
        role="merge",
        x=tuple(_of(trial, across) for trial in trials),
        y=tuple(_of(trial, up) for trial in trials),
        notes=tuple(plain(str(trial["name"])) for trial in trials),
        joined=False,
        hollow=hollow,
    )


def _parents(facts: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Role]]:
    """What a search has measured of the two models beside its candidates, as far as it has."""
    known = facts.get("references") or {}
    roles: tuple[Role, ...] = ("system1", "system2")
    for role in roles:
        if known.get(role):
            yield known[role], role


def _of(trial: Mapping[str, Any], what: str) -> float:
    """A number of a trial; accuracy in percent."""
    if what == "spent":
        return float(trial["spent"])
    value = float(trial["measured"][what]["value"])
    return 100 * value if what == "accuracy" else value


def _trials(name: str, trials: Sequence[Mapping[str, Any]]) -> Table:
    """Every candidate in the order they ended."""
    return Table(
        caption=f"The candidates of the search {name}, in the order they ended",
        columns=(
            Column("candidate", numeric=False),
            Column("came to", numeric=False),
            Column("accuracy, %"),
            Column("length, tokens"),
            Column("tokens so far"),
        ),
        rows=tuple(
            (
                Cell(str(trial["name"])),
                Cell(STATES.get(str(trial["state"]), str(trial["state"]))),
                Cell(number(_of(trial, "accuracy"))),
                Cell(tokens(_of(trial, "length"))),
                Cell(tokens(_of(trial, "spent"))),
            )
            for trial in trials
        ),
    )


def _training(folder: Path) -> Course | None:
    records = _lines(folder / MIXTURE)
    if not records:
        return None
    name = plain(folder.resolve().name)
    try:
        return Course(
            name,
            _training_story(name, records),
            (_training_chart(name, records),),
            (_steps(name, records),),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / MIXTURE, error) from None


def _training_chart(name: str, records: Sequence[Mapping[str, Any]]) -> Chart:
    """The shares of the mixture over the steps, and what they led to."""
    steps = tuple(float(record["step"]) for record in records)

    def shares() -> Iterator[Series]:
        for pool in records[0]["before"]:
            yield Series(
                plain(pool),
                "merge",
                x=(0.0, *steps),
                y=tuple(100 * float(w) for w in (records[0]["before"][pool], *_after(pool))),
                stepped=True,
            )

    def _after(pool: str) -> list[float]:
        return [record["after"][pool] for record in records]

    def measured(what: str, times: float) -> Series:
        found = [record["measured"] for record in records]
        values = tuple(times * float(one[what]) for one in found)
        errors = [ERRORS * times * float(one[f"{what}_se"] or 0) for one in found]
        ends = tuple((v - e, v + e) for v, e in zip(values, errors, strict=True))
        return Series("the model", "system2", x=steps, y=values, y_ends=ends)

    return Chart(
        name=f"training-{name}",
        title=f"The training {name}: its mixture, and what it led to",
        says="On the left the share of each pool of examples, as the controller set it after each "
        "measurement; then the accuracy and the length that were measured, with 95 % intervals.",
        kind="lines",
        panels=(
            Panel("step", "share of the mixture, %", tuple(shares()), span=(0, 100)),
            Panel("step", "accuracy, %", (measured("accuracy", 100),), span=(0, 100)),
            Panel("step", "mean length, tokens", (measured("length", 1),)),
        ),
    )


def _steps(name: str, records: Sequence[Mapping[str, Any]]) -> Table:
    pools = list(records[0]["before"])
    return Table(
        caption=f"The training {name}, measurement by measurement",
        columns=(
            Column("step", numeric=False),
            Column("accuracy, %"),
            Column("length, tokens"),
            *(Column(f"{plain(pool)} from here, %") for pool in pools),
        ),
        rows=tuple(
            (
                Cell(str(record["step"])),
                Cell(number(100 * float(record["measured"]["accuracy"]))),
                Cell(tokens(float(record["measured"]["length"]))),
                *(Cell(number(100 * float(record["after"][pool]))) for pool in pools),
            )
            for record in records
        ),
    )


def _lines(path: Path) -> list[dict[str, Any]]:
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
    """What to say of a record that lacks something."""
    lacks = f"a record has no {error}" if isinstance(error, KeyError) else str(error)
    return RunError(f"{path} cannot be drawn: {lacks}. Move it away to report on the runs alone.")
