"""A merge's chain for one tensor as one call of a compiled kernel, where there is one for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from laconic.merging.engine.members import Found, Members
from laconic.methods import (
    average,
    breadcrumbs,
    model_stock,
    nuslerp,
    slerp,
    sparsify,
    weighted_sum,
)
from laconic.methods.contract import kernels
from laconic.methods.contract.group import random_key
from laconic.methods.contract.ranking import EVERY
from laconic.methods.lines import factor_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from laconic.merging.engine.members import Array
    from laconic.merging.engine.thresholds import Look
    from laconic.merging.plan import Plan
    from laconic.merging.step import Stage
    from laconic.methods.contract.ranking import Limit

    #: A kernel's step: what it is, then for each model its number, last element and cut.
    Step = tuple[int, Sequence[float], Sequence[int], Sequence[int]]

#: The plug-ins that the kernels know; a chain of these and no other is fused.
TRANSFORMS: Final = {"breadcrumbs", "dare", "sparsify", "trim"}
METHODS: Final = {
    *("average", "elect", "model_stock", "nuslerp"),
    *("slerp", "task_arithmetic", "ties", "weighted_sum"),
}
ADJUSTMENTS: Final = {"lines"}
#: DARE's cut where every element is kept.
UNCUT: Final = 1 << 24


def has_kernel(plan: Plan) -> bool:
    """Whether every stage of a plan is one that the kernels know."""
    return (
        all(stage.plugin.name in TRANSFORMS for stage in plan.before)
        and plan.method.plugin.name in METHODS
        and plan.method.reach == "element"
        and all(stage.plugin.name in ADJUSTMENTS for stage in plan.after)
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
        self.found = Found()
        self.chunk = kernels.CHUNK
        self._same = set(members.dtypes) == {"BF16"}
        self._models = range(len(plan.models))
        self._keys = np.array(
            [random_key(plan.recipe.seed, i, members.name) for i in self._models], np.uint64
        )

    def count(self, blocks: Sequence[tuple[int, int]], steps: int, look: Look) -> Array:
        """The counts of some blocks after the first transforms."""
        width = look.width + 2 * kernels.SIDE if look.bins else kernels.BINS
        counts = np.zeros((1 if look.model is not None else len(self._models), width), np.uint32)
        chain, lows = (
            self._chain(steps, look.model),
            np.array(look.bins, np.uint32) << np.uint32(16),
        )
        for start, stop in blocks:
            base, models = self._block(start, stop, look.model)
            kernels.count(base, models, self.members.based, start, chain, look.every, lows, counts)
        if not look.bins:
            return counts
        smaller, larger = np.split(counts[:, look.width :], 2, axis=1)
        counts[:, look.width : look.width + 2] = np.stack([smaller.sum(1), larger.sum(1)], axis=1)
        return counts[:, : look.width + 2]

    def places(self, start: int, stop: int, steps: int, i: int, value: float) -> Array:
        """Where in a block model `i` has entries of one magnitude: their numbers, in order."""
        base, models = self._block(start, stop, i)
        out = np.empty((1, stop - start), np.float32)
        kernels.vectors(base, models, self.members.based, start, self._chain(steps, i), out)
        return start + np.flatnonzero(np.abs(out[0]) == np.float32(value))

    def sums(self, start: int, stop: int, step: int, params: Mapping[str, Any]) -> Array:
        """The sums over a block's chunks that a step asks for, ``[sum, chunk]``."""
        name, based = self._stage(step).plugin.name, self.members.based
        only = params.get("model")
        base, models = self._block(start, stop, only)
        rows, chunks = len(self._models), math.ceil((stop - start) / self.chunk)
        if name == "slerp":
            pair = np.empty((chunks, 3))
            kernels.pair_products(base, models, based, start, self._chain(step), pair)
            return pair.T
        if name != "sparsify":
            out = np.empty((rows * (rows + 1) // 2, chunks))
            kernels.vector_products(base, models, based, start, self._chain(step), out)
            return out
        parts = []
        for steps in (step, step + 1):
            out = np.empty((rows if only is None else 1, chunks))
            chain = self._chain(steps, only)
            kernels.vector_magnitudes(base, models, based, start, chain, out)
            parts.append(out)
        return np.concatenate(parts)

    def merge(self, start: int, stop: int) -> tuple[Array, bool]:
        """The finished block in the stored type, and whether all of it is finite."""
        direct = self.dtype != "F16"
        out = np.empty(stop - start, np.uint16 if self.dtype == "BF16" else np.float32)
        top = self._merge(start, stop, out)
        if direct:
            end = kernels.BFLOAT16_END if self.dtype == "BF16" else kernels.FLOAT32_END
            return out, top < int(end)
        with np.errstate(over="ignore", invalid="ignore"):
            half = out.astype(np.float16)
        return half, bool(np.isfinite(half).all())

    def fits_float32(self, start: int, stop: int) -> bool:
        """Whether a block is finite before it is rounded to the stored type."""
        top = self._merge(start, stop, np.empty(stop - start, np.float32))
        return top < int(kernels.FLOAT32_END)

    def _merge(self, start: int, stop: int, out: Array) -> int:
        base, models = self._block(start, stop)
        mode, weights, scales = self._method()
        chain, factors = self._chain(len(self.plan.before) + 1), self._factors()
        based = self.members.based
        top = kernels.merge(base, models, based, start, chain, mode, weights, scales, factors, out)
        return int(top)

    def _block(
        self, start: int, stop: int, only: int | None = None
    ) -> tuple[Array, tuple[Array, ...]]:
        """The base's block (or a stand-in) and the models', or one model's, all of one type."""
        read: Callable[..., Array] = self.members.stored if self._same else self.members.floats
        first = int(self.members.based)
        wanted = self._models if only is None else (only,)
        base = read(0, start, stop)
        return base, kernels.pack(tuple(read(i + first, start, stop) for i in wanted))

    def _stage(self, step: int) -> Stage:
        """A transform, or the method."""
        return (*self.plan.before, self.plan.method)[step]

    def _chain(self, steps: int, only: int | None = None) -> tuple[Array, ...]:
        """The first transforms, the method's own trim counted as one, as the kernels take them."""
        found = [part for step in range(steps) for part in self._parts(step)]
        shape = (len(found), len(self._models))
        kinds = np.array([kind for kind, *_ in found], np.int64)
        numbers, lasts, cuts = (
            np.array([part[n] for part in found], kind).reshape(shape)
            for n, kind in ((1, np.float32), (2, np.int64), (3, np.uint32))
        )
        if only is None:
            return kinds, numbers, lasts, cuts, self._keys
        one = slice(only, only + 1)
        return (
            kinds,
            *(np.ascontiguousarray(a[:, one]) for a in (numbers, lasts, cuts)),
            self._keys[one],
        )

    def _parts(self, step: int) -> Iterator[Step]:
        """What a stage is to the kernels."""
        stage = self._stage(step)
        params, name = stage.params_for(self.members.name), stage.plugin.name
        limits = self.found.limits.get(step, {})
        if name == "dare":
            yield self._chance(params["density"], 1 / params["density"] if params["rescale"] else 1)
        elif name == "breadcrumbs":
            outer, inner = breadcrumbs.trims_of(self.members.size, **params)
            if outer in limits:
                yield self._trim(limits[outer])
            if inner in limits:
                _, values, lasts, cuts = self._trim(limits[inner])
                yield kernels.OUTLIERS, values, lasts, cuts
        elif name == "sparsify":
            if params["by"] == "chance":
                yield self._chance(params["density"], 1.0, params["model"])
            for found in limits.values():
                yield self._trim(found)
            if (sums := self.found.sums.get(step)) is not None:
                yield self._scale(sparsify.factors(sums), params["model"])
        else:
            for found in limits.values():
                yield self._trim(found)

    def _trim(self, limits: Sequence[Limit]) -> Step:
        exact = any(limit.last != EVERY for limit in limits)
        kind = kernels.TRIM_EXACTLY if exact else kernels.TRIM
        values, lasts = zip(*limits, strict=True)
        return kind, values, lasts, [0] * len(limits)

    def _chance(self, density: float, factor: float, only: int | None = None) -> Step:
        cut = math.ceil(float(np.float32(density)) * UNCUT)
        cuts = [cut if only in (None, i) else UNCUT for i in self._models]
        return kernels.DARE, [factor] * len(cuts), [EVERY] * len(cuts), cuts

    def _scale(self, factors: Sequence[float], only: int | None) -> Step:
        every = (
            factors if only is None else [factors[0] if i == only else 1.0 for i in self._models]
        )
        return kernels.SCALE, every, [EVERY] * len(every), [0] * len(every)

    def _method(self) -> tuple[int, Array, Array]:
        """The kernel's mode, the models' weights and the scale, scale and divisor, or shares."""
        method = self.plan.method
        params, name = method.params_for(self.members.name), method.plugin.name
        weights: Sequence[float] = self.plan.weights_for(self.members.name)
        sums = self.found.sums.get(len(self.plan.before), ())
        mode, scales = kernels.SUM, [params.get("scale", 1.0)]
        if name == "average":
            mode, scales = kernels.MEAN, [1.0, average.divisor(weights)]
        elif name == "weighted_sum":
            total = weighted_sum.divisor(weights, normalise=params["normalise"])
            mode, scales = kernels.MEAN, [params["scale"], total]
        elif name == "model_stock":
            mode, scales = kernels.MEAN, [model_stock.ratio(sums), float(len(weights))]
            weights = [1.0] * len(weights)
        elif name == "ties" and len(weights) > 1:
            mode = kernels.VOTE
        elif name == "elect":
            mode, scales = kernels.ELECT, [params["scale"], float(params["normalise"])]
        elif name == "slerp":
            aa, ab, bb = sums
            mode, scales = kernels.PAIR, list(slerp.shares(aa, ab, bb, **params))
        elif name == "nuslerp":
            weights = nuslerp.shares_of(sums, nuslerp.share(weights))
        return mode, np.array(weights, np.float32), np.array(scales, np.float32)

    def _factors(self) -> Array:
        """The adjustments' factors."""
        role, layer, layers = self.members.role, self.members.layer, self.plan.system2.layers
        params = [stage.params_for(self.members.name) for stage in self.plan.after]
        return np.array(
            [factor_at(role, layer, layers, p["first"], p["last"]) for p in params], np.float32
        )
