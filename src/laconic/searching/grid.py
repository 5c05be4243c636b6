"""A search over given candidates: measure all, take the shortest that is not worse, prove it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from laconic.errors import LaconicError
from laconic.evaluation.evaluate import evaluate
from laconic.files.atomic import publish
from laconic.merging.merge import execute
from laconic.merging.plan import plan
from laconic.runs.experiment import Sampling
from laconic.runs.run import read_head
from laconic.runtime import Progress, silent
from laconic.searching.goal import by_task
from laconic.searching.workers import pool
from laconic.stats import pair

if TYPE_CHECKING:
    from laconic.merging.recipe import Recipe
    from laconic.runs.run import Run


@dataclass(frozen=True)
class GridResult:
    """The outcome of a search over given candidates.

    Attributes:
        chosen: The candidate taken; None where none was shown to be not worse.
        folder: Where its checkpoint lies; None without one.
        dev: Every reference and candidate on the problems used for choosing, by name.
        test: The references and the chosen candidate on the problems kept for the verdict.
    """

    chosen: str | None
    folder: Path | None
    dev: Mapping[str, Run]
    test: Mapping[str, Run]


@dataclass(frozen=True)
class ModelJob:
    """One model to measure.

    Attributes:
        name: How reports call it.
        model: A checkpoint's name, or the folder that `recipe` is merged into.
        tasks: What it is asked.
        output: Its run folder.
        recipe: What makes the model; None for one that exists.
    """

    name: str
    model: str
    tasks: tuple[str, ...]
    output: Path
    recipe: Recipe | None = None


def choose(
    candidates: Mapping[str, Recipe],
    output: str | Path,
    *,
    references: Mapping[str, str],
    baseline: str,
    choose_on: Sequence[str],
    prove_on: Sequence[str],
    margin: float = 0.02,
    sampling: Sampling | None = None,
    backend: str = "transformers",
    workers: int = 1,
    progress: Progress = silent,
) -> GridResult:
    """Take the shortest candidate whose accuracy is shown to be not worse, and measure it afresh.

    What the candidate is chosen by never enters its verdict: the two sets of problems must differ.
    Finished merges and results are kept, so that a stopped search goes on where it was.

    Args:
        candidates: Recipes by name.
        output: Gets ``models/NAME``, ``dev/NAME``, ``test/NAME`` and ``merged``.
        references: Models to measure beside the candidates, by name; `baseline` is one of them.
        baseline: The reference that a candidate must not be worse than.
        choose_on: Tasks to choose by.
        prove_on: Tasks for the verdict.
        margin: The loss of accuracy that counts as none, a fraction.
        sampling: How completions are drawn, the same for all.
        backend: The engine.
        workers: Processes that merge and evaluate side by side.
        progress: Told after each finished model.

    Raises:
        LaconicError: As for `merge` and `evaluate`.
    """
    output = Path(output).expanduser()
    measure_jobs = partial(
        measure, sampling=sampling or Sampling(), backend=backend, workers=workers
    )
    dev_jobs = [
        ModelJob(name, model, tuple(choose_on), output / "dev" / name)
        for name, model in references.items()
    ] + [
        ModelJob(
            name, str(output / "models" / name), tuple(choose_on), output / "dev" / name, recipe
        )
        for name, recipe in candidates.items()
    ]
    total = len(dev_jobs) + len(references) + 1

    def after(done_before: int) -> Progress:
        return lambda done, _, note="": progress(done_before + done, total, note)

    dev = measure_jobs(dev_jobs, progress=after(0))
    chosen = shortest(dev, list(candidates), baseline=baseline, margin=margin)
    tested = {**references, **({chosen: str(output / "models" / chosen)} if chosen else {})}
    test_jobs = [
        ModelJob(name, model, tuple(prove_on), output / "test" / name)
        for name, model in tested.items()
    ]
    test = measure_jobs(test_jobs, progress=after(len(dev_jobs)))
    return GridResult(chosen, _keep(output, chosen), dev, test)


def shortest(
    runs: Mapping[str, Run], candidates: Sequence[str], *, baseline: str, margin: float
) -> str | None:
    """The shortest candidate that is shown to be not worse than the baseline on every task.

    Args:
        runs: The runs, by name.
        candidates: The names to choose from.
        baseline: The name of the run to compare with.
        margin: The loss of accuracy that counts as none, a fraction.
    """
    per_task = {name: by_task(run.results) for name, run in runs.items()}
    lengths: dict[str, float] = {}
    for name in candidates:
        pairs = [
            pair(results, per_task[baseline][task], name=name, against=baseline, margin=margin)
            for task, results in per_task[name].items()
        ]
        if all(p.not_worse.verdict == "yes" for p in pairs):
            lengths[name] = sum(p.length_change.value for p in pairs) / len(pairs)
    return min(lengths, key=lambda name: lengths[name]) if lengths else None


def measure(
    jobs: Sequence[ModelJob],
    *,
    sampling: Sampling,
    backend: str = "transformers",
    workers: int = 1,
    progress: Progress = silent,
) -> dict[str, Run]:
    """Merge and evaluate every job.

    Args:
        jobs: What to measure; no two may share a name or a folder.
        sampling: How completions are drawn, the same for all.
        backend: The engine.
        workers: Processes that share the work.
        progress: Told after each finished job.

    Returns:
        The runs by name, in the order of the jobs.
    """
    runs: dict[str, Run] = {}
    if workers == 1:
        for job in jobs:
            runs[job.name] = _measure(job, sampling, backend)
            progress(len(runs), len(jobs), job.name)
        return runs
    with pool(min(workers, len(jobs))) as executor:
        futures = {executor.submit(_measure, job, sampling, backend): job for job in jobs}
        for future in as_completed(futures):
            job = futures[future]
            runs[job.name] = future.result()
            progress(len(runs), len(jobs), job.name)
    return {job.name: runs[job.name] for job in jobs}


def _measure(job: ModelJob, sampling: Sampling, backend: str) -> Run:
    if job.recipe is not None:
        _merge(job.recipe, Path(job.model))
    return evaluate(
        job.model, job.tasks, sampling=sampling, backend=backend, output=job.output, name=job.name
    )


def _merge(recipe: Recipe, folder: Path) -> None:
    """Merge into a folder, unless it already holds this very merge."""
    planned = plan(recipe)
    if (folder / "run.json").exists():
        if read_head(folder).get("digest") == planned.digest:
            return
        raise LaconicError(
            f"{folder} holds another merge. Choose another output folder, or delete this one."
        )
    execute(planned, folder)


def _keep(output: Path, chosen: str | None) -> Path | None:
    """Move the chosen checkpoint to ``merged`` and delete the others."""
    models, merged = output / "models", output / "merged"
    if chosen is None:
        return None
    if (models / chosen).is_dir():
        shutil.rmtree(merged, ignore_errors=True)
        publish(models / chosen, merged)
    shutil.rmtree(models, ignore_errors=True)
    return merged
