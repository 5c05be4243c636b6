"""The errors that a user can fix, and suggestions for misspelt names."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class LaconicError(Exception):
    """An error that the user can fix; the message says what, where and what to do next."""


class RecipeError(LaconicError):
    """A recipe, a plug-in name or a parameter that cannot be used."""


class CheckpointError(LaconicError):
    """A checkpoint that is missing or damaged, or that cannot be merged with the others."""


class WorkerError(LaconicError):
    """Workers of a merge that do not start, see other files than the driver, or died."""


class TaskError(LaconicError):
    """A task or a problem file that cannot be read."""


class BackendError(LaconicError):
    """An engine that cannot load the model, or whose window is smaller than the token budget."""


class StrategyError(LaconicError):
    """A strategy that does not exist, or that the engine or the prompt cannot serve."""


class RunError(LaconicError):
    """A run folder that is missing, damaged, in use, or holds another experiment."""


class DamagedHeadError(RunError):
    """A run.json or study.json that is missing or damaged, while the results are intact."""


class SandboxError(LaconicError):
    """Programs cannot be run on this machine, or the sandbox that ran them failed."""


class DataError(LaconicError):
    """Training data that cannot be built, or that changed after they were packed."""


class TrainError(LaconicError):
    """A mixture, a measurement or the state of a training that cannot be used."""


class CalibrationError(LaconicError):
    """Statistics or samples of a calibration that are missing, damaged or do not fit the model."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A closing phrase that names the nearest known name, else all of them.

    Args:
        name: What the user wrote.
        known: The names that would have been understood.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known: {', '.join(names) or 'none'}."
