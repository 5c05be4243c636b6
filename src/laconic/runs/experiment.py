"""Experiments: what was measured and how; equal ones may share a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from laconic.errors import RunError


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn, the same for every model of a comparison.

    Attributes:
        max_tokens: The most tokens one completion may have, thinking included; None takes the
            task's own budget.
        temperature: 0 is greedy.
        top_p: The probability mass kept at each step, in (0, 1].
        repeats: Completions per problem.
        seed: The only source of randomness; each completion draws from (seed, problem, repeat).
        recorded: Whether this is how completions were drawn. False for an imported log, which
            does not say: temperature, top_p and seed then mean nothing.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    repeats: int = 1
    seed: int = 0
    recorded: bool = True

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise RunError(f"max_tokens must be at least 1, got {self.max_tokens}.")
        if self.temperature < 0:
            raise RunError(f"temperature must be 0 (greedy) or more, got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise RunError(f"top_p must be in (0, 1], got {self.top_p}.")
        if self.repeats < 1:
            raise RunError(f"repeats must be at least 1, got {self.repeats}.")
        if self.repeats > 1 and self.temperature == 0 and self.recorded:
            raise RunError(
                f"{self.repeats} repeats at temperature 0 are {self.repeats} times the same "
                "answer. Give a temperature above 0, or 1 repeat."
            )


@dataclass(frozen=True)
class TaskRecord:
    """What a run remembers of a task.

    Attributes:
        name: The task's name.
        source: What the user wrote for it.
        digest: Of every problem and gold asked, so that two runs can tell they are the same.
        problems: How many problems were asked.
        max_tokens: The budget of one completion; None where an imported log does not tell it.
        repeats: Completions per problem, where the tasks of a run differ in that; None where they
            are those of the sampling.
    """

    name: str
    source: str
    digest: str
    problems: int
    max_tokens: int | None
    repeats: int | None = None


@dataclass(frozen=True)
class Experiment:
    """What was measured and how: equal experiments may share a run folder.

    Attributes:
        model: The model as the user named it.
        model_digest: Its fingerprint.
        tasks: What it was asked.
        sampling: How completions were drawn.
        backend: The engine's name.
        dtype: The type the engine computed in.
        template: Digest of the chat template and of the tokenizer's special tokens.
        grader: The grader's version.
        strategy: How each question was put to the model: the strategy's name, with the settings
            that are not its defaults and the digests of its helpers; ``single`` is one call.
    """

    model: str
    model_digest: str
    tasks: tuple[TaskRecord, ...]
    sampling: Sampling
    backend: str
    dtype: str
    template: str
    grader: str
    strategy: str = "single"

    def answers(self, task: TaskRecord) -> int:
        """How many completions a task asks for in all."""
        return task.problems * (task.repeats or self.sampling.repeats)


def difference(before: Experiment, now: Experiment) -> str:
    """The first thing in which two experiments differ, in words; empty where there is none.

    How the user named the model and the tasks' files does not count: digests say what they are.
    """
    old, new = (dict(_leaves(asdict(experiment), ())) for experiment in (before, now))
    for key in sorted(old.keys() | new.keys()):
        if key[-1] not in {"model", "source"} and old.get(key) != new.get(key):
            way = "; laconic grade grades it again" if key == ("grader",) else ""
            return f"another {' '.join(key)} ({old.get(key)!r}, now {new.get(key)!r}{way})"
    return ""


def _leaves(value: Any, key: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every plain value of nested records with the keys that lead to it; a task's is its name."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _leaves(part, (*key, name))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part, (*key, part["name"]))
    else:
        yield key, value
