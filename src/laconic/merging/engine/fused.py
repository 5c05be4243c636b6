"""A merge's chain for one tensor as one call of a compiled kernel, where all its steps have one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from laconic.merging.engine.members import Members, PassResults
from laconic.methods.contract.group import random_key
from laconic.methods.contract.kernel_steps import (
    Combination,
    KernelContext,
    VectorStep,
    keep_trimmed,
)
from laconic.methods.contract.kernels import combining, counting, summing, vectors
from laconic.methods.contract.kernels.codes import CHUNK
from laconic.methods.contract.kernels.compiling import BINS, SIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from laconic.merging.engine.members import Array
    from laconic.merging.engine.thresholds import CountRequest
    from laconic.merging.plan import Plan
    from laconic.merging.step import Step


def has_kernel(plan: Plan) -> bool:
    """Whether every step of a plan declares a kernel, and so do the sums that it asks for."""
    return all(
        step.traits.kernel is not None
        and step.reach == "element"
        and (step.traits.sums is None or step.traits.sums.kernel is not None)
        for step in plan.steps
    )


class Fused:
    """Computes blocks of one tensor with the kernels.

    Args:
        plan: A plan that `has_kernel`.
        members: The tensor.
        dtype: The type stored, as safetensors writes it.
    """

    def __init__(self, plan: Plan, members: Members, dtype: str) -> None:
        self.plan = plan
        self.members = members
        self.dtype = dtype
        self.results = PassResults()
        self.chunk = CHUNK
        self._same = set(members.dtypes) == {"BF16"}
        self._models = range(len(plan.models))
        self._weights = plan.weights_for(members.name)
        self._keys = np.array(
            [random_key(plan.recipe.seed, i, members.name) for i in self._models], np.uint64
        )

    def count(self, blocks: Sequence[tuple[int, int]], done: int, request: CountRequest) -> Array:
        """The counts of some blocks after the first `done` transforms."""
        width = request.width + 2 * SIDE if request.bins else BINS
        rows = len(self._models) if request.model is None else 1
        counts = np.zeros((rows, width), np.uint32)
        chain, lows = self._chain(done, request.model), np.array(request.bins, np.uint32)
        lows <<= np.uint32(16)
        for start, stop in blocks:
            base, models = self._block(start, stop, request.model)
            counting.count(
                base, models, self.members.based, start, chain, request.every, lows, counts
            )
        if not request.bins:
            return counts
        smaller, larger = np.split(counts[:, request.width :], 2, axis=1)
        beside = np.stack([smaller.sum(1), larger.sum(1)], axis=1)
        counts[:, request.width : request.width + 2] = beside
        return counts[:, : request.width + 2]

    def places(self, start: int, stop: int, done: int, i: int, value: float) -> Array:
        """Where in a block model `i` has entries of one magnitude: their numbers, in order."""
        base, models = self._block(start, stop, i)
        out = np.empty((1, stop - start), np.float32)
        vectors.vectors(base, models, self.members.based, start, self._chain(done, i), out)
        return start + np.flatnonzero(np.abs(out[0]) == np.float32(value))

    def sums(self, start: int, stop: int, number: int, params: Mapping[str, Any]) -> Array:
        """The sums over a block's chunks that a step asks for, ``[sum, chunk]``."""
        asked_sums, only = self.plan.steps[number].traits.sums, params.get("model")
        assert asked_sums is not None
        chunks = math.ceil((stop - start) / self.chunk)
        rows = len(self._models) if only is None else 1
        base, models = self._block(start, stop, only)

        def summed(kernel: Callable[..., None], shape: tuple[int, int], done: int) -> Array:
            sums = np.empty(shape)
            kernel(base, models, self.members.based, start, self._chain(done, only), sums)
            return sums

        if asked_sums.kernel == "member_products":
            return summed(summing.pair_products, (chunks, 3), number).T
        if asked_sums.kernel == "vector_products":
            pairs = rows * (rows + 1) // 2
            return summed(summing.vector_products, (pairs, chunks), number)
        parts = [
            summed(summing.vector_magnitudes, (rows, chunks), done) for done in (number, number + 1)
        ]
        return np.concatenate(parts)

    def merge(self, start: int, stop: int) -> tuple[Array, bool]:
        """The finished block in the stored type, and whether all of it is finite."""
        direct = self.dtype != "F16"
        out = np.empty(stop - start, np.uint16 if self.dtype == "BF16" else np.float32)
        top = self._merge(start, stop, out)
        if direct:
            end = combining.BFLOAT16_END if self.dtype == "BF16" else combining.FLOAT32_END
            return out, top < int(end)
        with np.errstate(over="ignore", invalid="ignore"):
            half = out.astype(np.float16)
        return half, bool(np.isfinite(half).all())

    def fits_float32(self, start: int, stop: int) -> bool:
        """Whether a block is finite before it is rounded to the stored type."""
        top = self._merge(start, stop, np.empty(stop - start, np.float32))
        return top < int(combining.FLOAT32_END)

    def _merge(self, start: int, stop: int, out: Array) -> int:
        """Merge a block; the bits of the largest magnitude before rounding."""
        base, models = self._block(start, stop)
        combination = self._combination()
        top = combining.merge(
            base,
            models,
            self.members.based,
            start,
            self._chain(len(self.plan.before) + 1),
            combination.mode,
            np.array(combination.weights, np.float32),
            np.array(combination.numbers, np.float32),
            self._factors(),
            out,
        )
        return int(top)

    def _block(
        self, start: int, stop: int, only: int | None = None
    ) -> tuple[Array, tuple[Array, ...]]:
        """The base's block (or a stand-in) and the models', or one model's, all of one type."""
        read: Callable[..., Array] = self.members.stored if self._same else self.members.floats
        first = int(self.members.based)
        models = self._models if only is None else (only,)
        base = read(0, start, stop)
        return base, vectors.pack(tuple(read(i + first, start, stop) for i in models))

    def _chain(self, done: int, only: int | None = None) -> tuple[Array, ...]:
        """The first transforms, and the method's own trims, as the kernels take them."""
        steps = [part for number in range(done) for part in self._vector_steps(number)]
        shape = (len(steps), len(self._models))
        kinds = np.array([step.kind for step in steps], np.int64)
        numbers = np.array([step.numbers for step in steps], np.float32).reshape(shape)
        lasts = np.array([step.lasts for step in steps], np.int64).reshape(shape)
        cuts = np.array([step.cuts for step in steps], np.uint32).reshape(shape)
        if only is None:
            return kinds, numbers, lasts, cuts, self._keys
        column = slice(only, only + 1)
        columns = (np.ascontiguousarray(values[:, column]) for values in (numbers, lasts, cuts))
        return (kinds, *columns, self._keys[column])

    def _vector_steps(self, number: int) -> Sequence[VectorStep]:
        """What a transform does to the vectors; of the method its trims."""
        step, context = self.plan.steps[number], self._context(self.plan.steps[number], number)
        if step.plugin.family == "method":
            return keep_trimmed(context)
        assert step.traits.kernel is not None
        return cast("Sequence[VectorStep]", step.traits.kernel(context))

    def _context(self, step: Step, number: int | None = None) -> KernelContext:
        """One step and the tensor, for the step's kernel function.

        Args:
            step: The step.
            number: Its place among transforms and method; None for an adjustment.
        """
        results = self.results
        return KernelContext(
            params=step.params_for(self.members.name),
            weights=self._weights,
            size=self.members.size,
            limits={} if number is None else results.limits.get(number, {}),
            sums=None if number is None else results.sums.get(number),
            layer=self.members.layer,
            layers=self.plan.system2.layers,
            role=self.members.role,
        )

    def _combination(self) -> Combination:
        """How the method combines the vectors."""
        method = self.plan.method
        assert method.traits.kernel is not None
        return cast(
            "Combination", method.traits.kernel(self._context(method, len(self.plan.before)))
        )

    def _factors(self) -> Array:
        """The adjustments' factors."""
        kernels = [(step.traits.kernel, step) for step in self.plan.after]
        factors = [kernel(self._context(step)) for kernel, step in kernels if kernel is not None]
        return np.array(factors, np.float32)
