"""What every model of a search is asked: problems in growing subsets, and others kept for proof."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from laconic.backends.contract.backend import refuse_overflow
from laconic.errors import TaskError
from laconic.registry import parse_spec
from laconic.runs.experiment import Experiment, Sampling, TaskRecord
from laconic.runs.writer import RunWriter
from laconic.scoring.score import GRADER, NOT_ALLOWED, Grader, score, score_all
from laconic.strategies.calls import complete
from laconic.tasks.contract.task import Task, load_task

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.backends.contract.backend import Backend
    from laconic.runs.run import Result, Sample

#: The share of the problems that each rung has seen at its end.
RUNGS: Final = (1 / 8, 1 / 4, 1 / 2, 1.0)
#: No rung tests fewer problems than this: fewer tell nothing.
FEWEST: Final = 20
#: The share of each task's problems that is kept for the proof where no tasks are named for it.
HELD_OUT: Final = 0.5


@dataclass(frozen=True)
class Exam:
    """The same questions for every model.

    Attributes:
        tasks: Problems with golds; the first n of each stand for the whole.
        sampling: How completions are drawn.
        backend: The engine, ``NAME`` or ``NAME:key=value,...``.
        allow_code: Whether programs that the model writes may be run.
    """

    tasks: tuple[Task, ...]
    sampling: Sampling
    backend: str
    allow_code: bool = False

    @property
    def problems(self) -> int:
        """How many problems there are."""
        return sum(len(task.samples) for task in self.tasks)

    @property
    def records(self) -> tuple[TaskRecord, ...]:
        """What a run remembers of the tasks."""
        return tuple(task.record(self.sampling.max_tokens) for task in self.tasks)

    def rungs(self) -> list[list[Sample]]:
        """The samples that each rung adds, repeats included; a rung without any is left out."""
        shares = [s for s in RUNGS if s == 1 or s * self.problems >= FEWEST]
        rungs: list[list[Sample]] = []
        done = dict.fromkeys((task.name for task in self.tasks), 0)
        for share in shares:
            new: list[Sample] = []
            for task in self.tasks:
                end = math.ceil(share * len(task.samples))
                new += [
                    replace(sample, repeat=repeat)
                    for sample in task.samples[done[task.name] : end]
                    for repeat in range(task.repeats or self.sampling.repeats)
                ]
                done[task.name] = end
            rungs.append(new)
        return [rung for rung in rungs if rung]

    def experiment(self, model: str, digest: str, engine: Backend) -> Experiment:
        """What a run of a model says was measured.

        Args:
            model: How the run calls it.
            digest: Of all that decides its weights.
            engine: What completes.
        """
        return Experiment(
            model=model,
            model_digest=digest,
            tasks=self.records,
            sampling=self.sampling,
            backend=parse_spec(self.backend)[0],
            dtype=engine.dtype,
            template=engine.template,
            grader=GRADER,
        )

    def check(self, engine: Backend) -> None:
        """Refuse a budget that the model's window cannot hold: a BackendError."""
        for task in self.tasks:
            refuse_overflow(engine, task.samples, self.sampling.max_tokens or task.max_tokens)


