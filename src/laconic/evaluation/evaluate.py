"""Evaluate: put tasks to a model through a backend, score what comes, keep it as it comes."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.backends.contract.backend import BACKENDS, Backend, Remote, refuse_overflow
from laconic.checkpoints.checkpoint import Checkpoint
from laconic.errors import BackendError, RecipeError, RunError, TaskError
from laconic.evaluation.protocols.load import find_preset
from laconic.evaluation.tally import Tally
from laconic.registry import parse_spec
from laconic.runs.experiment import Experiment, Sampling, difference
from laconic.runs.run import Run, read_run
from laconic.runs.writer import RunWriter
from laconic.runtime import silent, versions
from laconic.scoring.score import GRADER, NOT_ALLOWED, Grader, score, score_all
from laconic.strategies.calls import calls, complete, digest
from laconic.tasks.contract.task import Task, load_task

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from laconic.runs.run import Key, Result, Sample
    from laconic.runtime import Progress

GREEDY: Final = Sampling()
PLAIN: Final = "{problem}"


def evaluate(
    model: str | Path | Checkpoint,
    tasks: Sequence[str] = (),
    *,
    sampling: Sampling = GREEDY,
    backend: str = "transformers",
    limit: int | None = None,
    prompt: str = PLAIN,
    data: str | Path | None = None,
    preset: str | None = None,
    allow_code: bool = False,
    output: str | Path | None = None,
    compress: bool = False,
    name: str | None = None,
    progress: Progress = silent,
) -> Run:
    """Measure a model's accuracy and length on tasks.

    Each batch of completions is scored and kept as it arrives. After an interruption the same
    call on the same folder generates only what is missing.

    Args:
        model: A checkpoint folder, a Hub id, a ``lab:`` name, or an open checkpoint.
        tasks: ``NAME``, ``NAME:key=value,...`` or JSONL files; no two of one name. With a preset,
            those of its tasks that are wanted; none are all.
        sampling: How completions are drawn; a preset takes its `max_tokens` and `seed` only.
        backend: The engine, ``NAME`` or ``NAME:key=value,...``.
        limit: Only the first so many problems of each task.
        prompt: A prompt's name, or the user's turn with ``{problem}`` where the problem goes.
        data: The problems of named tasks: a file, or a folder of files called like the tasks; by
            default the Hub's.
        preset: A paper's protocol, ``NAME`` or ``NAME:role=system1``.
        allow_code: Whether programs that the model writes may be run, in a sandbox.
        output: The run folder; None keeps the run in memory only.
        compress: Keep the results gzipped.
        name: How reports call the run; the folder's or the model's name by default.
        progress: Told after each batch, with the accuracy and mean length so far.

    Returns:
        The complete run, its results in the order of the tasks, problems and repeats.

    Raises:
        TaskError: For a task that cannot be read, or whose programs may not be run, before the
            model is loaded.
        CheckpointError: For a model that is no whole checkpoint.
        BackendError: For an engine that cannot load it, or a budget its window cannot hold.
        RunError: For a folder that holds something else or is in use.
    """
    asked = _ask(tasks, sampling, limit, prompt, data, preset)
    loaded, sampling = asked.tasks, asked.sampling
    _refuse_programs(loaded, allow_code=allow_code)
    with closing(open_engine(model, backend)) as engine:
        return measure(
            engine,
            loaded,
            model=model.name if isinstance(model, Checkpoint) else str(model),
            sampling=sampling,
            backend=backend,
            allow_code=allow_code,
            output=output,
            compress=compress,
            name=name,
            progress=progress,
            facts=asked.facts,
        )


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
    """Measure the model that an open engine holds on tasks that are loaded; it stays open.

    Takes and raises what `evaluate` does, and beside it:

    Args:
        engine: The model.
        model: What the run calls it.
        facts: What run.json says beside the experiment.
    """
    jobs = [_Job.of(task, sampling) for task in tasks]
    folder = None if output is None else Path(output)
    for job in jobs:
        refuse_overflow(engine, job.calls, job.max_tokens)
    experiment = Experiment(
        model=model,
        model_digest=engine.fingerprint,
        tasks=tuple(task.record(sampling.max_tokens) for task in tasks),
        sampling=sampling,
        backend=parse_spec(backend)[0],
        dtype=engine.dtype,
        template=engine.template,
        grader=GRADER,
    )
    run = (folder and _complete_run(folder, experiment)) or _measure(
        engine,
        jobs,
        experiment,
        folder,
        progress,
        dict(facts or {}),
        allow_code=allow_code,
        compress=compress,
    )
    named = name or (folder.resolve().name if folder else Path(model).name)
    results = {result.key: result for result in run.results}
    ordered = tuple(results[sample.key] for job in jobs for sample in job.samples)
    return replace(run, name=named, results=ordered)


def preview(
    model: str | Path | Checkpoint,
    tasks: Sequence[str] = (),
    *,
    sampling: Sampling = GREEDY,
    backend: str = "transformers",
    limit: int | None = None,
    prompt: str = PLAIN,
    data: str | Path | None = None,
    preset: str | None = None,
) -> dict[str, Any]:
    """What an evaluation would ask and could cost: everything is loaded, nothing is generated.

    Takes and raises what `evaluate` does.

    Returns:
        The first prompt as the model would see it, problems and completions by number, the
        prompts' tokens and the longest of them, the window, the most tokens that could be
        generated, and, for a model behind a server, the first request.
    """
    asked = _ask(tasks, sampling, limit, prompt, data, preset)
    loaded, sampling = asked.tasks, asked.sampling
    jobs = [_Job.of(task, sampling) for task in loaded]
    with closing(open_engine(model, backend)) as engine:
        for job in jobs:
            refuse_overflow(engine, job.calls, job.max_tokens)
        first = jobs[0].calls[0]
        drawn = replace(sampling, max_tokens=jobs[0].max_tokens)
        remote = {"request": engine.request(first, drawn)} if isinstance(engine, Remote) else {}
        prompts = [engine.prompt_length(call) for job in jobs for call in job.calls]
        return {
            "prompt": engine.render(first),
            "problems": sum(len(task.samples) for task in loaded),
            "completions": sum(len(job.samples) for job in jobs),
            "prompt_tokens": sum(prompts),
            "longest_prompt": max(prompts),
            "window": engine.window,
            "max_tokens": {job.name: job.max_tokens for job in jobs},
            "most_tokens": sum(len(job.calls) * job.max_tokens for job in jobs),
            "device": engine.device,
            "dtype": engine.dtype,
            **asked.facts,
            **remote,
        }


@dataclass(frozen=True)
class _Job:
    """A task's samples, repeats included, and their budget."""

    name: str
    samples: tuple[Sample, ...]
    max_tokens: int

    @classmethod
    def of(cls, task: Task, sampling: Sampling) -> _Job:
        repeats = task.repeats or sampling.repeats
        repeated = (replace(s, repeat=r) for s in task.samples for r in range(repeats))
        return cls(task.name, tuple(repeated), sampling.max_tokens or task.max_tokens)

    @property
    def calls(self) -> tuple[Sample, ...]:
        """All that is asked of the model."""
        return tuple(call for sample in self.samples for call in calls(sample))


