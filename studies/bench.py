"""Where the study's models are measured: one folder a run, nothing measured twice."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from laconic.merging.recipe import Recipe
from laconic.runs.experiment import Sampling
from laconic.runtime import Progress, silent
from laconic.searching.grid import ModelJob, measure
from laconic.stats import summarise

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from laconic.runs.run import Run
    from studies.menu import Grid


@dataclass
class Bench:
    """Merges models and asks them, several at a time; finished runs are read, not made again.

    Attributes:
        output: Gets ``PART/NAME`` for every run and ``models/PART/NAME`` for every merge.
        workers: Processes that share the work.
        progress: Told after each finished model, of all announced so far.
        backend: The engine.
    """

    output: Path
    workers: int = 1
    progress: Progress = silent
    backend: str = "transformers"
    _done: int = field(default=0, init=False)
    _total: int = field(default=0, init=False)

    def expect(self, models: int) -> None:
        """Announce so many models, for the progress bar."""
        self._total += models

    def runs(self, part: str, task: str, models: Mapping[str, str | Recipe]) -> dict[str, Run]:
        """Measure models on a task, greedy.

        Args:
            part: The folder of these runs.
            task: What they are asked.
            models: Checkpoints or recipes, by the name that tables show.

        Raises:
            LaconicError: As for `merge` and `evaluate`.
        """
        jobs = []
        for name, model in models.items():
            folder = slug(name)
            made = isinstance(model, Recipe)
            jobs.append(
                ModelJob(
                    name,
                    str(self.output / "models" / part / folder) if made else str(model),
                    (task,),
                    self.output / part / folder,
                    model if isinstance(model, Recipe) else None,
                )
            )
        self._total = max(self._total, self._done + len(jobs))
        before = self._done

        def told(done: int, total: int, note: str = "") -> None:
            self.progress(before + done, self._total, f"{part}: {note}")

        runs = measure(
            jobs, sampling=Sampling(), backend=self.backend, workers=self.workers, progress=told
        )
        self._done += len(jobs)
        return runs


def slug(name: str) -> str:
    """A name as a folder's: lower case, digits, points and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def choose(grid: Grid, runs: Mapping[str, Run], against: Run, margin: float) -> str:
    """The coefficient of a method: the shortest that keeps the accuracy, else the most accurate.

    Args:
        grid: The method's recipes, by coefficient.
        runs: Their runs on the problems for choosing, by coefficient.
        against: System 2's run on them.
        margin: How far below System 2 an accuracy may be and count as kept, a fraction; no interval
            enters, the reported figures come from other problems.
    """
    found = {label: summarise(runs[label].results) for label in grid}
    least = summarise(against.results).accuracy.value - margin
    kept = [label for label in found if found[label].accuracy.value >= least]
    if kept:
        return min(kept, key=lambda label: found[label].length.value)
    return max(found, key=lambda label: found[label].accuracy.value)
