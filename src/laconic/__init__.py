"""laconic makes reasoning models brief, and proves it.

The public names below are loaded on first use, so that ``import laconic`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laconic.checkpoints.checkpoint import Checkpoint, open_checkpoint
    from laconic.errors import LaconicError
    from laconic.evaluation.evaluate import evaluate
    from laconic.inspection.inspect import inspect
    from laconic.merging.merge import merge
    from laconic.merging.plan import plan
    from laconic.merging.recipe import Recipe
    from laconic.reporting.report import compare
    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Run, Sample, read_run
    from laconic.searching.explore import search
    from laconic.searching.study import read_study
    from laconic.training.train import train

__all__ = [
    "Checkpoint",
    "LaconicError",
    "Recipe",
    "Run",
    "Sample",
    "Sampling",
    "compare",
    "evaluate",
    "inspect",
    "merge",
    "open_checkpoint",
    "plan",
    "read_run",
    "read_study",
    "search",
    "train",
]

_HOMES = {
    "Checkpoint": "checkpoints.checkpoint",
    "LaconicError": "errors",
    "Recipe": "merging.recipe",
    "Run": "runs.run",
    "Sample": "runs.run",
    "Sampling": "runs.experiment",
    "compare": "reporting.comparison",
    "evaluate": "evaluation.evaluate",
    "inspect": "inspection.inspect",
    "merge": "merging.merge",
    "open_checkpoint": "checkpoints.checkpoint",
    "plan": "merging.plan",
    "read_run": "runs.run",
    "read_study": "searching.study",
    "search": "searching.explore",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'laconic' has no attribute '{name}'")
    value = getattr(import_module(f"laconic.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