@dataclass(frozen=True)
class _Asked:
    """What is asked, a preset applied.

    Attributes:
        tasks: The problems, worded.
        sampling: How completions are drawn.
        facts: What a run keeps of the preset.
    """

    tasks: list[Task]
    sampling: Sampling
    facts: dict[str, Any]


def _ask(
    tasks: Sequence[str],
    sampling: Sampling,
    limit: int | None,
    prompt: str,
    data: str | Path | None,
    preset: str | None,
) -> _Asked:
    if preset is None:
        return _Asked(_load_tasks(tasks, limit, prompt, data), sampling, {})
    chosen, role = find_preset(preset)
    rule = chosen.roles[role]
    names = chosen.choose(tasks)
    loaded = [
        replace(task, repeats=chosen.tasks[task.name])
        for task in _load_tasks(names, limit, rule.prompt, data)
    ]
    drawn = Sampling(
        max_tokens=sampling.max_tokens or rule.max_tokens,
        temperature=chosen.temperature,
        top_p=chosen.top_p,
        seed=sampling.seed,
    )
    return _Asked(loaded, drawn, {"preset": {"name": chosen.name, "role": role}})


def _refuse_programs(tasks: Sequence[Task], *, allow_code: bool) -> None:
    """Refuse to run what a model writes, unless that was allowed."""
    for task in tasks:
        if not allow_code and any(sample.kind == "program" for sample in task.samples):
            raise TaskError(f"{task.name}: {NOT_ALLOWED[0].lower()}{NOT_ALLOWED[1:]}")


