"""A merge's chain for one tensor as one call of a compiled kernel, where there is one for it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from laconic import kernels
from laconic.engine.members import Found, Members
from laconic.method import EVERY, random_key
from laconic.methods import average, slerp, weighted_sum
from laconic.methods.lines import factor_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from laconic.engine.members import Array
    from laconic.plan import Plan
    from laconic.thresholds import Look

#: The plug-ins that the kernels know; a chain of these and no other is fused.
TRANSFORMS: Final = {"dare", "trim"}
METHODS: Final = {"average", "task_arithmetic", "ties", "slerp", "weighted_sum"}
ADJUSTMENTS: Final = {"lines"}


def has_kernel(plan: Plan) -> bool:
    """Whether every stage of a plan is one that the kernels know."""
    return (
        all(stage.plugin.name in TRANSFORMS for stage in plan.before)
        and plan.method.plugin.name in METHODS
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
        self.found = Found({})
        self._same = set(members.dtypes) == {"BF16"}
        models = range(len(plan.models))
        self._keys = np.array(
            [random_key(plan.recipe.seed, i, members.name) for i in models], np.uint64
        )

    def count(self, blocks: Sequence[tuple[int, int]], steps: int, look: Look) -> Array:
        """The counts of some blocks after the first transforms."""
        width = look.width + 2 * kernels.SIDE if look.bins else kernels.BINS
        counts = np.zeros((len(self._keys), width), np.uint32)
        chain, lows = self._chain(steps), np.array(look.bins, np.uint32) << np.uint32(16)
        for start, stop in blocks:
            base, models = self._block(start, stop)
            kernels.count(base, models, self.members.based, start, chain, look.every, lows, counts)
        if not look.bins:
            return counts
        smaller, larger = np.split(counts[:, look.width :], 2, axis=1)
        counts[:, look.width : look.width + 2] = np.stack([smaller.sum(1), larger.sum(1)], axis=1)
        return counts[:, : look.width + 2]

    def places(self, start: int, stop: int, steps: int, i: int, value: float) -> Array:
        """Where in a block model `i` has entries of one magnitude: their numbers, in order."""
        base, models = self._block(start, stop)
        out = np.empty((len(self._keys), stop - start), np.float32)
        kernels.vectors(base, models, self.members.based, start, self._chain(steps), out)
        return start + np.flatnonzero(np.abs(out[i]) == np.float32(value))

    def products(self, start: int, stop: int) -> Array:
        """The inner products of a block's two members, ``[chunk, 3]``."""
        base, models = self._block(start, stop)
        sums = np.empty((math.ceil((stop - start) / kernels.CHUNK), 3))
        chain = self._chain(len(self.plan.before))
        kernels.pair_products(base, models, self.members.based, start, chain, sums)
        return sums

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

    def _block(self, start: int, stop: int) -> tuple[Array, tuple[Array, ...]]:
        """The base's block (or a stand-in) and the models', all of one type."""
        read: Callable[..., Array] = self.members.stored if self._same else self.members.floats
        blocks = tuple(read(j, start, stop) for j in range(len(self.members.arrays)))
        return blocks[0], kernels.pack(blocks[1:] if self.members.based else blocks)

    def _chain(self, steps: int) -> tuple[Array, ...]:
        """The first transforms, the method's own trim counted as one, as the kernels take them."""
        models = len(self.plan.models)
        kinds, numbers, lasts, cuts = [], [], [], []
        for step, stage in enumerate((*self.plan.before, self.plan.method)[:steps]):
            limits = self.found.limits.get(step)
            if stage.plugin.name == "dare":
                params = stage.params_for(self.members.name)
                density, rescale = params["density"], params["rescale"]
                kinds.append(kernels.DARE)
                numbers.append([1 / density if rescale else 1.0] * models)
                cuts.append(math.ceil(float(np.float32(density)) * 2**24))
                lasts.append([EVERY] * models)
            elif limits is not None:
                exact = any(limit.last != EVERY for limit in limits)
                kinds.append(kernels.TRIM_EXACTLY if exact else kernels.TRIM)
                numbers.append([limit.value for limit in limits])
                cuts.append(0)
                lasts.append([limit.last for limit in limits])
        shape = (len(kinds), models)
        return (
            np.array(kinds, np.int64),
            np.array(numbers, np.float32).reshape(shape),
            np.array(lasts, np.int64).reshape(shape),
            np.array(cuts, np.uint32),
            self._keys,
        )

    def _method(self) -> tuple[int, Array, Array]:
        """The kernel's mode, the models' weights and the scale, scale and divisor, or shares."""
        method = self.plan.method
        params = method.params_for(self.members.name)
        weights = self.plan.weights_for(self.members.name)
        mode, scales = kernels.SUM, [params.get("scale", 1.0)]
        if method.plugin.name == "average":
            mode, scales = kernels.MEAN, [1.0, average.divisor(weights)]
        elif method.plugin.name == "weighted_sum":
            total = weighted_sum.divisor(weights, normalise=params["normalise"])
            mode, scales = kernels.MEAN, [params["scale"], total]
        elif method.plugin.name == "ties" and len(weights) > 1:
            mode = kernels.VOTE
        elif method.plugin.name == "slerp":
            assert self.found.inner is not None
            mode, scales = kernels.PAIR, list(slerp.shares(*self.found.inner, params["t"]))
        return mode, np.array(weights, np.float32), np.array(scales, np.float32)

    def _factors(self) -> Array:
        """The adjustments' factors."""
        role, layer, layers = self.members.role, self.members.layer, self.plan.system2.layers
        params = [stage.params_for(self.members.name) for stage in self.plan.after]
        return np.array(
            [factor_at(role, layer, layers, p["first"], p["last"]) for p in params], np.float32
        )
