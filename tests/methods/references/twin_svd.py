"""The float64 reference of `twin_svd`."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from tests.methods.oracle import SCALES, Array, Params, Work

PARAMETERS = {
    "scale": SCALES,
    "density": st.sampled_from([0.0, 0.5, 0.8, 1.0]),
    "rank": st.sampled_from([None, 0, 1, 2]),
}


def leading(work: Work, matrix: Array, rank: int) -> Array:
    """The largest singular triplets; in doubt where the next one is as large."""
    if not matrix.size:
        return matrix
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    if 0 < rank < s.shape[-1]:
        gap = (s[..., rank - 1] - s[..., rank]) / np.maximum(s[..., 0], 1e-30)
        close = (gap < 1e-2) & (s[..., rank] > 1e-6 * work.large.max())
        work.doubt(np.broadcast_to(close[..., None, None], matrix.shape))
    work.meet(np.full(matrix.shape, 100 * float(s.max())))
    made: Array = (u[..., :rank] * s[..., None, :rank]) @ v[..., :rank, :]
    return made


def reference(work: Work, params: Params) -> Array:
    moved = work.meet(params["scale"] * sum(map(work.meet, work.vectors), 0 * work.base))
    exclusive = np.zeros_like(work.base)
    for vector, weight in zip(work.vectors, work.weights, strict=True):
        rest = vector - moved
        if rest.ndim > 1 and weight:
            rank = params["rank"]
            if rank is None:
                rank = math.floor(min(rest.shape[-2:]) * params["density"] + 1e-9)
            rest = leading(work, rest, rank)
        exclusive = exclusive + work.meet(weight * rest)
    return work.base + work.meet(moved + exclusive)
