"""The dev problems: the part that steers the mixture, the held-out part, and their measurements."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from laconic.errors import TrainError
from laconic.runs.experiment import Sampling
from laconic.stats import Summary, summarise
from laconic.tasks.contract.task import Task, load_task
from laconic.training.bounds import Measurement
from laconic.training.selection import Candidate

if TYPE_CHECKING:
    from laconic.runs.run import Run
    from laconic.training.recipe import TrainRecipe

#: The name of the part of a task that never steers the mixture.
HELDOUT = "heldout"


@dataclass(frozen=True)
class DevProblems:
    """Fixed problems, and how they are put to every model.

    Attributes:
        steer: The problems that the mixture is steered by.
        heldout: The problems that never move it; None where there are none.
        plain: All of them without the prompt.
        sampling: How completions are drawn; `max_tokens` is a number.
        template: Digest of the model's chat template.
    """

    steer: Task
    heldout: Task | None
    plain: Task
    sampling: Sampling
    template: str

    @property
    def conditions(self) -> str:
        """Digest of problems, sampling and template: only equal ones are compared."""
        record = asdict(self.steer.record(None)) | {"source": ""}
        text = json.dumps([record, asdict(self.sampling), self.template], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def answers(self) -> int:
        """Completions of one evaluation."""
        return len(self.steer.samples) * self.sampling.repeats

    def measured(self, run: Run, step: int) -> Measurement:
        """The measurement of a run over the steering problems, with standard errors by problem."""
        summary = summarise(run.results)
        return Measurement(
            step=step,
            n=summary.n,
            accuracy=summary.accuracy.value,
            accuracy_se=summary.accuracy_error,
            length=summary.length.value,
            length_se=summary.length_error,
            truncated=summary.truncated,
            conditions=self.conditions,
        )


def read_dev(recipe: TrainRecipe, template: str) -> DevProblems:
    """Load and split the dev problems of a recipe; every n-th is held out, in the task's order.

    Args:
        recipe: The training.
        template: Digest of the model's chat template.

    Raises:
        TaskError: For a task that cannot be read.
        TrainError: Where a part would be empty, or programs would have to be run.
    """
    section = recipe.dev
    plain, task = (
        load_task(section.task, limit=section.limit, prompt=prompt, data=section.data)
        for prompt in ("{problem}", section.prompt)
    )
    if any(sample.kind == "program" for sample in task.samples):
        raise TrainError(
            f"dev.task {section.task} asks for programs, which would have to be run in training. "
            "Steer by problems with answers, and evaluate programs afterwards: laconic eval."
        )
    ends = [int((i + 1) * section.heldout + 1e-9) for i in range(len(task.samples))]
    is_heldout = [end > int(i * section.heldout + 1e-9) for i, end in enumerate(ends)]
    parts = {
        wanted: tuple(s for s, out in zip(task.samples, is_heldout, strict=True) if out is wanted)
        for wanted in (False, True)
    }
    if not parts[False] or (section.heldout and not parts[True]):
        raise TrainError(
            f"dev.heldout {section.heldout:g} of {len(task.samples)} problems leaves "
            f"{len(parts[False])} to steer by and {len(parts[True])} held out: take more problems."
        )
    name = f"{task.name}-{HELDOUT}"
    outside = tuple(replace(sample, task=name) for sample in parts[True])
    budget = recipe.sampling.max_tokens or task.max_tokens
    return DevProblems(
        steer=replace(task, samples=parts[False]),
        heldout=replace(task, name=name, samples=outside) if outside else None,
        plain=plain,
        sampling=Sampling(
            max_tokens=budget,
            temperature=recipe.sampling.temperature,
            top_p=recipe.sampling.top_p,
            repeats=section.samples,
            seed=recipe.sampling.seed,
        ),
        template=template,
    )


def candidate(summary: Summary, step: int) -> Candidate:
    """A run's summary as the choice of a checkpoint compares it."""
    return Candidate(
        step=step,
        accuracy=summary.accuracy.value,
        length=summary.length.value,
        truncated=summary.truncated,
        thinking=summary.thinking,
    )
