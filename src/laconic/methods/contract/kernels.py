"""Fused arithmetic for the chains that people run most, compiled to machine code by Numba.

Every function works on one block of the tensors as they are stored, in float32, tile by tile, so
that a chain reads its inputs once and keeps its intermediate values in the first-level cache. The
operations and their order are those of the formulas in `laconic.methods`, which are the oracle:
tests compare the bytes. Integers are narrowed after each step because Numba widens them, and loops
run over slices because those need no check for negative positions; both keep the loops vectorised.

All of it is one module, long as it is: Numba's cache on disk watches the file of the function it
compiled, and no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numba import njit
from numba.core.types import uint16
from numba.extending import overload

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")
Array = Any

u16, u32, u64, f32, f64 = np.uint16, np.uint32, np.uint64, np.float32, np.float64
TILE = 2048
#: Sums of products are taken in this many lanes over this many elements at a time: a fixed order.
LANES, CHUNK = 512, 1 << 16
#: Room between the lanes of two sums: stores a page apart would hinder each other's loads.
PAD = 8
#: How many values the upper 15 bits of a magnitude have.
BINS = 1 << 15
#: Places beside the bins for the magnitudes that are below or above them: so many that counting one
#: after the other seldom waits for the same place.
SIDE = 32
DARE, TRIM, TRIM_EXACTLY, OUTLIERS, SCALE = 0, 1, 2, 3, 4
SUM, MEAN, VOTE, PAIR, ELECT = 0, 1, 2, 3, 4
#: The bits of the smallest float32 that bfloat16 would round to infinity, and of infinity.
BFLOAT16_END, FLOAT32_END = u32(0x7F7F8000), u32(0x7F800000)


OPTIONS: Any = {"nogil": True, "error_model": "numpy"}


def part(function: F) -> F:
    """Compile as a part of the functions that call it."""
    made: F = njit(**OPTIONS)(function)
    return made


def compiled(function: F) -> F:
    """Compile at first use and keep the machine code on disk, where a place for it can be written.

    Numba looks beside this file, then in the user's cache folder.
    """
    try:
        made: F = njit(cache=True, **OPTIONS)(function)
    except RuntimeError:
        made = njit(**OPTIONS)(function)
    return made


def pack(models: tuple[Array, ...]) -> tuple[Array, ...]:
    """As many blocks as a multiple of four, the first one repeated at the end.

    Compiled code is made for one number of blocks; this is one for up to four models.
    """
    return models + models[:1] * (-len(models) % 4)


def number(x: Any) -> Any:
    """A stored value as float32: bfloat16 comes as the upper half of its bits."""
    return x


@overload(number)
def _number(x):  # type: ignore[no-untyped-def]  # Numba compares bare signatures
    if x == uint16:
        return lambda x: u32(u32(x) << u32(16)).view(np.float32)
    return lambda x: x


@part
def load(base: Array, values: Array, based: bool, v: Array) -> None:
    """Fill a tile with a model's task vector, or with its values where there is no base."""
    for e in range(len(v)):
        v[e] = number(values[e]) - (number(base[e]) if based else f32(0))


@part
def dare(v: Array, first: int, key: np.uint64, cut: np.uint32, factor: np.float32) -> None:
    """Keep an element where its random 24 bits are below `cut`, times `factor`."""
    start, high = u32(u64(first) & u64(0xFFFFFFFF)), u32(u64(first) >> u64(32))
    left = min(len(v), (1 << 32) - np.int64(start))
    drop(v[:left], start, high, key, cut, factor)
    drop(v[left:], u32(0), u32(high + u32(1)), key, cut, factor)


@part
def drop(
    v: Array, start: np.uint32, high: np.uint32, key: np.uint64, cut: np.uint32, factor: np.float32
) -> None:
    """The same for elements whose numbers share their upper 32 bits."""
    one = u32(u64(key) & u64(0xFFFFFFFF))
    two = u32(u32(key >> u64(32)) + u32(high * u32(0x9E3779B9)))
    for e in range(len(v)):
        x = u32(u32(start + u32(e)) ^ one)
        x = u32(u32(x ^ u32(x >> u32(17))) * u32(0xED5AD4BB))
        x = u32(u32(u32(x ^ u32(x >> u32(11))) ^ two) * u32(0xAC4C1B51))
        x = u32(u32(x ^ u32(x >> u32(15))) * u32(0x31848BAB))
        x = u32(x ^ u32(x >> u32(14)))
        v[e] *= f32(u32(x >> u32(8)) < cut) * factor


