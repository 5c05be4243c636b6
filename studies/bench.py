"""Merges and measures the models of a study, each once: one folder a run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from laconic.merging.recipe import Recipe
from laconic.runs.experiment import Sampling
from laconic.runtime import Progress, silent
from laconic.searching.grid import ModelJob, measure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from laconic.runs.run import Run


@dataclass
class Bench:
    """Merges and measures models, several at a time; finished runs are read, not repeated.

    Attributes:
        output: Gets ``PART/NAME`` for every run and ``models/PART/NAME`` for every merge.
        workers: Processes that share the work.
        progress: Called after each finished model, with the number of all announced so far.
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
            task: The task.
            models: Checkpoints or recipes, by the name that tables show.

        Raises:
            LaconicError: As for `merge` and `evaluate`.
        """
        jobs = []
        for name, model in models.items():
            folder = slug(name)
            merged = isinstance(model, Recipe)
            jobs.append(
                ModelJob(
                    name,
                    str(self.output / "models" / part / folder) if merged else str(model),
                    (task,),
                    self.output / part / folder,
                    model if isinstance(model, Recipe) else None,
                )
            )
        self._total = max(self._total, self._done + len(jobs))
        before = self._done

        def report(done: int, total: int, note: str = "") -> None:
            self.progress(before + done, self._total, f"{part}: {note}")

        runs = measure(
            jobs, sampling=Sampling(), backend=self.backend, workers=self.workers, progress=report
        )
        self._done += len(jobs)
        return runs


def slug(name: str) -> str:
    """A name as a folder name: lower case, digits, points and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
