"""The merge engine: streams every tensor block by block through a chain and into its file."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from laconic.checkpoints.computed_tensors import float32, rounded
from laconic.checkpoints.header import FLOATS, WIDTH
from laconic.errors import CheckpointError
from laconic.merging.engine.members import asked_sums, asked_trims, open_members
from laconic.merging.engine.norms import give_norms
from laconic.merging.engine.thresholds import Look, Threshold, find_thresholds
from laconic.merging.lint import equals_base
from laconic.merging.step import need_rows, need_whole
from laconic.methods.contract.ranking import ALL, EVERY, NONE, Limit, Trim
from laconic.methods.contract.sums import add

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from laconic.checkpoints.header import TensorSpec
    from laconic.merging.engine.formula import Formula
    from laconic.merging.engine.fused import Fused
    from laconic.merging.engine.members import Array, Members
    from laconic.merging.engine.options import Means
    from laconic.merging.engine.thresholds import Counter
    from laconic.merging.plan import Plan
    from laconic.runtime import Progress

    Chain = Fused | Formula
    Limits = tuple[Limit, ...]

#: How many tensors may be under way at once; their blocks are read when a thread takes them.
AHEAD: Final = 8
#: The most blocks that a thread counts in one go; a stop waits for it.
TOGETHER: Final = 64


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
        means: Where and how fast.
        writer: Takes the finished blocks; its finished tensors are left out.
        progress: Told after each tensor.

    Attributes:
        moved: For each model, whether any of its values differs from the base's.
        passes: Makes what counts the magnitudes of tensors that are ranked together.
        over_model: The limits of the steps that rank all tensors together, as far as found.
        norms: What merging moves in each layer before an adjustment, as far as found.
        map: Runs a function for each of some blocks in the engine's threads.
        limits: Those of steps that rank tensors one by one; `sums`: those over tensors.
    """

    def __init__(self, plan: Plan, means: Means, writer: Sink, progress: Progress) -> None:
        from laconic.merging.engine.fused import has_kernel

        self.plan = plan
        self.means = means
        self.writer = writer
        self.progress = progress
        self.fused = means.kernels and means.device == "cpu" and has_kernel(plan)
        self.stages = (*plan.before, plan.method)
        self.whole = need_whole((*self.stages, *plan.after))
        self.rows = not self.whole and need_rows((*self.stages, *plan.after))
        earlier = [facts.get("moved", []) for facts in writer.finished.values()]
        self.moved = [any(i in facts for facts in earlier) for i in range(len(plan.models))]
        self._pool = ThreadPoolExecutor(1 if self.whole else means.workers)
        self._lock = threading.Lock()
        self._streams = threading.local()
        self.passes: Callable[[Engine, Sequence[Chain], int], Counter] = _Passes
        self.over_model: dict[tuple[int, Trim], Mapping[str, Limits]] = {}
        self.norms: dict[int, Mapping[int, float]] = {}
        self.map = self._pool.map
        self.limits: dict[tuple[str, int, Trim], Limits] = {}
        self.sums: dict[Any, tuple[float, ...]] = {}

    def run(self) -> None:
        """Merge every tensor that is not finished; errors as for `steps`."""
        for _ in self.steps():
            pass

    def steps(self) -> Iterator[str]:
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
                for step, stage in enumerate(self.stages):
                    for trim in asked_trims(stage, spec.name):
                        if trim.scope == "model" and spec.name not in self.plan.copied:
                            self._model_limits(step, trim)

    def count(self, names: Iterable[str], step: int, look: Look) -> Array:
        """The counts over some tensors before a step."""
        with self._threads():
            return _Passes(self, [self.chain(name) for name in names], step)(look)

    def note(self, name: str, moved: Iterable[int] = ()) -> None:
        """Note that a tensor is finished, and which models were found to differ from the base."""
        for i in moved:
            self.moved[i] = True
        self.writer.finish(name, moved=[i for i, differs in enumerate(self.moved) if differs])
        self.writer.finished[name] = {}
        self.progress(len(self.writer.finished), len(self.plan.specs), name)

    def still(self) -> tuple[str, ...]:
        """A note for each model that equals the base everywhere."""
        if self.plan.base is None:
            return ()
        return tuple(
            equals_base(model.name)
            for model, moved in zip(self.plan.models, self.moved, strict=True)
            if not moved
        )

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """Stop the threads at the end, whatever it is, without work that has not begun."""
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
        """Find out what a tensor's chain must know, and queue its blocks."""
        if spec.name in self.plan.copied:
            return [self._pool.submit(self._copy, spec)]
        chain = self.chain(spec.name, spec.dtype)
        if not chain.members.size:
            return []
        self.make_ready(chain)
        give_norms(self, chain)
        return [self._pool.submit(self._merge, chain, *block) for block in self.blocks(chain)]

    def make_ready(self, chain: Chain) -> None:
        """Find what the transforms and the method must know of a tensor."""
        self._prepare(chain, len(self.stages))

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
            device=self.means.device,
            whole=self.whole,
            rows=self.rows,
            streams=self._streams,
        )

    def blocks(self, chain: Chain, multiple: int = 1) -> Sequence[tuple[int, int]]:
        """The first and the end of each block of a tensor; blocks are of a multiple of elements."""
        size = chain.members.size
        multiple = max(multiple, chain.members.row if self.rows else 1)
        step = max(1, size) if self.whole else -(-self.means.block // multiple) * multiple
        return [(start, min(start + step, size)) for start in range(0, size, step)]

    def _prepare(self, chain: Chain, steps: int) -> None:
        """Find what a tensor's first steps ask for, each after the ones before it."""
        name = chain.members.name
        for step, stage in enumerate(self.stages[:steps]):
            limits = chain.found.limits.setdefault(step, {})
            for trim in asked_trims(stage, name, chain.members.size):
                if trim not in limits:
                    limits[trim] = self._limits(chain, step, trim)
            sums = asked_sums(stage, name)
            if sums is not None and step not in chain.found.sums:
                key = (name, step, *sums.items())
                if key not in self.sums:
                    blocks = self.blocks(chain, chain.chunk)
                    parts = [
                        *self.map(lambda b, n=step, p=sums: chain.sums(b[0], b[1], n, p), blocks)
                    ]
                    self.sums[key] = tuple(map(add, np.concatenate(parts, axis=1)))
                chain.found.sums[step] = self.sums[key]

    def _limits(self, chain: Chain, step: int, trim: Trim) -> Limits:
        """The limits of a trim of one tensor."""
        name = chain.members.name
        if trim.scope == "model":
            return self._model_limits(step, trim)[name]
        if (key := (name, step, trim)) not in self.limits:
            self.limits[key] = self._find([chain], step, trim, _Passes(self, [chain], step))[0]
        return self.limits[key]

    def _model_limits(self, step: int, trim: Trim) -> Mapping[str, Limits]:
        """The limits of a step that ranks the entries of all tensors together, by tensor."""
        key = (step, trim)
        if key not in self.over_model:
            names = [spec.name for spec in self.plan.specs if spec.name not in self.plan.copied]
            chains = [self.chain(name) for name in names]
            limits = self._find(chains, step, trim, self.passes(self, chains, step))
            self.over_model[key] = dict(zip(names, limits, strict=True))
        return self.over_model[key]

    def _find(
        self, chains: Sequence[Chain], step: int, trim: Trim, passes: Counter
    ) -> list[Limits]:
        """The limits of a step over all of these tensors together, for each of them."""
        size = sum(chain.members.size for chain in chains)
        count = trim.keeps(self._nonzero(passes, size) if trim.nonzero else size)
        if not 0 < count < size:
            return [(NONE if count < 1 else ALL,) * len(self.plan.models)] * len(chains)
        found = find_thresholds(passes, size, count, trim.model)
        if trim.ties == "all":
            return [tuple(Limit(one.value, EVERY) for one in found)] * len(chains)
        for chain in chains:
            self._prepare(chain, step)
        models = range(len(found)) if trim.model is None else (trim.model,)
        by_model = [self._lasts(chains, step, i, one) for i, one in zip(models, found, strict=True)]
        if trim.model is not None:
            every = [ALL] * len(chains)
            by_model = [
                by_model[0] if i == trim.model else every for i in range(len(self.plan.models))
            ]
        return [tuple(limits) for limits in zip(*by_model, strict=True)]

    def _nonzero(self, passes: Counter, size: int) -> int:
        """How many entries of the one thing that is ranked are not 0."""
        (row,) = passes(Look(bins=(0,)))
        return size - int(row[0])

    def _lasts(self, chains: Sequence[Chain], step: int, i: int, found: Threshold) -> list[Limit]:
        """Model `i`'s limit in each tensor where only the first entries at it are kept."""
        limits, spare = [], found.spare
        for chain in chains:
            last = EVERY
            if found.spare < found.tied:
                blocks = self.blocks(chain)
                find = partial(_places, chain, step, i, found.value)
                last, spare = _last(
                    find, self.map(lambda b, f=find: len(f(b)), blocks), blocks, spare
                )
            limits.append(Limit(found.value, last))
        return limits

    def _merge(self, chain: Chain, start: int, stop: int) -> None:
        self._note_moves(chain.members, start, stop)
        stored, finite = chain.merge(start, stop)
        if not finite:
            raise self._blame(chain, start, stop)
        self.writer.put(chain.members.name, start * WIDTH[chain.dtype], stored)

    def _copy(self, spec: TensorSpec) -> None:
        donor = self.plan.donors.get(spec.name, self.plan.system2)
        values, own = donor.stored(spec.name), donor.specs[spec.name]
        if spec.dtype != own.dtype:
            values = rounded(float32(values, own.dtype), spec.dtype)
        self.writer.put(spec.name, 0, np.ascontiguousarray(values))

    def _note_moves(self, members: Members, start: int, stop: int) -> None:
        """Remember which models differ from the base; the first block that differs settles it."""
        if not members.based:
            return
        for i, moved in enumerate(self.moved):
            if not moved:
                base, own = (members.floats(j, start, stop) for j in (0, i + 1))
                self.moved[i] = bool((base != own).any())

    def _blame(self, chain: Chain, start: int, stop: int) -> CheckpointError:
        """Why a block is not finite."""
        name, method = chain.members.name, self.plan.method
        for j, model in enumerate(self.plan.members):
            if not np.isfinite(chain.members.floats(j, start, stop)).all():
                return CheckpointError(
                    f"'{name}' of {model.name} holds NaN or Inf: the checkpoint is broken. "
                    "Fetch or train it again."
                )
        for stage in (*self.plan.before, method, *self.plan.after):
            if spoilt := stage.spoilt(name):
                return CheckpointError(f"{spoilt} {stage.remedy}")
        cause = (
            f"its values do not fit {FLOATS[chain.dtype]}; choose another dtype"
            if chain.fits_float32(start, stop)
            else f"{method.plugin.name} with {dict(method.params_for(name))} made them; "
            "look at its parameters"
        )
        return CheckpointError(f"The merged '{name}' is not finite: {cause}.")


class _Passes:
    """Counts the magnitudes of some tensors together, block by block in the engine's threads."""

    def __init__(self, engine: Engine, chains: Sequence[Chain], step: int) -> None:
        self.engine = engine
        self.chains = chains
        self.step = step
        for chain in chains:
            engine._prepare(chain, step)

    def __call__(self, look: Look) -> Array:
        total = np.zeros((), np.int64)

        def count(job: tuple[Chain, Sequence[tuple[int, int]]]) -> Array:
            chain, blocks = job
            return chain.count(blocks, self.step, look)

        jobs = [(chain, part) for chain in self.chains for part in self._parts(chain)]
        for done, counts in enumerate(self.engine._pool.map(count, jobs), start=1):
            total = total + counts
            if len(self.chains) > 1:
                self.engine.progress(done, len(jobs), "threshold")
        return total

    def _parts(self, chain: Chain) -> Iterator[Sequence[tuple[int, int]]]:
        """A tensor's blocks in as many parts as there are threads, none of them too long to stop.

        Blocks of a part share their room for the counts.
        """
        blocks = self.engine.blocks(chain)
        length = max(1, min(TOGETHER, -(-len(blocks) // self.engine.means.workers)))
        for start in range(0, len(blocks), length):
            yield blocks[start : start + length]


def _last(
    find: Callable[[tuple[int, int]], Array],
    counts: Iterable[int],
    blocks: Sequence[tuple[int, int]],
    spare: int,
) -> tuple[int, int]:
    """The last entry kept among those at a limit, and how many may still be kept after a tensor.

    Args:
        find: The places of the entries at the limit in a block.
        counts: How many each block has.
        blocks: The tensor's blocks.
        spare: How many of them are kept, from here on.
    """
    if spare < 1:
        return -1, 0
    for block, count in zip(blocks, counts, strict=False):
        if count >= spare:
            return int(find(block)[spare - 1]), 0
        spare -= count
    return EVERY, spare


def _places(chain: Chain, step: int, i: int, value: float, block: tuple[int, int]) -> Array:
    return chain.places(*block, step, i, value)
