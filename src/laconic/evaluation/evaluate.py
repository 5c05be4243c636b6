"""Measures a model on tasks, or shows beforehand what that would ask and cost."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laconic.backends.contract.backend import ServedBackend
from laconic.backends.contract.call import MODEL
from laconic.checkpoints.checkpoint import Checkpoint
from laconic.errors import StrategyError, TaskError
from laconic.evaluation.problem_set import ProblemSet
from laconic.evaluation.protocols.load import find_protocol
from laconic.evaluation.session import measure, open_engine, open_helpers
from laconic.registry import parse_spec
from laconic.runs.experiment import Sampling
from laconic.runtime import silent
from laconic.tasks.contract.task import Task, load_task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from laconic.runs.run import Run
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
    strategy: str | None = None,
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
        strategy: How each question is put to the model, ``NAME`` or ``NAME:key=value,...``; by
            default the prompt's own, which is one call for all prompts but ``tale-ep``.
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
    problems, facts = _load(tasks, sampling, limit, prompt, data, preset, strategy, backend)
    problems = replace(problems, allow_code=allow_code)
    problems.refuse_programs()
    problems.refuse_unable_backend()
    with closing(open_engine(model, backend)) as engine:
        return measure(
            engine,
            problems.tasks,
            model=model.name if isinstance(model, Checkpoint) else str(model),
            sampling=problems.sampling,
            backend=backend,
            allow_code=allow_code,
            output=output,
            compress=compress,
            name=name,
            progress=progress,
            facts=facts,
        )


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
    strategy: str | None = None,
) -> dict[str, Any]:
    """What an evaluation would ask and could cost: everything is loaded, nothing is generated.

    Takes and raises what `evaluate` does.

    Returns:
        The first prompt as the model would see it, problems and completions by number, the
        prompts' tokens and the longest of them, the window, the most tokens that could be
        generated, and, for a model behind a server, the first request.
    """
    problems, facts = _load(tasks, sampling, limit, prompt, data, preset, strategy, backend)
    problems.refuse_unable_backend()
    with closing(open_engine(model, backend)) as engine, open_helpers(problems) as helpers:
        engines = {MODEL: engine, **helpers}
        problems.refuse_overflow(engines)
        calls, budgets = {}, {}
        for task in problems.tasks:
            calls[task.name] = problems.planned(task, problems.repeated(task), engines)
            budgets[task.name] = problems.drawn(task).max_tokens or 0
        first = calls[problems.tasks[0].name][0]
        first_engine = engines[first.engine]
        drawn = problems.drawn(problems.tasks[0])
        every = [call for planned in calls.values() for call in planned]
        prompts = [engines[call.engine].prompt_length(call.sample) for call in every]
        return {
            "prompt": first_engine.render(first.sample),
            "problems": problems.problems,
            "completions": len(problems.samples),
            "prompt_tokens": sum(prompts),
            "longest_prompt": max(prompts),
            "window": engine.window,
            "max_tokens": budgets,
            "most_tokens": sum(
                call.budget(budgets[name]) for name, planned in calls.items() for call in planned
            ),
            "device": engine.device,
            "dtype": engine.dtype,
            **facts,
            **(
                {"request": first_engine.request(first, drawn)}
                if isinstance(first_engine, ServedBackend)
                else {}
            ),
        }


def _load(
    tasks: Sequence[str],
    sampling: Sampling,
    limit: int | None,
    prompt: str,
    data: str | Path | None,
    preset: str | None,
    strategy: str | None,
    backend: str,
) -> tuple[ProblemSet, dict[str, Any]]:
    """What a model is measured on, a preset applied, and what a run keeps of the preset."""
    facts: dict[str, Any] = {}
    repeats: Mapping[str, int] = {}
    if preset is not None:
        protocol, role = find_protocol(preset)
        tasks, prompt = protocol.choose(tasks), protocol.roles[role].prompt
        repeats = protocol.tasks
        facts = {"preset": {"name": protocol.name, "role": role}}
        sampling = Sampling(
            max_tokens=sampling.max_tokens or protocol.roles[role].max_tokens,
            temperature=protocol.temperature,
            top_p=protocol.top_p,
            seed=sampling.seed,
        )
    loaded = tuple(
        replace(
            task,
            repeats=repeats.get(task.name),
            strategy=_chosen_strategy(strategy, task.strategy, prompt),
        )
        for task in _load_tasks(tasks, limit, prompt, data)
    )
    return ProblemSet(loaded, sampling, backend), facts


def _chosen_strategy(named: str | None, of_prompt: str, prompt: str) -> str:
    """The strategy that the user names, else the prompt's.

    Raises:
        StrategyError: If the prompt has another one of its own.
    """
    if named is None or of_prompt in ("single", named):
        return named or of_prompt
    raise StrategyError(
        f"The prompt {prompt} is put to a model by the strategy {of_prompt}, and you ask for "
        f"{named}. Leave one of the two out."
    )


def _load_tasks(
    specs: Sequence[str], limit: int | None, prompt: str, data: str | Path | None
) -> tuple[Task, ...]:
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
    return tuple(tasks.values())
