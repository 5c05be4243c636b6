"""References: each plug-in of a merge once more, in float64 NumPy, from its formula.

One file a plug-in, under its name. It holds

- ``PARAMETERS``: for each parameter of the plug-in, a hypothesis strategy of the values to test;
- ``reference``: of a method ``(work, params) -> Array``, of an adjustment
  ``(work, merged, params) -> Array``, both giving the merged tensor; of a transform
  ``(works, params) -> None``, which changes the vectors of all tensors in place;

and where it needs them

- ``prepare``: ``(works, params) -> None`` of a method, before any tensor is merged;
  ``(works, merged) -> None`` of an adjustment;
- ``WEIGHTS``: a strategy of the models' weights, where not all are allowed;
- ``weights_fit``: ``(weights) -> bool``, whether one tensor's weights can be tested;
- ``ALWAYS``: values of parameters that would otherwise keep an unusable default;
- ``more_params``: ``(draw, models) -> Params``, parameters that depend on the number of models;
- ``LEFT_OUT``: the most elements that may be too close to call, where that is not 1 %.

A reference uses nothing of the package. `tests.methods.oracle` has what references share.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


def missing_reference(name: str) -> str:
    """What to write where a plug-in has no reference; empty where it has one."""
    path = Path(__file__).with_name(f"{name}.py")
    if path.exists():
        return ""
    return (
        f"'{name}' has no reference to be tested against: write tests/methods/references/{name}.py "
        "with PARAMETERS and a function `reference`, its formula in float64 NumPy, as "
        "tests/methods/references/__init__.py says. lines.py there is a short example."
    )


def reference_of(name: str) -> ModuleType:
    """The module of a plug-in's reference."""
    assert not missing_reference(name), missing_reference(name)
    return importlib.import_module(f"{__name__}.{name}")
