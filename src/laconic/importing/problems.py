"""Whose completion is it? Logged completions find their problems: by id, by text, or in the log."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from laconic.errors import RunError, TaskError, did_you_mean
from laconic.runs.run import Sample
from laconic.tasks.contract.task import Task, load_task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from laconic.importing.contract import Record


def match_problems(
    records: Sequence[Record],
    task: str | None,
    data: str | Path | None,
    source: str,
    *,
    named: bool,
    title: str,
) -> tuple[Task, list[Record]]:
    """The problems of a log, and its records with ids of theirs and a sample's number each.

    Records that hold their problem's text are matched by it: what tools call an id counts the
    rows of their own copy of the data. The others are matched by their ids.

    Args:
        records: The log's completions.
        task: The task's name; None takes that of the data's file, or of the log.
        data: Where the problems are; None takes those of the log where it holds all of them and
            their golds, else the task of that name that the package knows.
        source: The log, for errors.
        named: Whether the records' ids are the user's own names of the problems, and count before
            their texts.
        title: The task's name where the log holds its own problems and the user gives none.

    Raises:
        RunError: For a completion of no problem, and for a sample that is there twice.
        TaskError: For problems that cannot be read.
    """
    alone = data is None and all(record.problem and record.gold for record in records)
    called = task or _name(data, source, title, alone=alone)
    if alone:
        records = _numbered(records)
    problems = _own(records, called, source) if alone else _load(called, data)
    known = {sample.id for sample in problems.samples}
    find = _finder(problems)
    seen: Counter[str] = Counter()
    taken: dict[tuple[str, int], str] = {}
    numbered = []
    for record in records:
        where = f"{source}, {record.where}"
        own = alone or record.problem is None or (named and record.id in known)
        name = record.id if own else find(record.problem or "")
        if name is None or name not in known:
            raise RunError(_stranger(record, problems, where))
        number = seen[name] if record.sample is None else record.sample
        seen[name] += 1
        if (name, number) in taken:
            raise RunError(
                f"{where}: sample {number} of '{name}' stands in {taken[name, number]} already."
            )
        taken[name, number] = record.where
        numbered.append(replace(record, id=name, sample=number))
    return problems, numbered


def _stranger(record: Record, problems: Task, where: str) -> str:
    """What is said of a completion whose problem is not known."""
    if record.problem is not None:
        return (
            f"{where}: its problem, {record.problem.strip()!r:.60}, is none of {problems.source}. "
            "Give other --data, or none: then the log's own problems and golds count."
        )
    return (
        f"{where}: '{record.id}' is no problem of {problems.source}, whose ids look like "
        f"'{problems.samples[0].id}'. Map another column (--map id=COLUMN) or give other --data."
    )


def _name(data: str | Path | None, source: str, title: str, *, alone: bool) -> str:
    """A name for the task, where the user gives none."""
    if data is not None and Path(data).suffix:
        return Path(data).name.split(".")[0]
    if not alone:
        raise RunError(
            f"{source} does not hold its own problems and golds. Name the task that it is of, "
            "--task NAME, or give them: --data FILE."
        )
    return title


def _numbered(records: Sequence[Record]) -> list[Record]:
    """Records whose problems are named by their place in the log, where nothing names them."""
    places: dict[str, str] = {}
    return [
        replace(record, id=places.setdefault(record.problem or "", str(len(places))))
        if record.id is None
        else record
        for record in records
    ]


def _own(records: Sequence[Record], task: str, source: str) -> Task:
    """The log's own problems, in its order."""
    samples: dict[str, Sample] = {}
    for record in records:
        name = record.id or ""
        sample = Sample(task, name, record.problem or "", record.gold or "")
        if samples.setdefault(name, sample) != sample:
            raise RunError(
                f"{source}, {record.where}: '{name}' is another problem, or has another gold, than "
                "further up. Split the log, or give --data."
            )
    return Task(task, source, tuple(samples.values()))


def _load(task: str, data: str | Path | None) -> Task:
    """The problems and golds of the data, under the task's name."""
    if data is None:
        return load_task(task)
    place = Path(data)
    file = place / f"{task}.jsonl" if place.is_dir() else place
    if not file.is_file():
        there = [p.stem for p in place.glob("*.jsonl")] if place.is_dir() else []
        raise TaskError(f"{file} does not exist. {did_you_mean(task, there)}")
    found = load_task(str(file))
    return replace(found, name=task, samples=tuple(replace(s, task=task) for s in found.samples))


def _finder(problems: Task) -> Callable[[str], str | None]:
    """A function that finds a problem's id by its text, or by the user's turn that holds it.

    White space does not count. Of several problems that a turn holds (examples come first), the
    one that ends last counts.
    """
    by_text = {_plain(sample.problem): sample.id for sample in problems.samples}
    found: dict[str, str | None] = {}

    def find(asked: str) -> str | None:
        if asked not in found:
            text = _plain(asked)
            held = [problem for problem in by_text if problem and problem in text]
            last = max(held, key=lambda p: (text.rfind(p) + len(p), len(p)), default=None)
            found[asked] = by_text.get(text) or (by_text[last] if last else None)
        return found[asked]

    return find


def _plain(text: str) -> str:
    return " ".join(text.split())
