"""What a model is measured on: problems, how they are put to it, and how answers are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from laconic.backends.contract.backend import BACKENDS, refuse_overflow
from laconic.backends.contract.call import MODEL
from laconic.errors import TaskError
from laconic.registry import parse_spec
from laconic.runs.experiment import Experiment, Sampling, TaskRecord
from laconic.scoring.score import GRADER, NOT_ALLOWED
from laconic.strategies.contract.drive import planned_calls
from laconic.strategies.contract.strategy import Strategy, load_strategy

if TYPE_CHECKING:
    from laconic.backends.contract.backend import Backend
    from laconic.backends.contract.call import Call
    from laconic.runs.run import Sample
    from laconic.tasks.contract.task import Task

#: The engines of a measurement: ``model``, and the helpers of the strategy by name.
Engines = Mapping[str, "Backend"]


@dataclass(frozen=True)
class ProblemSet:
    """The same questions for every model.

    Attributes:
        tasks: Problems with golds, all of one strategy; the first n of each stand for the whole.
        sampling: How completions are drawn.
        backend: The engine, ``NAME`` or ``NAME:key=value,...``.
        allow_code: Whether programs that the model writes may be run.
    """

    tasks: tuple[Task, ...]
    sampling: Sampling
    backend: str = "transformers"
    allow_code: bool = False

    @property
    def problems(self) -> int:
        """How many problems there are."""
        return sum(len(task.samples) for task in self.tasks)

    @property
    def records(self) -> tuple[TaskRecord, ...]:
        """What a run remembers of the tasks."""
        return tuple(task.record(self.sampling.max_tokens) for task in self.tasks)

    @property
    def strategy(self) -> Strategy:
        """How each question is put to a model."""
        return load_strategy(self.tasks[0].strategy)

    def repeated(self, task: Task, start: int = 0, end: int | None = None) -> tuple[Sample, ...]:
        """The samples of a task's problems from `start` to `end`, repeats included."""
        repeats = task.repeats or self.sampling.repeats
        return tuple(
            replace(sample, repeat=repeat)
            for sample in task.samples[start:end]
            for repeat in range(repeats)
        )

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Every sample of every task, repeats included."""
        return tuple(sample for task in self.tasks for sample in self.repeated(task))

    def drawn(self, task: Task) -> Sampling:
        """How completions of a task are drawn: its budget is a number."""
        return replace(self.sampling, max_tokens=self.sampling.max_tokens or task.max_tokens)

    def planned(
        self, task: Task, samples: tuple[Sample, ...], engines: Engines
    ) -> tuple[Call, ...]:
        """The calls for some samples of a task, as far as they are known before the first."""
        return planned_calls(self.strategy, samples, engines, self.drawn(task))

    def experiment(self, model: str, digest: str, engines: Engines) -> Experiment:
        """What a run of a model says was measured.

        Args:
            model: How the run calls it.
            digest: Of all that decides its weights.
            engines: What completes.
        """
        engine = engines[MODEL]
        helpers = {name: one.fingerprint for name, one in engines.items() if name != MODEL}
        return Experiment(
            model=model,
            model_digest=digest,
            tasks=self.records,
            sampling=self.sampling,
            backend=parse_spec(self.backend)[0],
            dtype=engine.dtype,
            template=engine.template,
            grader=GRADER,
            strategy=self.strategy.record(helpers),
        )

    def refuse_programs(self) -> None:
        """Refuse to run what a model writes, unless that was allowed.

        Raises:
            TaskError: Naming the task.
        """
        for task in self.tasks:
            if not self.allow_code and any(sample.kind == "program" for sample in task.samples):
                raise TaskError(f"{task.name}: {NOT_ALLOWED[0].lower()}{NOT_ALLOWED[1:]}")

    def refuse_unable_backend(self) -> None:
        """Refuse a backend that cannot do what the strategy needs.

        Raises:
            StrategyError: Naming what is missing.
            BackendError: For an unknown backend.
        """
        backend = BACKENDS.get(parse_spec(self.backend)[0])
        self.strategy.refuse_unable(backend.name, backend.traits.get("can", ()))

    def refuse_overflow(self, engines: Engines) -> None:
        """Refuse a budget that the window of an engine cannot hold beside the longest prompt.

        Raises:
            BackendError: With the numbers.
        """
        for task in self.tasks:
            calls = self.planned(task, task.samples, engines)
            for name, engine in engines.items():
                own = [call for call in calls if call.engine == name]
                refuse_overflow(engine, own, self.drawn(task).max_tokens or 0)
