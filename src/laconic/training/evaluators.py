"""How dev problems are answered in a training: by all its processes, apart, or by a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

from laconic.errors import TrainError
from laconic.evaluation.session import measure, open_engine
from laconic.runs.run import read_run
from laconic.training.serving import ask_served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from laconic.backends.contract.backend import Backend
    from laconic.backends.contract.call import Call
    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Generation, Run
    from laconic.runtime import Progress
    from laconic.tasks.contract.task import Task
    from laconic.training.distributed import Processes
    from laconic.training.recipe import EvaluatorSection, TrainRecipe

T = TypeVar("T")
#: Completions that each process makes before results are collected and kept.
ROUND: Final = 256
#: What a launcher tells its processes; one that is started apart must not take it for its own.
LAUNCHED: Final = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK",
    "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS",
)  # fmt: skip


@dataclass
class SharedEngine:
    """Equal engines, one on every process: what the first one asks for is made by all of them.

    Attributes:
        engine: This process's own.
        ranks: The processes.
        broken: Whether a round has failed, so that nobody listens any more.
    """

    engine: Backend
    ranks: Processes
    broken: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def generate(
        self, calls: Sequence[Call], sampling: Sampling
    ) -> Iterator[list[tuple[Call, Generation]]]:
        """Complete every call once, each process its share; for the first process."""
        size = ROUND * self.ranks.count
        for start in range(0, len(calls), size):
            part = list(calls[start : start + size]), sampling
            self.ranks.on_main_process(lambda part=part: part)  # type: ignore[misc]  # a bound default
            yield self._round(*part)

    def serve(self) -> None:
        """Work for the first process until it is done; for the others."""
        while (part := self.ranks.on_main_process(lambda: None)) is not None:
            try:
                self._round(*part)
            except Exception:  # noqa: BLE001  # the first process has it, too, and tells all
                return

    def dismiss(self) -> None:
        """Let the others go on; for the first process."""
        if not self.broken:
            self.ranks.on_main_process(lambda: None)

    def _round(self, calls: Sequence[Call], sampling: Sampling) -> list[tuple[Call, Generation]]:
        mine = calls[self.ranks.index :: self.ranks.count]
        try:
            completed = self.ranks.on_all(
                lambda: list(chain.from_iterable(self.engine.generate(mine, sampling)))
            )
        except Exception:
            self.broken = True
            raise
        return list(chain.from_iterable(completed))


def on_every(engine: Backend, ranks: Processes, work: Callable[[Any], T]) -> T:
    """What `work` gives for an engine that all processes stand behind, on all of them.

    Args:
        engine: This process's engine, equal to the others'.
        ranks: The processes.
        work: Runs on the first process only.
    """
    if ranks.count == 1:
        return work(engine)
    shared = SharedEngine(engine, ranks)
    if not ranks.is_main:
        shared.serve()
        return ranks.on_main_process(lambda: work(shared))

    def run() -> T:
        try:
            return work(shared)
        finally:
            shared.dismiss()

    return ranks.on_main_process(run)


def ask(
    model: str,
    task: Task,
    sampling: Sampling,
    *,
    recipe: TrainRecipe,
    output: Path,
    ranks: Processes,
    progress: Progress,
) -> Run:
    """Evaluate a model on disk where the recipe says: by all processes, apart, or by a server.

    Returns:
        The run, on every process.
    """
    evaluator = recipe.evaluator

    def work(engine: Backend) -> Run:
        return measure(
            engine,
            [task],
            model=model,
            sampling=sampling,
            backend=evaluator.backend,
            output=output,
            progress=progress,
        )

    if evaluator.where == "apart":
        return ranks.on_main_process(
            lambda: ask_apart(model, task, sampling, evaluator=evaluator, output=output)
        )
    if evaluator.where == "served":
        return ranks.on_main_process(
            lambda: ask_served(
                model, task, sampling, recipe=recipe, output=output, progress=progress
            )
        )
    opened: list[Backend] = []
    ranks.on_all(lambda: opened.append(open_engine(model, evaluator.backend)))
    with closing(opened[0]) as engine:
        return on_every(engine, ranks, work)


def ask_apart(
    model: str, task: Task, sampling: Sampling, *, evaluator: EvaluatorSection, output: Path
) -> Run:
    """Evaluate a model by ``laconic eval`` in another process; what it finished before is used.

    Args:
        model: A checkpoint's folder, a Hub id or a ``lab:`` name.
        task: The problems; `refuse_apart` has let them pass.
        sampling: How completions are drawn; `max_tokens` is a number.
        evaluator: The engine, and the GPUs it may use.
        output: The run folder.

    Raises:
        TrainError: Where it fails, with its last words.
    """
    problems = output.parent / f"{task.name}.jsonl"
    rows = [
        {"id": s.id, "problem": s.problem, "answer": s.gold, "level": s.level} for s in task.samples
    ]
    problems.parent.mkdir(parents=True, exist_ok=True)
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "laconic", "eval", model, "--task", str(problems)),
        *("--backend", evaluator.backend, "--max-tokens", str(sampling.max_tokens)),
        *("--temperature", str(sampling.temperature), "--top-p", str(sampling.top_p)),
        *("--repeats", str(sampling.repeats), "--seed", str(sampling.seed), "-o", str(output)),
    ]
    hidden = {name for name in os.environ if name.startswith(("ACCELERATE_", "TORCHELASTIC_"))}
    environment = {k: v for k, v in os.environ.items() if k not in hidden | {*LAUNCHED}}
    if evaluator.devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = evaluator.devices
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise TrainError(f"The evaluation apart failed: {last.removeprefix('Error: ')}")
    return read_run(output)


def refuse_apart(task: Task) -> None:
    """Refuse problems that a file of problems cannot hold: prefills, raw prompts, stop texts.

    Raises:
        TrainError: Naming the first.
    """
    for sample in task.samples:
        if task.strategy != "single" or sample != replace(sample, prefill="", raw=False, stop=()):
            raise TrainError(
                f"{task.name}, problem '{sample.id}' needs a prefill, a raw prompt or two calls, "
                "which evaluator.where: apart cannot pass on. Take where: inside, or another task."
            )
