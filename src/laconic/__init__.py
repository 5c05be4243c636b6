"""laconic makes reasoning models brief, and proves it.

The public names below are loaded on first use, so that ``import laconic`` costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laconic.checkpoint import Checkpoint, open_checkpoint
    from laconic.errors import LaconicError
    from laconic.evaluate import evaluate
    from laconic.experiment import Sampling
    from laconic.inspect import inspect
    from laconic.merge import merge
    from laconic.plan import plan
    from laconic.recipe import Recipe
    from laconic.report import compare
    from laconic.run import Run, Sample, read_run
    from laconic.search import read_study, search
    from laconic.train import train

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
    "Checkpoint": "checkpoint",
    "LaconicError": "errors",
    "Recipe": "recipe",
    "Run": "run",
    "Sample": "run",
    "Sampling": "experiment",
    "compare": "report",
    "evaluate": "evaluate",
    "inspect": "inspect",
    "merge": "merge",
    "open_checkpoint": "checkpoint",
    "plan": "plan",
    "read_run": "run",
    "read_study": "search",
    "search": "search",
    "train": "train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'laconic' has no attribute '{name}'")
    value = getattr(import_module(f"laconic.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps ``laconic.merge`` the function when the module of that name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _HOMES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
