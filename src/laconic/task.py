"""What a task is: problems with golds, from a plug-in or from any JSONL file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from laconic.errors import RecipeError, TaskError
from laconic.experiment import TaskRecord
from laconic.registry import Registry, parse_spec
from laconic.run import Sample

MAX_TOKENS = 8192
F = TypeVar("F", bound=Callable[..., Iterable[Sample]])
TASKS: Registry[Callable[..., Iterable[Sample]]] = Registry("task", "laconic.tasks", TaskError)


def task(*, max_tokens: int = MAX_TOKENS) -> Callable[[F], F]:
    """Register a function that yields a task's samples, repeat 0 of each.

    Its keyword-only arguments are what users may set: ``--task lab:split=dev``. The order matters:
    the first n samples, taken by ``--limit n``, should stand for the whole.

    Args:
        max_tokens: The budget of one completion where the user gives none.
    """

    def register(function: F) -> F:
        return TASKS.register(function, max_tokens=max_tokens)

    return register


@dataclass(frozen=True)
class Task:
    """Problems with golds, in an order whose first n stand for the whole.

    Attributes:
        name: How reports call it.
        source: What the user wrote for it.
        samples: The problems, repeat 0 of each.
        max_tokens: The budget of one completion where the user gives none.
    """

    name: str
    source: str
    samples: tuple[Sample, ...]
    max_tokens: int = MAX_TOKENS

    def record(self, max_tokens: int | None) -> TaskRecord:
        """What a run remembers of this task, asked with a budget (None: its own)."""
        asked = [(s.id, s.problem, s.prefill, s.gold) for s in self.samples]
        return TaskRecord(
            name=self.name,
            source=self.source,
            digest=hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16],
            problems=len(self.samples),
            max_tokens=max_tokens or self.max_tokens,
        )


def load_task(spec: str, *, limit: int | None = None, prompt: str = "{problem}") -> Task:
    """Load a task by name or from a file.

    Args:
        spec: ``NAME``, ``NAME:key=value,...``, or the path of a JSONL file whose lines hold
            ``problem`` and ``answer``, and may hold ``id`` and ``level``.
        limit: Only the first so many problems.
        prompt: The user's turn, with ``{problem}`` where the problem goes.

    Raises:
        TaskError: For an unknown name, or a file without the needed fields, named by line.
    """
    if "{problem}" not in prompt:
        raise TaskError(f"The prompt {prompt!r} has no '{{problem}}' to put the problem in.")
    if limit is not None and limit < 1:
        raise TaskError(f"limit must be at least 1, got {limit}.")
    name, values = parse_spec(spec)
    if name in TASKS:
        plugin = TASKS.get(name)
        try:
            parameters = plugin.bind(values, where=f"--task {spec}")
        except RecipeError as error:
            raise TaskError(str(error)) from None
        samples = tuple(plugin.function(**parameters))
        budget = plugin.traits["max_tokens"]
    elif Path(spec).suffix in {".jsonl", ".json"} or Path(spec).exists():
        samples, budget = read_jsonl(Path(spec)), MAX_TOKENS
    else:
        TASKS.get(name)
    samples = samples[:limit]
    if not samples:
        raise TaskError(f"{spec} has no problems.")
    worded = tuple(replace(s, problem=prompt.replace("{problem}", s.problem)) for s in samples)
    return Task(samples[0].task, spec, worded, budget)


def read_jsonl(path: Path) -> tuple[Sample, ...]:
    """The problems of a JSONL file; its task is called like the file.

    A line needs ``problem`` and ``answer``; ``id`` defaults to the line's number, and ``level``
    to none. Answers may be text or numbers. Blank lines are passed over.

    Raises:
        TaskError: For a missing file, a broken line or a missing field, named by line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise TaskError(f"{path} cannot be read: {reason}.") from error
    samples: dict[str, Sample] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        sample = _sample(line, number, path)
        if sample.id in samples:
            raise TaskError(f"{path}, line {number}: the id '{sample.id}' is already taken.")
        samples[sample.id] = sample
    return tuple(samples.values())


def _sample(line: str, number: int, path: Path) -> Sample:
    where = f"{path}, line {number}"
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{where} is not JSON ({error}).") from None
    if not isinstance(row, dict):
        raise TaskError(f"{where} is not a JSON object with 'problem' and 'answer'.")
    for key in ("problem", "answer"):
        if not isinstance(row.get(key), str | int | float) or row[key] == "":
            held = f"it holds {', '.join(row) or 'nothing'}" if key not in row else repr(row[key])
            raise TaskError(f"{where} needs '{key}' (text or a number); {held}.")
    level = row.get("level")
    if level is not None and (isinstance(level, bool) or not isinstance(level, int)):
        raise TaskError(f"{where}: 'level' must be a whole number, got {level!r}.")
    name = str(row.get("id", number))
    return Sample(path.stem, name, str(row["problem"]), str(row["answer"]), level)
