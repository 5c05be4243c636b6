"""One tensor of every checkpoint of a merge, read block by block as it is stored."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from laconic.methods.contract.ranking import Scope, Trim, TrimLimit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from laconic.checkpoints.layout import Role
    from laconic.merging.plan import Plan
    from laconic.merging.step import Step

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Members:
    """One tensor of every checkpoint, flat, memory-mapped.

    Attributes:
        name: The tensor's name.
        arrays: As stored, the base first where there is one.
        dtypes: The type of each, as safetensors writes it.
        shape: The tensor's shape.
        based: Whether there is a base.
        layer: The layer it belongs to.
        role: Whether it is the embedding, or of the head.
    """

    name: str
    arrays: tuple[Array, ...]
    dtypes: tuple[str, ...]
    shape: tuple[int, ...]
    based: bool
    layer: int | None
    role: Role = ""

    @property
    def size(self) -> int:
        """How many elements the tensor has."""
        return int(self.arrays[0].size)

    @property
    def row(self) -> int:
        """How many elements a row has: a matrix's last dimension; a vector is one row."""
        return max(1, self.shape[-1] if self.shape else 1)

    def stored(self, j: int, start: int, stop: int) -> Array:
        """A block of checkpoint `j`, ready for arithmetic; a copy only if its place is odd."""
        block = self.arrays[j][start:stop]
        return _read_only(block if block.flags.aligned else block.copy())

    def floats(self, j: int, start: int, stop: int) -> Array:
        """A block of checkpoint `j` in float32."""
        block = self.stored(j, start, stop)
        if self.dtypes[j] == "BF16":
            return _read_only((block.astype(np.uint32) << np.uint32(16)).view(np.float32))
        return _read_only(block.astype(np.float32, copy=False))


def _read_only(block: Array) -> Array:
    """A view that kernels take as one type, whatever it was made from."""
    view = block.view()
    view.flags.writeable = False
    return view


def open_members(plan: Plan, name: str) -> Members:
    """A tensor of every checkpoint that is merged; the head of a tied one is its embedding."""
    names = [m.home(name) for m in plan.members]
    layout = plan.system2.layout
    pairs = list(zip(plan.members, names, strict=True))
    return Members(
        name=name,
        arrays=tuple(np.asarray(m.stored(own)).reshape(-1) for m, own in pairs),
        dtypes=tuple(m.specs[own].dtype for m, own in pairs),
        shape=tuple(plan.members[0].specs[names[0]].shape),
        based=plan.base is not None,
        layer=layout.depth.of(name),
        role=layout.role(name),
    )


@dataclass
class PassResults:
    """What passes over a tensor have found so far, which its steps need before its blocks.

    Attributes:
        limits: The limits of each trim, one a model, by the number of the step that asks.
        sums: The sums over the tensor, by the number of the step that asks.
        norms: What merging moved in each layer before an adjustment, by the adjustment's number.
    """

    limits: dict[int, dict[Trim, tuple[TrimLimit, ...]]] = field(default_factory=dict)
    sums: dict[int, tuple[float, ...]] = field(default_factory=dict)
    norms: dict[int, Mapping[int, float]] = field(default_factory=dict)


def asked_trims(step: Step, name: str, size: int = 1) -> Sequence[Trim]:
    """The trims of a step, from its parameters for a tensor of so many elements."""
    trims = step.traits.trims
    if not trims:
        return ()
    params = step.params_for(name)
    if callable(trims):
        return tuple(trims(params, size))
    scope: Scope = params.get("scope", "tensor")
    trim = Trim(params["density"], scope, params.get("ties", "all"))
    return (trim,) if trim.density < 1 else ()


def asked_sums(step: Step, name: str) -> Mapping[str, Any] | None:
    """The parameters of the sums that a step needs over a tensor; None where it needs none."""
    sums = step.traits.sums
    params = step.params_for(name)
    if sums is None or any(params[key] != value for key, value in sums.only.items()):
        return None
    _, *names = inspect.signature(sums.parts).parameters
    return {name: params[name] for name in names}