@part
def trim(v: Array, limit: np.float32) -> None:
    """Keep every element whose magnitude is at least the limit."""
    for e in range(len(v)):
        v[e] *= f32(abs(v[e]) >= limit)


@part
def trim_exactly(v: Array, first: int, limit: np.float32, last: int) -> None:
    """The same, but of the elements at the limit only those up to the number `last`."""
    for e in range(len(v)):
        size = abs(v[e])
        v[e] *= f32((size > limit) | ((size == limit) & (first + e <= last)))


@part
def drop_outliers(v: Array, first: int, limit: np.float32, last: int) -> None:
    """Drop every element that `trim_exactly` would keep."""
    for e in range(len(v)):
        size = abs(v[e])
        v[e] *= f32((size < limit) | ((size == limit) & (first + e > last)))


@part
def multiply(v: Array, factor: np.float32) -> None:
    """Scale a tile."""
    for e in range(len(v)):
        v[e] *= factor


@part
def transform(
    v: Array, i: int, first: int, steps: Array, numbers: Array, lasts: Array, cuts: Array, keys: Any
) -> None:
    """Apply a chain's transforms to a tile of model `i`.

    Args:
        v: The tile, float32.
        i: Which model.
        first: The number of the tile's first element in its tensor.
        steps: What each transform is: DARE, TRIM, TRIM_EXACTLY, OUTLIERS or SCALE.
        numbers: The factor of DARE and SCALE, or the limit, float32, ``[step, model]``.
        lasts: The last element kept among those at the limit, ``[step, model]``.
        cuts: DARE's density in units of 2**-24, uint32, ``[step, model]``.
        keys: Where the random numbers of each model start.
    """
    for s in range(len(steps)):
        if steps[s] == DARE:
            dare(v, first, keys[i], cuts[s, i], numbers[s, i])
        elif steps[s] == TRIM:
            trim(v, numbers[s, i])
        elif steps[s] == TRIM_EXACTLY:
            trim_exactly(v, first, numbers[s, i], lasts[s, i])
        elif steps[s] == OUTLIERS:
            drop_outliers(v, first, numbers[s, i], lasts[s, i])
        else:
            multiply(v, numbers[s, i])


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


@part
def upper_bits(v: Array, places: Array) -> None:
    """The upper 15 of the 31 bits of a tile's magnitudes."""
    bits = v.view(np.uint32)
    for e in range(len(bits)):
        places[e] = u32(u32(bits[e] >> u32(16)) & u32(0x7FFF))


@part
def place_of(v: np.float32, e: int, low: np.uint32, width: np.uint32) -> np.uint32:
    """How far a magnitude is above the lowest one of `width`, or a place beside those."""
    size = u32(f32(v).view(np.uint32) & u32(0x7FFFFFFF))
    beside = u32(u32(e) % u32(SIDE)) + u32(size >= u32(low + width)) * u32(SIDE)
    inside = u32(size - low)
    return inside if inside < width else u32(width + beside)


@part
def lower_bits(v: Array, low: np.uint32, width: np.uint32, places: Array) -> None:
    """The place of each magnitude of a tile."""
    for e in range(len(v)):
        places[e] = place_of(v[e], e, low, width)


@part
def loaded_bits(
    base: Array, values: Array, based: bool, low: np.uint32, width: np.uint32, places: Array
) -> None:
    """The same for a task vector that no transform changes, straight from what is stored."""
    for e in range(len(places)):
        v = number(values[e]) - (number(base[e]) if based else f32(0))
        places[e] = place_of(v, e, low, width)


