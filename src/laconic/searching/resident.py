"""One engine for all candidates: merged weights are written into the loaded model.

A candidate of a backend that is `Resident` is merged straight into the parameters of the loaded
model: the parents are read once, memory-mapped, and nothing goes to a disk. Only the tensors whose
coefficients differ from those of the candidate before are computed, and what needs a pass of its
own (magnitude thresholds, inner products) is kept for as long as the steps before the method stay
the same. Every parameter is then what loading the folder of `laconic merge` would give, bit for
bit. Other backends get each candidate as a folder in shared memory, deleted when it is loaded.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from laconic.backends.contract.backend import Renewable, Resident
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.header import FLOATS, WIDTH
from laconic.checkpoints.name_map import split_by_tensor
from laconic.errors import BackendError
from laconic.evaluation.session import open_engine
from laconic.merging.engine.members import asked_trims
from laconic.merging.engine.options import ExecutionOptions
from laconic.merging.engine.streaming import Engine
from laconic.merging.merge import execute
from laconic.merging.varying import plain_value
from laconic.runtime import silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from laconic.backends.contract.backend import Backend
    from laconic.merging.plan import Plan
    from laconic.merging.step import Step

log = logging.getLogger(__name__)
#: Where folders are kept in memory, where the system has such a place.
SHARED: Final = Path("/dev/shm")


class _Slot(Protocol):
    """An engine that is given the weights of one candidate after another."""

    def take(self, plan: Plan) -> Backend:
        """The engine with a candidate's weights; those of the one before are gone."""

    def close(self) -> None:
        """Give the memory back."""


@dataclass
class _ParentScans:
    """Kept results of passes over the parents, for plans whose steps before the method agree."""

    over_model: dict[Any, Any] = field(default_factory=dict)
    limits: dict[Any, Any] = field(default_factory=dict)
    sums: dict[Any, Any] = field(default_factory=dict)


