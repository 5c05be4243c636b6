"""The measuring session: an engine is opened, asked through a strategy, scored, and kept.

`laconic eval`, the trials of a search and the dev evaluations of a training all measure here.
"""

from __future__ import annotations

import hashlib
import sys
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from laconic.backends.contract.backend import BACKENDS, Backend, ServedBackend
from laconic.backends.contract.call import MODEL
from laconic.checkpoints.checkpoint import Checkpoint
from laconic.errors import BackendError, RecipeError, RunError
from laconic.evaluation.problem_set import Engines, ProblemSet
from laconic.evaluation.tally import Tally
from laconic.registry import parse_spec
from laconic.runs.experiment import difference
from laconic.runs.run import Run, is_run, read_run
from laconic.runs.writer import RunWriter
from laconic.runtime import silent, versions
from laconic.scoring.score import Grader, score, score_all
from laconic.strategies.contract.drive import answer_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from laconic.runs.experiment import Experiment, Sampling
    from laconic.runs.run import Result, Sample
    from laconic.runtime import Progress
    from laconic.tasks.contract.task import Task


class MeasuredRun:
    """An unfinished run: questions go through the strategy, answers are scored and kept.

    Args:
        problems: What is asked.
        engines: The model and the strategy's helpers; they stay open.
        experiment: What is measured: that of `problems` and a model.
        grader: Scores the answers.
        folder: The run folder; what it holds already is not asked again. None keeps the results
            in memory only.
        provenance: What run.json says beside the experiment.
        compress: Whether a new folder keeps its results gzipped.

    Attributes:
        results: Every result so far.
        provenance: What run.json says beside the experiment.

    Raises:
        RunError: As for `RunWriter`.
    """

    def __init__(
        self,
        problems: ProblemSet,
        engines: Engines,
        experiment: Experiment,
        *,
        grader: Grader,
        folder: Path | None,
        provenance: dict[str, Any],
        compress: bool = False,
    ) -> None:
        self._problems = problems
        self._engines = engines
        self._grader = grader
        self._strategy = problems.strategy
        self._writer: RunWriter | None = None
        self.provenance = provenance
        self.results: list[Result] = []
        if folder is not None:
            self._writer = RunWriter(
                folder, experiment, provenance, compress=compress, asked=problems.samples
            )
            self.provenance = self._writer.provenance
            self.results += self._writer.results.values()

    @property
    def tokens(self) -> int:
        """The tokens generated so far, those of helpers included."""
        return sum(result.length + result.helper_length for result in self.results)

    def ask(
        self,
        samples: Sequence[Sample],
        go_on: Callable[[Sequence[Result]], bool] = lambda _: True,
    ) -> bool:
        """Ask what has not been asked; each batch is scored and kept as it comes.

        Args:
            samples: What to ask.
            go_on: Told the results of each batch; False ends the asking.

        Returns:
            Whether every sample has its result.
        """
        answered = {result.key for result in self.results}
        for task in self._problems.tasks:
            missing = [s for s in samples if s.task == task.name and s.key not in answered]
            drawn = self._problems.drawn(task)
            for batch in answer_all(self._strategy, missing, self._engines, drawn):
                if task.samples[0].kind == "program":
                    new = score_all(batch, self._grader)
                else:
                    new = [score(sample, answer, self._grader) for sample, answer in batch]
                if self._writer:
                    self._writer.append(new)
                self.results += new
                if not go_on(new):
                    answered = {result.key for result in self.results}
                    return all(sample.key in answered for sample in samples)
        return True

    def finish(self, **facts: Any) -> None:
        """Say in run.json that every problem was asked.

        Args:
            facts: What it is to say beside.
        """
        self.provenance |= facts
        if self._writer:
            self._writer.finish(**facts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer:
            self._writer.__exit__()


def measure(
    engine: Backend,
    tasks: Sequence[Task],
    *,
    model: str,
    sampling: Sampling,
    backend: str = "transformers",
    allow_code: bool = False,
    output: str | Path | None = None,
    compress: bool = False,
    name: str | None = None,
    progress: Progress = silent,
    facts: Mapping[str, Any] | None = None,
) -> Run:
    """Measure the model that an open engine holds on tasks that are loaded; the engine stays open.

    It takes and raises what `laconic.evaluation.evaluate.evaluate` does, and beside it:

    Args:
        engine: The model.
        model: What the run calls it.
        facts: What run.json says beside the experiment.
    """
    problems = ProblemSet(tuple(tasks), sampling, backend, allow_code)
    folder = None if output is None else Path(output)
    with open_helpers(problems) as helpers:
        engines = {MODEL: engine, **helpers}
        problems.refuse_overflow(engines)
        experiment = problems.experiment(model, engine.fingerprint, engines)
        run = None if folder is None else complete_run(folder, experiment)
        if run is None:
            measured = _ask_all(problems, engines, experiment, folder, progress, compress, facts)
            run = Run("", experiment, tuple(measured.results), True, folder, measured.provenance)
    results = {result.key: result for result in run.results}
    return replace(
        run,
        name=name or (folder.resolve().name if folder else Path(model).name),
        results=tuple(results[sample.key] for sample in problems.samples),
    )


def _ask_all(
    problems: ProblemSet,
    engines: Engines,
    experiment: Experiment,
    folder: Path | None,
    progress: Progress,
    compress: bool,
    facts: Mapping[str, Any] | None,
) -> MeasuredRun:
    """Ask what the folder does not hold yet."""
    engine = engines[MODEL]
    provenance: dict[str, Any] = {
        "command": list(sys.argv),
        "versions": versions("math-verify") | engine.versions,
        "device": engine.device,
        "window": engine.window,
        "prompts": {task.name: _prompts(problems, task, engines) for task in problems.tasks},
        "started": _now(),
        **(facts or {}),
        **_server_facts(engine),
    }
    with Grader(allow_code=problems.allow_code) as grader:
        if any(sample.kind == "program" for task in problems.tasks for sample in task.samples):
            provenance["sandbox"] = list(grader.isolation())
        with MeasuredRun(
            problems,
            engines,
            experiment,
            grader=grader,
            folder=folder,
            provenance=provenance,
            compress=compress,
        ) as measured:
            samples = problems.samples
            tally = Tally(len(samples), progress)
            tally.add(measured.results)
            tally.start()

            def count(results: Sequence[Result]) -> bool:
                tally.add(results)
                return True

            measured.ask(samples, count)
            speed = {"finished": _now(), "tokens_per_second": round(tally.speed, 1)}
            measured.finish(**speed, **_server_facts(engine))
    return measured


def complete_run(folder: Path, experiment: Experiment | None = None) -> Run | None:
    """The run of a folder, if it is there, complete and not damaged.

    Args:
        folder: The run folder.
        experiment: What it must have measured; None takes any.
    """
    try:
        run = read_run(folder) if is_run(folder) else None
    except RunError:
        return None  # the writer puts it right, or says why not
    if run is None or not run.complete:
        return None
    return run if experiment is None or not difference(run.experiment, experiment) else None


def open_engine(model: str | Path | Checkpoint, spec: str) -> Backend:
    """A model in an engine, which the caller must close.

    Args:
        model: A checkpoint folder, a Hub id, a ``lab:`` name, or an open checkpoint.
        spec: The engine, ``NAME`` or ``NAME:key=value,...``.

    Raises:
        BackendError: For an unknown engine, or one that cannot load the model.
    """
    name, values = parse_spec(spec)
    plugin = BACKENDS.get(name)
    try:
        options = plugin.bind(values, where=f"--backend {spec}")
    except RecipeError as error:
        raise BackendError(str(error)) from None
    source = str(model.folder) if isinstance(model, Checkpoint) else str(model)
    return plugin.function(source, **options)


@contextmanager
def open_helpers(problems: ProblemSet) -> Iterator[dict[str, Backend]]:
    """The helpers of a strategy by name, in engines of the same kind, open until the block ends."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(closing(open_engine(model, problems.backend)))
            for name, model in problems.strategy.helpers.items()
        }


def _prompts(problems: ProblemSet, task: Task, engines: Engines) -> dict[str, str]:
    """The first prompt exactly as the model sees it, and a digest of all of them in order."""
    calls = problems.planned(task, task.samples, engines)
    prompts = [engines[call.engine].render(call.sample) for call in calls]
    whole = hashlib.sha256("\0".join(prompts).encode("utf-8", "replace")).hexdigest()
    return {"first": prompts[0], "sha256": whole}


def _server_facts(engine: Backend) -> dict[str, Any]:
    """What a run keeps of a model that runs behind a server."""
    return {"engine": engine.facts} if isinstance(engine, ServedBackend) else {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
