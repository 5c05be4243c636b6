"""What a task is: problems with golds, from a plug-in or from any JSONL file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from laconic.errors import RecipeError, TaskError
from laconic.registry import Registry, parse_spec
from laconic.runs.experiment import TaskRecord
from laconic.runs.run import Sample
from laconic.tasks.contract.dataset import SUFFIXES, Dataset, read_rows
from laconic.tasks.contract.prompts import find_prompt, put

if TYPE_CHECKING:
    from laconic.registry import Plugin

MAX_TOKENS = 8192
F = TypeVar("F", bound=Callable[..., Iterable[Sample]])
TASKS: Registry[Callable[..., Iterable[Sample]]] = Registry("task", "laconic.tasks", TaskError)


def task(*, max_tokens: int = MAX_TOKENS, dataset: Dataset | None = None) -> Callable[[F], F]:
    """Register a function that yields a task's samples, repeat 0 of each.

    Its keyword-only arguments are what users may set: ``--task lab:split=dev``. The order matters:
    the first n samples, taken by ``--limit n``, should stand for the whole.

    Args:
        max_tokens: The budget of one completion where the user gives none.
        dataset: Where its problems are; the function then takes an iterator of their `Row`s as its
            one positional argument, and users may give another file: ``--task gsm8k:data=FILE``.
    """

    def register(function: F) -> F:
        return TASKS.register(function, {"max_tokens": max_tokens, "dataset": dataset})

    return register


@dataclass(frozen=True)
class Task:
    """Problems with golds, in an order whose first n stand for the whole.

    Attributes:
        name: How reports call it.
        source: What the user wrote for it; for a set of problems, also where they came from.
        samples: The problems, repeat 0 of each.
        max_tokens: The budget of one completion where the user gives none.
        repeats: Completions per problem; None as the sampling says.
        strategy: How each problem is put to a model, ``NAME`` or ``NAME:key=value,...``.
    """

    name: str
    source: str
    samples: tuple[Sample, ...]
    max_tokens: int = MAX_TOKENS
    repeats: int | None = None
    strategy: str = "single"

    def record(self, max_tokens: int | None) -> TaskRecord:
        """What a run remembers of this task, asked with a budget (None: its own)."""
        asked = [
            (
                *(s.id, s.problem, s.prefill, s.gold),
                *([list(s.stop)] if s.raw else []),
            )
            for s in self.samples
        ]
        return TaskRecord(
            name=self.name,
            source=self.source,
            digest=hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16],
            problems=len(self.samples),
            max_tokens=max_tokens or self.max_tokens,
            repeats=self.repeats,
        )


def load_task(
    spec: str,
    *,
    limit: int | None = None,
    prompt: str = "{problem}",
    data: str | Path | None = None,
) -> Task:
    """Load a task by name or from a file.

    Args:
        spec: ``NAME``, ``NAME:key=value,...``, or the path of a file (JSONL, JSON, CSV, Parquet)
            whose rows hold ``problem`` and ``answer``, and may hold ``id`` and ``level``.
        limit: Only the first so many problems.
        prompt: A prompt's name, or the user's turn with ``{problem}`` where the problem goes.
        data: The problems of a named task: a file, or a folder that holds ``NAME.jsonl``; by
            default the Hub's. ``NAME:data=FILE`` says the same.

    Raises:
        TaskError: For an unknown name, or a file without the needed fields, named by line.
    """
    words = find_prompt(prompt)
    if limit is not None and limit < 1:
        raise TaskError(f"limit must be at least 1, got {limit}.")
    name, values = parse_spec(spec)
    if name in TASKS:
        plugin = TASKS.get(name)
        rows, source = _from_plugin(plugin, spec, values, data)
        budget = plugin.traits["max_tokens"]
    elif Path(spec).exists() or spec.endswith(SUFFIXES):
        if data is not None:
            raise TaskError(f"--data is for tasks that have a name; {spec} is a file already.")
        rows, source, budget = read_problems(Path(spec)), spec, MAX_TOKENS
    else:
        TASKS.get(name)
    samples = _distinct(islice(rows, limit), source)
    if not samples:
        raise TaskError(f"{source} has no problems.")
    return Task(
        name=samples[0].task,
        source=source,
        samples=tuple(put(words, sample) for sample in samples),
        max_tokens=budget,
        strategy=words.strategy,
    )


def read_problems(path: Path) -> Iterator[Sample]:
    """The problems of a file of one's own; its task is called like the file.

    A row needs ``problem`` and ``answer``; ``id`` defaults to the line's number, and ``level``
    to none. Answers may be text or numbers.

    Raises:
        TaskError: For a missing file, a broken line or a missing field, named by line.
    """
    name = path.name.removesuffix(next(filter(path.name.endswith, SUFFIXES), path.suffix))
    taken = set()
    for row in read_rows(path):
        level = row.values.get("level")
        if level is not None and row.level() is None:
            raise TaskError(f"{row.where}: 'level' must be a whole number, got {level!r}.")
        number = row.where.rpartition(" ")[2]
        found = str(row.values.get("id", number))
        if found in taken:
            raise TaskError(f"{row.where}: the id '{found}' is already taken.")
        taken.add(found)
        yield Sample(
            task=name,
            id=found,
            problem=row.text("problem"),
            gold=row.text("answer"),
            level=row.level(),
        )


def _from_plugin(
    plugin: Plugin[Callable[..., Iterable[Sample]]],
    spec: str,
    values: dict[str, Any],
    data: str | Path | None,
) -> tuple[Iterable[Sample], str]:
    """The samples of a named task, and what a run remembers as their source."""
    dataset: Dataset | None = plugin.traits["dataset"]
    if dataset is not None:
        data = values.pop("data", data)
    elif data is not None:
        raise TaskError(f"--data: the task {spec} makes its problems and reads no file.")
    try:
        parameters = plugin.bind(values, where=f"--task {spec}")
    except RecipeError as error:
        raise TaskError(str(error)) from None
    if dataset is None:
        return plugin.function(**parameters), spec
    file = dataset.find(plugin.name, None if data is None else Path(data))
    origin = str(file)
    if data is None:  # the folder of a file in the Hub's cache is called like its commit
        commit = re.search(r"/snapshots/(\w+)/", str(file))
        origin = f"{dataset.repo}@{commit[1] if commit else dataset.revision}"
    return plugin.function(read_rows(file), **parameters), f"{spec} ({origin})"


def _distinct(samples: Iterable[Sample], source: str) -> tuple[Sample, ...]:
    """Samples as a tuple; no two may have one id."""
    found: dict[str, Sample] = {}
    for sample in samples:
        if sample.id in found:
            raise TaskError(f"{source}: the id '{sample.id}' is already taken.")
        found[sample.id] = sample
    return tuple(found.values())