@compiled
def count(
    base: Array, models: Any, based: bool, first: int, chain: Any, every: int, lows: Array,
    counts: Array,
) -> None:  # fmt: skip
    """Count the magnitudes of a block's transformed vectors.

    Args:
        base: As for `merge`, like `models`, `based`, `first` and `chain`.
        every: Look at one of so many tiles.
        lows: The bits of the lowest magnitude of each model to be told apart; empty to count by
            the upper bits.
        counts: Increased in place, uint32, ``[model, place]``: the upper bits, or all the bits
            above the lowest, then SIDE places for smaller and SIDE for larger magnitudes.
    """
    steps, numbers, lasts, cuts, keys = chain
    held, found = np.empty(TILE, np.float32), np.empty(TILE, np.uint32)
    for start in range(0, len(models[0]), TILE * every):
        stop = min(start + TILE, len(models[0]))
        v, places, b = held[: stop - start], found[: stop - start], base[start:stop]

        for i in range(len(counts)):
            row = counts[i]
            width = u32(len(row) - 2 * SIDE)
            if len(lows) and len(steps) == 0:
                loaded_bits(b, models[i][start:stop], based, lows[i], width, places)
            else:
                load(b, models[i][start:stop], based, v)
                transform(v, i, first + start, steps, numbers, lasts, cuts, keys)
                if len(lows):
                    lower_bits(v, lows[i], width, places)
                else:
                    upper_bits(v, places)
            for e in range(len(places)):
                row[np.int64(places[e])] += u32(1)


@compiled
def vectors(base: Array, models: Any, based: bool, first: int, chain: Any, out: Array) -> None:
    """A block's transformed vectors themselves, float32, ``[model, element]``."""
    steps, numbers, lasts, cuts, keys = chain
    for i in range(len(out)):
        load(base, models[i], based, out[i])
        transform(out[i], i, first, steps, numbers, lasts, cuts, keys)


@part
def add_magnitudes(a: Array, lanes: Array) -> None:
    """Add magnitudes, lane by lane."""
    lane = lanes[:LANES]
    for start in range(0, len(a), LANES):
        x = a[start : start + LANES]
        for e in range(len(x)):
            lane[e] += f64(abs(x[e]))


@part
def add_inner(a: Array, b: Array, lanes: Array) -> None:
    """Add the products of two tiles, lane by lane; one of two float32 is exact in float64."""
    lane = lanes[:LANES]
    for start in range(0, len(a), LANES):
        x, y = a[start : start + LANES], b[start : start + LANES]
        for e in range(len(x)):
            lane[e] += f64(x[e]) * f64(y[e])


@compiled
def magnitude(a: Array) -> float:
    """The sum of magnitudes of float32 values, in a fixed order."""
    lanes = np.zeros(LANES)
    add_magnitudes(a, lanes)
    return lane_sum(lanes)


@compiled
def inner(a: Array, b: Array) -> float:
    """The inner product of float32 values, in a fixed order."""
    lanes = np.zeros(LANES)
    add_inner(a, b, lanes)
    return lane_sum(lanes)


@part
def lane_sum(lanes: Array) -> float:
    """The sum over all lanes."""
    total = 0.0
    for e in range(LANES):
        total += lanes[e]
    return total


@compiled
def vector_magnitudes(
    base: Array, models: Any, based: bool, first: int, chain: Any, sums: Array
) -> None:
    """The sums of magnitudes of a block's transformed vectors, into ``[model, chunk]``."""
    steps, numbers, lasts, cuts, keys = chain
    v, lanes = np.empty(TILE, np.float32), np.empty(LANES)
    for i in range(len(sums)):
        for chunk in range(sums.shape[1]):
            lanes[:] = 0.0
            end = min((chunk + 1) * CHUNK, len(models[i]))
            for start in range(chunk * CHUNK, end, TILE):
                stop = min(start + TILE, end)
                x = v[: stop - start]
                load(base[start:stop], models[i][start:stop], based, x)
                transform(x, i, first + start, steps, numbers, lasts, cuts, keys)
                add_magnitudes(x, lanes)
            sums[i, chunk] = lane_sum(lanes)


