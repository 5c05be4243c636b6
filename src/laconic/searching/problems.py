"""The problems of a search: growing subsets to search on, and others kept for the proof."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from laconic.errors import TaskError
from laconic.evaluation.problem_set import ProblemSet
from laconic.tasks.contract.task import Task, load_task

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Sample

#: The share of the problems that each rung has seen at its end.
RUNGS: Final = (1 / 8, 1 / 4, 1 / 2, 1.0)
#: No rung tests fewer problems than this: fewer tell nothing.
FEWEST: Final = 20
#: The share of each task's problems that is kept for the proof where no tasks are named for it.
HELD_OUT: Final = 0.5


def rungs(problems: ProblemSet) -> list[list[Sample]]:
    """The samples that each rung adds, repeats included; a rung without any is left out."""
    shares = [s for s in RUNGS if s == 1 or s * problems.problems >= FEWEST]
    added: list[list[Sample]] = []
    done = dict.fromkeys((task.name for task in problems.tasks), 0)
    for share in shares:
        new: list[Sample] = []
        for task in problems.tasks:
            end = math.ceil(share * len(task.samples))
            new += problems.repeated(task, done[task.name], end)
            done[task.name] = end
        added.append(new)
    return [rung for rung in added if rung]


def deal_problems(
    tasks: Sequence[str],
    prove_on: Sequence[str],
    *,
    sampling: Sampling,
    backend: str,
    limit: int | None,
    prompt: str,
    data: str | Path | None,
    allow_code: bool,
) -> tuple[ProblemSet, ProblemSet]:
    """The problems to search on and those kept for the proof; no problem is in both.

    Without tasks for the proof, each task's problems are dealt to both by a hash of their text and
    the seed. The order within each is that of the hash, too, so that the first n stand for all.

    Raises:
        TaskError: For tasks that cannot be read, too few problems, or one asked in both.
    """

    def load(specs: Sequence[str]) -> list[Task]:
        loaded = [load_task(spec, limit=limit, prompt=prompt, data=data) for spec in specs]
        names = [task.name for task in loaded]
        for name in names:
            if names.count(name) > 1:
                raise TaskError(f"Two of the tasks are called '{name}'. Rename one's file.")
        return [replace(task, samples=_shuffled(task, sampling.seed)) for task in loaded]

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
    search_on, prove_with = (
        ProblemSet(tuple(part), sampling, backend, allow_code) for part in (search, proof)
    )
    for problems in (search_on, prove_with):
        problems.refuse_programs()
        problems.refuse_unable_backend()
    _refuse_shared(search, proof)
    return search_on, prove_with


def _shuffled(task: Task, seed: int) -> tuple[Sample, ...]:
    """A task's samples in the order of a hash of seed and text."""

    def place(sample: Sample) -> bytes:
        return hashlib.sha256(f"{seed}\0{sample.id}\0{sample.problem}".encode()).digest()

    return tuple(sorted(task.samples, key=place))


def _refuse_shared(search: Sequence[Task], proof: Sequence[Task]) -> None:
    sources = {(s.problem, s.gold): task.source for task in search for s in task.samples}
    for task in proof:
        for sample in task.samples:
            if (source := sources.get((sample.problem, sample.gold))) is not None:
                raise TaskError(
                    f"Problem '{sample.id}' of {task.source} is one of {source}, too. What a model "
                    "is chosen by must not prove it: name other problems with --prove-on."
                )
