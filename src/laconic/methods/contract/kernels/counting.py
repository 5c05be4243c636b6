"""How many entries of a block's task vectors have which magnitude."""

from __future__ import annotations

from typing import Any

import numpy as np

from laconic.methods.contract.kernels.compiling import SIDE, TILE, Array, compiled, f32, part, u32
from laconic.methods.contract.kernels.vectors import load, number, transform


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
    tile, tile_places = np.empty(TILE, np.float32), np.empty(TILE, np.uint32)
    for start in range(0, len(models[0]), TILE * every):
        stop = min(start + TILE, len(models[0]))
        v, places, b = tile[: stop - start], tile_places[: stop - start], base[start:stop]

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
