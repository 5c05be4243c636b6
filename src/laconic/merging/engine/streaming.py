"""The merge engine: streams every tensor block by block through a chain and into its file."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from laconic.checkpoints.computed_tensors import float32, rounded
from laconic.checkpoints.header import FLOATS, WIDTH
from laconic.errors import CheckpointError
from laconic.merging.engine.limits import MagnitudeCounter, find_limits
from laconic.merging.engine.members import asked_sums, asked_trims, open_members
from laconic.merging.engine.norms import give_norms
from laconic.merging.lint import equals_base
from laconic.merging.step import need_rows, need_whole
from laconic.methods.contract.sums import add

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from laconic.checkpoints.header import TensorSpec
    from laconic.merging.engine.formula import Formula
    from laconic.merging.engine.fused import Fused
    from laconic.merging.engine.members import Array, Members
    from laconic.merging.engine.options import ExecutionOptions
    from laconic.merging.engine.thresholds import Counter, CountRequest
    from laconic.merging.plan import Plan
    from laconic.methods.contract.ranking import Trim, TrimLimit
    from laconic.runtime import Progress

    Chain = Fused | Formula
    Limits = tuple[TrimLimit, ...]

#: How many tensors may be under way at once; their blocks are read when a thread takes them.
AHEAD: Final = 8


class Sink(Protocol):
    """Takes the blocks of a merge; `laconic.checkpoints.writer` has those there are."""

    finished: dict[str, dict[str, Any]]

    def put(self, name: str, start: int, values: Array) -> None:
        """Write a part of a tensor that begins at a byte of it; called from many threads."""

    def finish(self, name: str, **facts: Any) -> None:
        """Note that all of a tensor is written."""


class Engine:
    """Carries out a plan's arithmetic.

    Args:
        plan: What to merge.
        options: Where and how fast.
        writer: Takes the finished blocks; its finished tensors are left out.
        progress: Told after each tensor.

    Attributes:
        moved: For each model, whether any of its values differs from the base's.
        make_counter: Makes what counts the magnitudes of tensors that are ranked together.
        over_model: The limits of the steps that rank all tensors together, as far as found.
        norms: What merging moves in each layer before an adjustment, as far as found.
        map: Runs a function for each of some blocks in the engine's threads.
        limits: The limits of the steps that rank tensors one by one, as far as found.
        sums: The sums over tensors, as far as found.
    """

    def __init__(
        self, plan: Plan, options: ExecutionOptions, writer: Sink, progress: Progress
    ) -> None:
        from laconic.merging.engine.fused import has_kernel

        self.plan = plan
        self.options = options
        self.writer = writer
        self.progress = progress
        self.fused = options.kernels and options.device == "cpu" and has_kernel(plan)
        self.steps = (*plan.before, plan.method)
        self.whole = need_whole((*self.steps, *plan.after))
        self.rows = not self.whole and need_rows((*self.steps, *plan.after))
        earlier = [facts.get("moved", []) for facts in writer.finished.values()]
        self.moved = [any(i in facts for facts in earlier) for i in range(len(plan.models))]
        self._pool = ThreadPoolExecutor(1 if self.whole else options.workers)
        self._streams = threading.local()
        self.make_counter: Callable[[Engine, Sequence[Chain], int], Counter] = MagnitudeCounter
        self.over_model: dict[tuple[int, Trim], Mapping[str, Limits]] = {}
        self.norms: dict[int, Mapping[int, float]] = {}
        self.map = self._pool.map
        self.limits: dict[tuple[str, int, Trim], Limits] = {}
        self.sums: dict[Any, tuple[float, ...]] = {}

    def run(self) -> None:
        """Merge every tensor that is not finished; errors as for `merge_tensors`."""
        for _ in self.merge_tensors():
            pass

    def merge_tensors(self) -> Iterator[str]:
        """Merge every tensor that is not finished, and give the name of each when it is.

        Raises:
            CheckpointError: For a value that is not finite, naming tensor and model.
            OSError: Where a file cannot be written.
        """
        pending = [spec for spec in self.plan.specs if spec.name not in self.writer.finished]
        under_way: deque[tuple[TensorSpec, list[Future[None]]]] = deque()
        with self._threads():
            for spec in pending:
                under_way.append((spec, self._start(spec)))
                while len(under_way) > AHEAD or (
                    under_way and all(block.done() for block in under_way[0][1])
                ):
                    yield self._finish(*under_way.popleft())
            while under_way:
                yield self._finish(*under_way.popleft())

    def find_over_model(self) -> None:
        """Find all of `over_model`, before any tensor is merged."""
        with self._threads():
            for spec in self.plan.specs:
                for number, step in enumerate(self.steps):
                    for trim in asked_trims(step, spec.name):
                        if trim.scope == "model" and spec.name not in self.plan.copied:
                            self._model_limits(number, trim)

    def count(self, names: Iterable[str], number: int, request: CountRequest) -> Array:
        """The counts over some tensors before a step."""
        with self._threads():
            return MagnitudeCounter(self, [self.chain(name) for name in names], number)(request)

    def note(self, name: str, moved: Iterable[int] = ()) -> None:
        """Note that a tensor is finished, and which models were found to differ from the base."""
        for i in moved:
            self.moved[i] = True
        self.writer.finish(name, moved=[i for i, differs in enumerate(self.moved) if differs])
        self.writer.finished[name] = {}
        self.progress(len(self.writer.finished), len(self.plan.specs), name)

    def unchanged_models(self) -> tuple[str, ...]:
        """A note for each model that equals the base in every tensor."""
        if self.plan.base is None:
            return ()
        return tuple(
            equals_base(model.name)
            for model, moved in zip(self.plan.models, self.moved, strict=True)
            if not moved
        )

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """Stop the threads at the end, also after an error, and drop work that has not begun."""
        try:
            if self.fused or self.whole:
                yield
            else:
                from laconic.runtime import using_threads

                with using_threads(1):
                    yield
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _start(self, spec: TensorSpec) -> list[Future[None]]:
        """Run the passes that a tensor needs first, and queue its blocks."""
        if spec.name in self.plan.copied:
            return [self._pool.submit(self._copy, spec)]
        chain = self.chain(spec.name, spec.dtype)
        if not chain.members.size:
            return []
        self.prepare(chain)
        give_norms(self, chain)
        return [self._pool.submit(self._merge, chain, *block) for block in self.blocks(chain)]

    def _finish(self, spec: TensorSpec, blocks: Sequence[Future[None]]) -> str:
        for block in blocks:
            block.result()
        self.note(spec.name)
        return spec.name

    def chain(self, name: str, dtype: str = "F32") -> Chain:
        """What computes a tensor's blocks."""
        members = open_members(self.plan, name)
        if self.fused:
            from laconic.merging.engine.fused import Fused

            return Fused(self.plan, members, dtype)
        from laconic.merging.engine.formula import Formula

        return Formula(
            self.plan,
            members,
            dtype,
            device=self.options.device,
            whole=self.whole,
            rows=self.rows,
            streams=self._streams,
        )

    def blocks(self, chain: Chain, multiple: int = 1) -> Sequence[tuple[int, int]]:
        """The first and the end of each block of a tensor; blocks are of a multiple of elements."""
        size = chain.members.size
        multiple = max(multiple, chain.members.row if self.rows else 1)
        length = max(1, size) if self.whole else -(-self.options.block // multiple) * multiple
        return [(start, min(start + length, size)) for start in range(0, size, length)]

    def prepare(self, chain: Chain, done: int | None = None) -> None:
        """Run the passes that a tensor's transforms and method need, each after the steps before.

        Args:
            chain: The tensor's.
            done: Only the first so many steps; None for all.
        """
        name = chain.members.name
        for number, step in enumerate(self.steps[:done]):
            limits = chain.results.limits.setdefault(number, {})
            for trim in asked_trims(step, name, chain.members.size):
                if trim not in limits:
                    limits[trim] = self._limits(chain, number, trim)
            sums = asked_sums(step, name)
            if sums is not None and number not in chain.results.sums:
                key = (name, number, *sums.items())
                if key not in self.sums:
                    blocks = self.blocks(chain, chain.chunk)
                    parts = [
                        *self.map(lambda b, n=number, p=sums: chain.sums(b[0], b[1], n, p), blocks)
                    ]
                    self.sums[key] = tuple(map(add, np.concatenate(parts, axis=1)))
                chain.results.sums[number] = self.sums[key]

    def _limits(self, chain: Chain, number: int, trim: Trim) -> Limits:
        """The limits of a trim of one tensor."""
        name = chain.members.name
        if trim.scope == "model":
            return self._model_limits(number, trim)[name]
        if (key := (name, number, trim)) not in self.limits:
            self.limits[key] = find_limits(
                self, [chain], number, trim, MagnitudeCounter(self, [chain], number)
            )[0]
        return self.limits[key]

    def _model_limits(self, number: int, trim: Trim) -> Mapping[str, Limits]:
        """The limits of a step that ranks the entries of all tensors together, by tensor."""
        key = (number, trim)
        if key not in self.over_model:
            names = [spec.name for spec in self.plan.specs if spec.name not in self.plan.copied]
            chains = [self.chain(name) for name in names]
            limits = find_limits(
                self, chains, number, trim, self.make_counter(self, chains, number)
            )
            self.over_model[key] = dict(zip(names, limits, strict=True))
        return self.over_model[key]

    def _merge(self, chain: Chain, start: int, stop: int) -> None:
        self._note_moves(chain.members, start, stop)
        stored, finite = chain.merge(start, stop)
        if not finite:
            raise self._blame(chain, start, stop)
        self.writer.put(chain.members.name, start * WIDTH[chain.dtype], stored)

    def _copy(self, spec: TensorSpec) -> None:
        donor = self.plan.donors.get(spec.name, self.plan.system2)
        values, dtype = donor.stored(spec.name), donor.specs[spec.name].dtype
        if spec.dtype != dtype:
            values = rounded(float32(values, dtype), spec.dtype)
        self.writer.put(spec.name, 0, np.ascontiguousarray(values))

    def _note_moves(self, members: Members, start: int, stop: int) -> None:
        """Remember which models differ from the base; the first block that differs settles it."""
        if not members.based:
            return
        for i, moved in enumerate(self.moved):
            if not moved:
                base, values = (members.floats(j, start, stop) for j in (0, i + 1))
                self.moved[i] = bool((base != values).any())

    def _blame(self, chain: Chain, start: int, stop: int) -> CheckpointError:
        """Why a block is not finite."""
        name, method = chain.members.name, self.plan.method
        for j, model in enumerate(self.plan.members):
            if not np.isfinite(chain.members.floats(j, start, stop)).all():
                return CheckpointError(
                    f"'{name}' of {model.name} holds NaN or Inf: the checkpoint is broken. "
                    "Fetch or train it again."
                )
        for step in (*self.plan.before, method, *self.plan.after):
            if problem := step.nonfinite_statistics(name):
                return CheckpointError(f"{problem} {step.remedy}")
        cause = (
            f"its values do not fit {FLOATS[chain.dtype]}; choose another dtype"
            if chain.fits_float32(start, stop)
            else f"{method.plugin.name} with {dict(method.params_for(name))} made them; "
            "look at its parameters"
        )
        return CheckpointError(f"The merged '{name}' is not finite: {cause}.")
