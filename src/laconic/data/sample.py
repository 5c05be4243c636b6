"""Sample: several answers to each problem, as a run; `laconic.evaluate` with other defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laconic.evaluation.evaluate import PLAIN, evaluate
from laconic.runs.experiment import Sampling
from laconic.runtime import silent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from laconic.runs.run import Run
    from laconic.runtime import Progress

ANSWERS: Final = 8
TEMPERATURE: Final = 0.7
TOP_P: Final = 0.95


def sample(
    model: str | Path,
    tasks: Sequence[str],
    output: str | Path | None,
    *,
    answers: int = ANSWERS,
    temperature: float = TEMPERATURE,
    top_p: float = TOP_P,
    max_tokens: int | None = None,
    seed: int = 0,
    backend: str = "transformers",
    limit: int | None = None,
    prompt: str = PLAIN,
    data: str | Path | None = None,
    allow_code: bool = False,
    compress: bool = False,
    progress: Progress = silent,
) -> Run:
    """Sample answers to problems; after an interruption the same call goes on where it stopped.

    Args:
        model: A checkpoint folder, a Hub id or a ``lab:`` name.
        tasks: ``NAME``, ``NAME:key=value,...`` or files of problems.
        output: The run folder; None keeps the run in memory only.
        answers: How many to each problem; 1 at temperature 0.
        temperature: 0 is greedy.
        top_p: The probability mass kept.
        max_tokens: The budget of an answer; by default the task's own.
        seed: The only source of randomness.
        backend: The engine, ``NAME`` or ``NAME:key=value,...``.
        limit: Only the first so many problems of each task.
        prompt: A prompt's name, or the user's turn with ``{problem}``.
        data: The problems of named tasks, a file or a folder.
        allow_code: Whether programs that the model writes may be run, in a sandbox.
        compress: Keep the results gzipped.
        progress: Told after each batch.

    Raises:
        LaconicError: As `laconic.evaluate`.
    """
    sampling = Sampling(
        max_tokens=max_tokens, temperature=temperature, top_p=top_p, repeats=answers, seed=seed
    )
    return evaluate(
        model,
        tasks,
        sampling=sampling,
        backend=backend,
        limit=limit,
        prompt=prompt,
        data=data,
        allow_code=allow_code,
        output=output,
        compress=compress,
        progress=progress,
    )
