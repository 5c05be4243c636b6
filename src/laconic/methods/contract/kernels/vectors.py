"""Task vectors of a block: loaded, then dropped at random, trimmed and scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.types import uint16
from numba.extending import overload

from laconic.methods.contract.kernels.codes import DARE, OUTLIERS, TRIM, TRIM_EXACTLY
from laconic.methods.contract.kernels.compiling import Array, compiled, f32, part, u32, u64


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


@compiled
def vectors(base: Array, models: Any, based: bool, first: int, chain: Any, out: Array) -> None:
    """A block's transformed vectors themselves, float32, ``[model, element]``."""
    steps, numbers, lasts, cuts, keys = chain
    for i in range(len(out)):
        load(base, models[i], based, out[i])
        transform(out[i], i, first, steps, numbers, lasts, cuts, keys)