def _load_tasks(
    specs: Sequence[str], limit: int | None, prompt: str, data: str | Path | None
) -> list[Task]:
    if not specs:
        raise TaskError("There is no task to evaluate. Name one, such as lab, or a JSONL file.")
    if data is not None and len(specs) > 1 and Path(data).is_file():
        first = parse_spec(specs[0])[0]
        raise TaskError(
            f"--data {data} is one file, and there are {len(specs)} tasks. Give a folder with "
            f"{first}.jsonl and so on, or --task {first}:data=FILE."
        )
    tasks: dict[str, Task] = {}
    for spec in specs:
        task = load_task(spec, limit=limit, prompt=prompt, data=data)
        if task.name in tasks:
            raise TaskError(
                f"{tasks[task.name].source} and {spec} are both called '{task.name}'; results "
                "could not be told apart. Rename a file, or evaluate them one after the other."
            )
        tasks[task.name] = task
    return list(tasks.values())


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
    return plugin.function(_source(model), **options)


def _source(model: str | Path | Checkpoint) -> str:
    """How a backend is told the model: as the user named it, or the open checkpoint's folder."""
    return str(model.folder) if isinstance(model, Checkpoint) else str(model)


def _complete_run(folder: Path, experiment: Experiment) -> Run | None:
    """The run that is there already, where it is complete and of the same experiment."""
    try:
        run = read_run(folder)
    except RunError:
        return None  # no run, or one that the writer puts right or refuses
    return run if run.complete and not difference(run.experiment, experiment) else None


def _measure(
    engine: Backend,
    jobs: Sequence[_Job],
    experiment: Experiment,
    folder: Path | None,
    progress: Progress,
    facts: dict[str, Any],
    *,
    allow_code: bool,
    compress: bool,
) -> Run:
    """Complete and score what the folder does not hold yet, keeping each batch as it comes."""
    provenance: dict[str, Any] = {
        "command": list(sys.argv),
        "versions": versions("math-verify") | engine.versions,
        "device": engine.device,
        "window": engine.window,
        "prompts": {job.name: digest(engine, job.samples) for job in jobs},
        "started": _now(),
        **facts,
        **_engine_facts(engine),
    }
    with ExitStack() as stack:
        grader = stack.enter_context(Grader(allow_code=allow_code))
        if any(sample.kind == "program" for job in jobs for sample in job.samples):
            provenance["sandbox"] = list(grader.isolation())
        writer = None
        if folder:
            asked = [sample for job in jobs for sample in job.samples]
            writer = RunWriter(folder, experiment, provenance, compress=compress, asked=asked)
            stack.enter_context(writer)
        held = list(writer.results.values()) if writer else []
        tally = Tally(sum(len(job.samples) for job in jobs), progress)
        tally.add(held)
        tally.start()
        for results in _batches(engine, jobs, experiment.sampling, {r.key for r in held}, grader):
            if writer:
                writer.append(results)
            held += results
            tally.add(results)
        ended = {"finished": _now(), "tokens_per_second": round(tally.speed, 1)}
        ended |= _engine_facts(engine)
        provenance |= ended
        if writer:
            writer.finish(**ended)
            provenance = writer.provenance
    return Run("", experiment, tuple(held), True, folder, provenance)


def _engine_facts(engine: Backend) -> dict[str, Any]:
    """What a run keeps of a model that runs elsewhere."""
    return {"engine": engine.facts} if isinstance(engine, Remote) else {}


def _batches(
    engine: Backend,
    jobs: Sequence[_Job],
    sampling: Sampling,
    held: Container[Key],
    grader: Grader,
) -> Iterator[list[Result]]:
    """Score every completion that is not held, batch by batch."""
    for job in jobs:
        missing = [sample for sample in job.samples if sample.key not in held]
        asked = replace(sampling, max_tokens=job.max_tokens)
        for batch in complete(engine, missing, asked):
            if job.samples[0].kind == "program":
                yield score_all(batch, grader)
            else:
                yield [score(sample, generation, grader) for sample, generation in batch]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
