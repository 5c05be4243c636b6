"""The merged block: task vectors combined, added to the base, adjusted and rounded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.types import uint16
from numba.extending import overload

from laconic.methods.contract.kernels.codes import ELECT, MEAN, PAIR, SUM, TRIM, VOTE
from laconic.methods.contract.kernels.compiling import TILE, Array, compiled, f32, part, u16, u32
from laconic.methods.contract.kernels.vectors import load, number, transform

#: The bits of the smallest float32 that bfloat16 would round to infinity, and of infinity.
BFLOAT16_END, FLOAT32_END = u32(0x7F7F8000), u32(0x7F800000)


@part
def add_loaded(base: Array, values: Array, based: bool, weight: np.float32, total: Array) -> None:
    """Add a weighted task vector that no transform changes, straight from what is stored."""
    for e in range(len(total)):
        total[e] += (number(values[e]) - (number(base[e]) if based else f32(0))) * weight


@part
def add_two(base: Array, one: Array, two: Array, based: bool, weights: Array, total: Array) -> None:
    """The same for two models, one after the other."""
    first, second = weights[0], weights[1]
    for e in range(len(total)):
        origin = number(base[e]) if based else f32(0)
        total[e] += (number(one[e]) - origin) * first
        total[e] += (number(two[e]) - origin) * second


@part
def add_all(
    base: Array, models: Any, based: bool, start: int, weights: Array, total: Array
) -> None:
    """Add the weighted task vectors of all models in a tile."""
    stop, even = start + len(total), len(weights) - len(weights) % 2
    for i in range(0, even, 2):
        one, two = models[i][start:stop], models[i + 1][start:stop]
        add_two(base, one, two, based, weights[i : i + 2], total)
    if even < len(weights):
        add_loaded(base, models[even][start:stop], based, weights[even], total)


@part
def add(v: Array, weight: np.float32, total: Array) -> None:
    """Add a weighted tile."""
    for e in range(len(total)):
        total[e] += v[e] * weight


@part
def elect(vectors: Array, shares: Array, sign: Array, count: Array, total: Array) -> None:
    """Replace the total by the sum of the weighted vectors that agree with its sign.

    Args:
        vectors: The weighted vectors, ``[model, element]``.
        shares: What each model counts in the count, float32.
        sign: Room for the elected sign.
        count: Where the sum of the shares of the vectors that agree goes; 1 instead of 0.
        total: The sum of all vectors; becomes the sum of those that agree.
    """
    for e in range(len(total)):
        sign[e] = f32(total[e] >= f32(0)) * f32(2) - f32(1)
    total[:] = f32(0)
    count[:] = f32(0)
    for i in range(len(vectors)):
        v = vectors[i][: len(total)]
        for e in range(len(total)):
            agrees = f32(v[e] * sign[e] > f32(0))
            total[e] += v[e] * agrees
            count[e] += shares[i] * agrees
    for e in range(len(total)):
        count[e] += f32(count[e] == f32(0))


@part
def finish_sum(base: Array, based: bool, scale: np.float32, total: Array) -> None:
    """The base plus the scaled total."""
    for e in range(len(total)):
        total[e] = (number(base[e]) if based else f32(0)) + scale * total[e]


@part
def finish_quotient(
    base: Array, based: bool, scale: np.float32, divisor: np.float32, total: Array
) -> None:
    """The base plus the scaled total over a number."""
    for e in range(len(total)):
        step = scale * total[e] / divisor
        total[e] = (number(base[e]) if based else f32(0)) + step


@part
def finish_mean(base: Array, based: bool, scale: np.float32, count: Array, total: Array) -> None:
    """The base plus the scaled total over each element's count."""
    for e in range(len(total)):
        step = scale * total[e] / count[e]
        total[e] = (number(base[e]) if based else f32(0)) + step


@part
def finish_elected(base: Array, based: bool, scale: np.float32, count: Array, total: Array) -> None:
    """The base plus the scale times the total over each element's count."""
    for e in range(len(total)):
        step = scale * (total[e] / count[e])
        total[e] = (number(base[e]) if based else f32(0)) + step


@part
def finish_pair(
    base: Array, based: bool, left: np.float32, right: np.float32, vectors: Array, total: Array
) -> None:
    """Two checkpoints, each times its share; the base is the first where there is one."""
    x, y = vectors[0][: len(total)], vectors[len(vectors) - 1][: len(total)]
    for e in range(len(total)):
        a = number(base[e]) if based else f32(0) + x[e]
        total[e] = left * a + right * (a + x[e] if based else f32(0) + y[e])


@part
def adjust(base: Array, based: bool, factor: np.float32, total: Array) -> None:
    """Scale the merged task vector."""
    for e in range(len(total)):
        a = number(base[e]) if based else f32(0)
        total[e] = a + factor * (total[e] - a)


def place(x: Any, out: Array, e: int) -> Any:
    """Round a number into its place in the output; returns its magnitude's bits before that."""
    raise NotImplementedError("compiled only")