@compiled
def vector_products(
    base: Array, models: Any, based: bool, first: int, chain: Any, sums: Array
) -> None:
    """The inner products of a block's transformed vectors, into ``[pair, chunk]``.

    The pairs are 0·0, 0·1, ..., 1·1, and so on.
    """
    steps, numbers, lasts, cuts, keys = chain
    held, lanes = np.empty((len(keys), TILE), np.float32), np.empty((len(sums), LANES + PAD))
    for chunk in range(sums.shape[1]):
        lanes[:] = 0.0
        end = min((chunk + 1) * CHUNK, len(models[0]))
        for start in range(chunk * CHUNK, end, TILE):
            stop = min(start + TILE, end)
            for i in range(len(keys)):
                x = held[i][: stop - start]
                load(base[start:stop], models[i][start:stop], based, x)
                transform(x, i, first + start, steps, numbers, lasts, cuts, keys)
            pair = 0
            for i in range(len(keys)):
                for j in range(i, len(keys)):
                    add_inner(held[i][: stop - start], held[j][: stop - start], lanes[pair])
                    pair += 1
        for pair in range(len(sums)):
            sums[pair, chunk] = lane_sum(lanes[pair])


@part
def add_products(a: Array, b: Array, lanes: Array) -> None:
    """Add the products of a stretch of LANES elements; one of two float32 is exact in float64."""
    aa, ab, bb = lanes[0][:LANES], lanes[1][:LANES], lanes[2][:LANES]
    for e in range(len(a)):
        x, y = f64(a[e]), f64(b[e])
        aa[e] += x * x
        ab[e] += x * y
        bb[e] += y * y


@part
def add_paired_products(a: Array, b: Array, c: Array, d: Array, lanes: Array) -> None:
    """The same for two stretches, whose products are added to each other first."""
    aa, ab, bb = lanes[0][:LANES], lanes[1][:LANES], lanes[2][:LANES]
    for e in range(LANES):
        x, y, z, w = f64(a[e]), f64(b[e]), f64(c[e]), f64(d[e])
        aa[e] += x * x + z * z
        ab[e] += x * y + z * w
        bb[e] += y * y + w * w


@part
def add_stretches(a: Array, b: Array, lanes: Array) -> None:
    """Add the products of as many stretches as there are, each of LANES elements, by pairs."""
    paired = len(a) - len(a) % (2 * LANES)
    for start in range(0, paired, 2 * LANES):
        middle, stop = start + LANES, start + 2 * LANES
        add_paired_products(a[start:middle], b[start:middle], a[middle:stop], b[middle:stop], lanes)
    for start in range(paired, len(a), LANES):
        add_products(a[start : start + LANES], b[start : start + LANES], lanes)


@part
def sum_lanes(lanes: Array) -> tuple[float, float, float]:
    """The three sums over all lanes."""
    aa, ab, bb = 0.0, 0.0, 0.0
    for e in range(LANES):
        aa += lanes[0, e]
        ab += lanes[1, e]
        bb += lanes[2, e]
    return aa, ab, bb


@compiled
def products(a: Array, b: Array) -> tuple[float, float, float]:
    """The sums of a·a, a·b and b·b over at most CHUNK elements of float32, in a fixed order."""
    lanes = np.zeros((3, LANES + PAD))
    add_stretches(a, b, lanes)
    return sum_lanes(lanes)


@compiled
def pair_products(
    base: Array, models: Any, based: bool, first: int, chain: Any, sums: Array
) -> None:
    """The products of a block's two members, chunk by chunk, into ``[chunk, 3]``."""
    steps, numbers, lasts, cuts, keys = chain
    a, b, last = np.empty(TILE, np.float32), np.empty(TILE, np.float32), len(keys) - 1
    lanes = np.empty((3, LANES + PAD))
    for chunk in range(len(sums)):
        lanes[:] = 0.0
        end = min((chunk + 1) * CHUNK, len(models[0]))
        for start in range(chunk * CHUNK, end, TILE):
            stop = min(start + TILE, end)
            x, y, origin = a[: stop - start], b[: stop - start], base[start:stop]

            load(origin, models[last][start:stop], based, y)
            transform(y, last, first + start, steps, numbers, lasts, cuts, keys)
            if not based:
                load(origin, models[0][start:stop], based, x)
                transform(x, 0, first + start, steps, numbers, lasts, cuts, keys)
            for e in range(len(x)):
                x[e] = number(origin[e]) if based else f32(0) + x[e]
                y[e] = x[e] + y[e] if based else f32(0) + y[e]
            add_stretches(x, y, lanes)
        sums[chunk, 0], sums[chunk, 1], sums[chunk, 2] = sum_lanes(lanes)
