"""Sums of magnitudes and of products over chunks, in an order that blocks do not change."""

from __future__ import annotations

from typing import Any

import numpy as np

from laconic.methods.contract.kernels.codes import CHUNK
from laconic.methods.contract.kernels.compiling import (
    LANES,
    PAD,
    TILE,
    Array,
    compiled,
    f32,
    f64,
    part,
)
from laconic.methods.contract.kernels.vectors import load, number, transform


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
    tiles, lanes = np.empty((len(keys), TILE), np.float32), np.empty((len(sums), LANES + PAD))
    for chunk in range(sums.shape[1]):
        lanes[:] = 0.0
        end = min((chunk + 1) * CHUNK, len(models[0]))
        for start in range(chunk * CHUNK, end, TILE):
            stop = min(start + TILE, end)
            for i in range(len(keys)):
                x = tiles[i][: stop - start]
                load(base[start:stop], models[i][start:stop], based, x)
                transform(x, i, first + start, steps, numbers, lasts, cuts, keys)
            pair = 0
            for i in range(len(keys)):
                for j in range(i, len(keys)):
                    add_inner(tiles[i][: stop - start], tiles[j][: stop - start], lanes[pair])
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