@overload(place, inline="always")
def _place(x, out, e):  # type: ignore[no-untyped-def]  # as above
    if out.dtype == uint16:

        def rounded(x, out, e):  # type: ignore[no-untyped-def]
            bits = f32(x).view(np.uint32)
            half = u32(u32(0x7FFF) + u32(u32(bits >> u32(16)) & u32(1)))
            out[e] = u16(u32(u32(bits + half) >> u32(16)))
            return u32(bits & u32(0x7FFFFFFF))

        return rounded

    def copied(x, out, e):  # type: ignore[no-untyped-def]
        out[e] = x
        return u32(f32(x).view(np.uint32) & u32(0x7FFFFFFF))

    return copied


@part
def store(x: Array, out: Array) -> np.uint32:
    """Round a tile into the output; returns the largest magnitude's bits before rounding."""
    top = u32(0)
    for e in range(len(out)):
        top = max(top, place(x[e], out, e))
    return top


@part
def step(
    base: Array, values: Array, weight: np.float32, scale: np.float32, out: Array
) -> np.uint32:
    """Add one scaled task vector to the base, from what is stored to what is stored, in one go."""
    top = u32(0)
    for e in range(len(out)):
        origin = number(base[e])
        total = f32(0) + (number(values[e]) - origin) * weight
        top = max(top, place(origin + scale * total, out, e))
    return top


@part
def trimmed_step(
    base: Array, values: Array, limit: np.float32, weight: np.float32, scale: np.float32, out: Array
) -> np.uint32:
    """The same for a task vector of which only the entries from the limit on are kept."""
    top = u32(0)
    for e in range(len(out)):
        origin = number(base[e])
        v = number(values[e]) - origin
        v *= f32(abs(v) >= limit)
        total = f32(0) + v * weight
        top = max(top, place(origin + scale * total, out, e))
    return top


@compiled
def merge(
    base: Array, models: Any, based: bool, first: int, chain: Any, mode: int, weights: Array,
    shares: Array, factors: Array, out: Array,
) -> np.uint32:  # fmt: skip
    """Merge one block.

    Args:
        base: The base's block as stored; anything of the right type where there is no base.
        models: Each model's block, from `pack`.
        based: Whether there is a base.
        first: The number of the block's first element in its tensor.
        chain: Steps, numbers, lasts, cuts and keys, as for `transform`.
        mode: SUM (weighted sum), MEAN (the same, divided), VOTE (TIES' election), PAIR (SLERP) or
            ELECT (an election divided by the weights that agree, or by 1 where shares[1] is 0).
        weights: Each model's weight, float32.
        shares: The scale, MEAN's scale and divisor, or PAIR's two shares, float32.
        factors: The adjustments' factors, float32.
        out: Where the block goes: bfloat16 bits or float32.

    Returns:
        The bits of the largest magnitude before rounding.
    """
    steps, numbers, lasts, cuts, keys = chain
    totals = np.empty(TILE, np.float32)
    vectors, votes = np.empty((len(weights), TILE), np.float32), np.empty((2, TILE), np.float32)
    heads = np.ones(len(weights), np.float32)
    if based and mode == SUM and len(weights) == 1 and len(factors) == 0:
        if len(steps) == 0:
            return step(base, models[0], weights[0], shares[0], out)
        if len(steps) == 1 and steps[0] == TRIM:
            limit = numbers[0, 0]
            return trimmed_step(base, models[0], limit, weights[0], shares[0], out)
    top = u32(0)
    for start in range(0, len(out), TILE):
        stop = min(start + TILE, len(out))
        total, b = totals[: stop - start], base[start:stop]
        sign, count = votes[0][: stop - start], votes[1][: stop - start]
        total[:] = f32(0)

        plain = len(steps) == 0 and mode <= MEAN
        if plain:
            add_all(b, models, based, start, weights, total)
        for i in range(0 if plain else len(weights)):
            v = vectors[i][: stop - start]
            load(b, models[i][start:stop], based, v)
            transform(v, i, first + start, steps, numbers, lasts, cuts, keys)
            if mode in (VOTE, ELECT):
                v *= weights[i]
                add(v, f32(1), total)
            elif mode != PAIR:
                add(v, weights[i], total)
        if mode == SUM:
            finish_sum(b, based, shares[0], total)
        elif mode == MEAN:
            finish_quotient(b, based, shares[0], shares[1], total)
        elif mode == VOTE:
            elect(vectors, heads, sign, count, total)
            finish_mean(b, based, shares[0], count, total)
        elif mode == ELECT:
            elect(vectors, weights, sign, count, total)
            if shares[1] == f32(0):
                finish_sum(b, based, shares[0], total)
            else:
                finish_elected(b, based, shares[0], count, total)
        else:
            finish_pair(b, based, shares[0], shares[1], vectors, total)
        for factor in factors:
            adjust(b, based, factor, total)
        top = max(top, store(total, out[start:stop]))
    return top
