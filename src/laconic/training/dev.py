"""The dev problems: those that steer a mixture, those held out, and what answers to them say."""

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

#: What the part of a task is called that steering never sees.
HELDOUT = "heldout"


@dataclass(frozen=True)
class DevProblems:
    """Fixed problems and the one way in which they are put to every model.

    Attributes:
        steer: The problems that the mixture is steered by.
        heldout: Those it never sees; None where all steer.
        plain: All of them as they stand in their file, before a prompt is put around them.
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
        asked = [asdict(self.steer.record(None)) | {"source": ""}, asdict(self.sampling)]
        text = json.dumps([*asked, self.template], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def answers(self) -> int:
        """Completions of one evaluation."""
        return len(self.steer.samples) * self.sampling.repeats

    def measured(self, run: Run, step: int) -> Measurement:
        """What a run over the steering problems says, with standard errors by problem."""
        found = summarise(run.results)
        return Measurement(
            step=step,
            n=found.n,
            accuracy=found.accuracy.value,
            accuracy_se=found.accuracy_error,
            length=found.length.value,
            length_se=found.length_error,
            truncated=found.truncated,
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
    plain, asked = (
        load_task(section.task, limit=section.limit, prompt=prompt, data=section.data)
        for prompt in ("{problem}", section.prompt)
    )
    if any(sample.kind == "program" for sample in asked.samples):
        raise TrainError(
            f"dev.task {section.task} asks for programs, which would have to be run in training. "
            "Steer by problems with answers, and evaluate programs afterwards: laconic eval."
        )
    ends = [int((i + 1) * section.heldout + 1e-9) for i in range(len(asked.samples))]
    held = [end > int(i * section.heldout + 1e-9) for i, end in enumerate(ends)]
    parts = {
        kept: tuple(s for s, out in zip(asked.samples, held, strict=True) if out is kept)
        for kept in (False, True)
    }
    if not parts[False] or (section.heldout and not parts[True]):
        raise TrainError(
            f"dev.heldout {section.heldout:g} of {len(asked.samples)} problems leaves "
            f"{len(parts[False])} to steer by and {len(parts[True])} held out: take more problems."
        )
    name = f"{asked.name}-{HELDOUT}"
    outside = tuple(replace(sample, task=name) for sample in parts[True])
    budget = recipe.sampling.max_tokens or asked.max_tokens
    return DevProblems(
        steer=replace(asked, samples=parts[False]),
        heldout=replace(asked, name=name, samples=outside) if outside else None,
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
    """What the choice of a checkpoint looks at."""
    return Candidate(
        step=step,
        accuracy=summary.accuracy.value,
        length=summary.length.value,
        truncated=summary.truncated,
        thinking=summary.thinking,
    )