class Sitting:
    """One model before an exam: a run folder that grows problem by problem.

    Args:
        exam: What is asked.
        engine: Holds the model.
        folder: The run folder; what it holds already is not asked again.
        grader: Scores the answers.
        model: How the run calls the model.
        digest: Of all that decides its weights.
        provenance: What run.json says beside that.

    Attributes:
        results: Every result so far.

    Raises:
        RunError: As for `RunWriter`.
    """

    def __init__(
        self,
        exam: Exam,
        engine: Backend,
        folder: Path,
        *,
        grader: Grader,
        model: str,
        digest: str,
        provenance: dict[str, Any],
    ) -> None:
        self._grader = grader
        self._exam = exam
        self._engine = engine
        self._writer = RunWriter(
            folder,
            exam.experiment(model, digest, engine),
            provenance,
            asked=[sample for rung in exam.rungs() for sample in rung],
        )
        self.results: list[Result] = list(self._writer.results.values())

    @property
    def tokens(self) -> int:
        """The tokens generated so far."""
        return sum(result.length for result in self.results)

    def ask(self, samples: Sequence[Sample], paid: Callable[[int], bool]) -> bool:
        """Ask what has not been asked; each batch is kept as it comes.

        Args:
            samples: What to ask.
            paid: Told the tokens of each batch; False ends the asking.

        Returns:
            Whether everything was asked.
        """
        held = {result.key for result in self.results}
        for task in self._exam.tasks:
            missing = [s for s in samples if s.task == task.name and s.key not in held]
            drawn = replace(
                self._exam.sampling, max_tokens=self._exam.sampling.max_tokens or task.max_tokens
            )
            for batch in complete(self._engine, missing, drawn):
                if task.samples[0].kind == "program":
                    new = score_all(batch, self._grader)
                else:
                    new = [score(sample, made, self._grader) for sample, made in batch]
                self._writer.append(new)
                self.results += new
                if not paid(sum(result.length for result in new)):
                    held |= {result.key for result in self.results}
                    return all(sample.key in held for sample in samples)
        return True

    def finish(self) -> None:
        """Say in run.json that every problem was asked."""
        self._writer.finish()

    def __enter__(self) -> Sitting:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.__exit__()


def set_exams(
    tasks: Sequence[str],
    prove_on: Sequence[str],
    *,
    sampling: Sampling,
    backend: str,
    limit: int | None,
    prompt: str,
    data: str | Path | None,
    allow_code: bool,
) -> tuple[Exam, Exam]:
    """The problems to search on and those kept for the proof; no problem is in both.

    Without tasks for the proof, each task's problems are dealt to both by a hash of their text and
    the seed. The order within each is that of the hash, too, so that the first n stand for all.

    Raises:
        TaskError: For tasks that cannot be read, too few problems, or one asked in both.
    """

    def load(specs: Sequence[str]) -> list[Task]:
        found = [load_task(spec, limit=limit, prompt=prompt, data=data) for spec in specs]
        names = [task.name for task in found]
        for name in names:
            if names.count(name) > 1:
                raise TaskError(f"Two of the tasks are called '{name}'. Rename one's file.")
        return [replace(task, samples=_shuffled(task, sampling.seed)) for task in found]

    if not tasks:
        raise TaskError("There is no task to search on. Name one, such as --task lab.")
    search, proof = load(tasks), load(prove_on)
    if not proof:
        whole, search = search, []
        for task in whole:
            cut = round(len(task.samples) * (1 - HELD_OUT))
            known = {sample.problem for sample in task.samples[:cut]}
            fresh = tuple(s for s in task.samples[cut:] if s.problem not in known)
            search.append(replace(task, samples=task.samples[:cut]))
            proof.append(replace(task, samples=fresh))
    for task in (*search, *proof):
        if not task.samples:
            raise TaskError(
                f"{task.source} has too few problems to keep some for the proof. Give more, or "
                "name others with --prove-on."
            )
        if not allow_code and any(sample.kind == "program" for sample in task.samples):
            raise TaskError(f"{task.name}: {NOT_ALLOWED[0].lower()}{NOT_ALLOWED[1:]}")
    _refuse_shared(search, proof)
    exams = [Exam(tuple(part), sampling, backend, allow_code) for part in (search, proof)]
    return exams[0], exams[1]


def _shuffled(task: Task, seed: int) -> tuple[Sample, ...]:
    """A task's samples in the order of a hash of seed and text."""

    def place(sample: Sample) -> bytes:
        return hashlib.sha256(f"{seed}\0{sample.id}\0{sample.problem}".encode()).digest()

    return tuple(sorted(task.samples, key=place))


def _refuse_shared(search: Sequence[Task], proof: Sequence[Task]) -> None:
    asked = {(s.problem, s.gold): task.source for task in search for s in task.samples}
    for task in proof:
        for sample in task.samples:
            if (source := asked.get((sample.problem, sample.gold))) is not None:
                raise TaskError(
                    f"Problem '{sample.id}' of {task.source} is one of {source}, too. What a model "
                    "is chosen by must not prove it: name other problems with --prove-on."
                )