class Weights:
    """The parameters of a loaded model, which are overwritten by one merge after another.

    Args:
        tensors: Every parameter by its checkpoint name, flat.
        plan: The merge that the model was loaded from.
        means: Where and how fast merges are done.

    Attributes:
        finished: Tensors that a merge leaves as they are.
        written: Bytes written into parameters so far.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], plan: Plan, means: ExecutionOptions | None = None
    ) -> None:
        self.finished: dict[str, dict[str, Any]] = {}
        self.written = 0
        self._lock = threading.Lock()
        self._tensors = tensors
        self._means = means or ExecutionOptions()
        self._types = {spec.name: spec.dtype for spec in plan.specs}
        self._merged = coefficients(plan)
        self._scans: dict[str, _ParentScans] = {}
        self._parents = _parents(plan)

    @staticmethod
    def fit(tensors: Mapping[str, Tensor], plan: Plan) -> bool:
        """Whether the tensors of a plan are exactly the parameters of a model."""
        merged = {s.name: math.prod(s.shape) for s in plan.specs if s.name not in plan.copied}
        own = {name: tensor.numel() for name, tensor in tensors.items()}
        if any(own.get(name) != size for name, size in merged.items()):
            return False
        reached = {tensors[s.name].data_ptr() for s in plan.specs if s.name in tensors}
        return all(tensor.data_ptr() in reached for tensor in tensors.values())

    def merge(self, plan: Plan) -> list[str]:
        """Overwrite the parameters by the merge of another plan over the same checkpoints.

        Returns:
            The names of the tensors that were computed.

        Raises:
            CheckpointError: For a value that is not finite; the next merge then makes all anew.
        """
        assert _parents(plan) == self._parents, "a model takes merges of its own parents only"
        wanted = coefficients(plan)
        changed = [name for name, deciding in wanted.items() if self._merged.get(name) != deciding]
        self.finished = {spec.name: {} for spec in plan.specs if spec.name not in changed}
        for name in changed:
            self._merged.pop(name, None)
        engine = Engine(plan, self._means, self, silent)
        engine.moved = [True] * len(plan.models)  # only a note in the folder needs to know
        scans = self._scans.setdefault(_before(plan), _ParentScans())
        engine.over_model, engine.limits = scans.over_model, scans.limits
        engine.sums = scans.sums
        engine.run()
        self._merged = wanted
        return changed

    def put(self, name: str, start: int, values: np.ndarray[Any, Any]) -> None:
        """Write a part of a parameter that begins at a byte of the tensor as it is stored."""
        import torch

        kind, bits = self._types[name], values.reshape(-1)
        first = start // WIDTH[kind]
        target = self._tensors[name][first : first + bits.nbytes // WIDTH[kind]]
        dtype = getattr(torch, FLOATS[kind])
        if target.device.type == "cpu" and target.dtype == dtype:
            target.view(torch.uint8).numpy()[:] = bits.view("u1")
        elif target.device.type == "cpu" and (kind, target.dtype) == ("BF16", torch.float32):
            wide = target.view(torch.int32).numpy().view("u4")
            np.left_shift(bits.view("u2"), 16, out=wide, dtype="u4")
        else:
            target.copy_(torch.from_numpy(bits.view("u1")).view(dtype))
        with self._lock:
            self.written += target.numel() * target.element_size()

    def finish(self, name: str, **facts: Any) -> None:
        """Nothing to note: a merge that is cut short is done again."""


class InPlaceSlot:
    """A slot whose model stays loaded.

    Args:
        engine: The backend, its model loaded from the folder of `plan`.
        weights: The model's parameters.
    """

    def __init__(self, engine: Backend, weights: Weights) -> None:
        self._engine = engine
        self._weights = weights

    def take(self, plan: Plan) -> Backend:
        """Merge into the model."""
        self._weights.merge(plan)
        return self._engine

    def close(self) -> None:
        """Give the memory back."""
        self._engine.close()


class FolderSlot:
    """A slot whose candidates are merged into a folder and loaded from there.

    An engine that is `Renewable` stays up and takes the folder's weights; where it cannot, and any
    other engine, is started anew.

    Args:
        backend: The engine, ``NAME`` or ``NAME:key=value,...``.
        work: Where the folder goes if memory has no room for it.
    """

    def __init__(self, backend: str, work: Path) -> None:
        self._backend = backend
        self._work = work
        self._engine: Backend | None = None

    def take(self, plan: Plan) -> Backend:
        """Merge, load, and delete the folder."""
        if not isinstance(self._engine, Renewable):
            self.close()
        folder = Path(tempfile.mkdtemp(prefix="laconic-", dir=self._place(plan)))
        try:
            execute(plan, folder / "merged")
            return self._load(folder / "merged")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _load(self, folder: Path) -> Backend:
        """The engine with a folder's weights: the one that is up, or a new one."""
        if isinstance(self._engine, Renewable):
            try:
                self._engine.renew(open_checkpoint(str(folder)))
            except BackendError as error:
                log.info("The engine is started anew: %s", error)
                self.close()
        if self._engine is None:
            self._engine = open_engine(folder, self._backend)
        return self._engine

    def close(self) -> None:
        """Give the memory back."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _place(self, plan: Plan) -> Path:
        """Shared memory, if twice the size of the weights is free there; else the work folder."""
        if SHARED.is_dir() and shutil.disk_usage(SHARED).free > 2 * plan.budget.written:
            return SHARED
        self._work.mkdir(parents=True, exist_ok=True)
        return self._work


class ModelSlot:
    """A slot that finds out with the first candidate whether the model can stay loaded.

    Args:
        backend: The engine, ``NAME`` or ``NAME:key=value,...``.
        work: Where a candidate's folder goes if memory has no room for it.
    """

    def __init__(self, backend: str, work: Path) -> None:
        self._folder_slot = FolderSlot(backend, work)
        self._slot: _Slot | None = None

    def take(self, plan: Plan) -> Backend:
        """The engine with a candidate's weights; those of the one before are gone."""
        if self._slot is not None:
            return self._slot.take(plan)
        engine = self._folder_slot.take(plan)
        self._slot = self._folder_slot
        if isinstance(engine, Resident):
            shapes = {spec.name: spec.shape for spec in plan.specs}
            tensors = split_by_tensor(engine.weights(), shapes)
            if Weights.fit(tensors, plan):
                self._slot = InPlaceSlot(engine, Weights(tensors, plan))
        return engine

    def close(self) -> None:
        """Give the memory back."""
        if self._slot is not None:
            self._slot.close()


def coefficients(plan: Plan) -> dict[str, str]:
    """What the values of each merged tensor depend on besides the checkpoints, by name."""
    stages = plan.steps
    names = [spec.name for spec in plan.specs if spec.name not in plan.copied]
    deciding = {
        name: json.dumps(
            [
                plan.recipe.seed,
                plan.weights_for(name),
                *([s.plugin.name, dict(s.params_for(name))] for s in stages),
            ],
            sort_keys=True,
        )
        for name in names
    }
    if any(_looks_around(stage, name) for stage in stages for name in names):
        everything = plan.recipe.digest
        return {name: f"{one} {everything}" for name, one in deciding.items()}
    return deciding


def _looks_around(stage: Step, name: str) -> bool:
    """Whether a step's result for one tensor depends on the others."""
    if stage.traits.norms or stage.reach == "model":
        return True
    return any(trim.scope == "model" for trim in asked_trims(stage, name))


def _before(plan: Plan) -> str:
    """What thresholds and inner products depend on besides their own parameters."""
    recipe = plan.recipe
    weights = [plain_value(model.weight) for model in recipe.models]
    before = [[step.name, plain_value(step.params)] for step in recipe.before]
    return json.dumps([recipe.seed, weights, before], sort_keys=True)


def _parents(plan: Plan) -> list[str]:
    return [model.fingerprint for model in (*plan.members, plan.system2)]
