"""The float64 reference of `lore`."""

from __future__ import annotations

from functools import partial

import numpy as np
from hypothesis import strategies as st

from tests.methods.oracle import SCALES, Array, Params, Work, layer_of

PARAMETERS = {
    "mu": st.sampled_from([0.0, 0.01, 0.5, 3.0]),
    "relative": st.booleans(),
    "scale": SCALES,
    "iterations": st.sampled_from([1, 3]),
    "embeddings": st.booleans(),
}


def shrunk(work: Work, matrix: Array, mu: float, *, relative: bool) -> Array:
    """Every singular value less mu; a product's error is a share of the matrix's norm."""
    if not matrix.size or not mu:
        return matrix
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    limit = mu * s.max(-1, keepdims=True) if relative else mu
    work.meet(np.full(work.base.shape, float(s.max())))
    made: Array = (u * np.maximum(s - limit, 0)[..., None, :]) @ v
    return made


def reference(work: Work, params: Params) -> Array:
    inside = layer_of(work.name) is not None or params["embeddings"]
    mu = params["mu"] if work.base.ndim > 1 and inside else 0.0
    shrink = partial(shrunk, work, mu=mu, relative=params["relative"])
    if work.based:
        base, vectors = work.base, [shrink(v) for v in work.vectors]
    else:
        vectors = [np.zeros_like(v) for v in work.vectors]
        for _ in range(params["iterations"]):
            rests = [m - d for m, d in zip(work.vectors, vectors, strict=True)]
            base = sum(rests, np.zeros_like(work.base)) / len(rests)
            vectors = [shrink(m - base) for m in work.vectors]
    added = [work.meet(w * d) for w, d in zip(work.weights, vectors, strict=True)]
    return base + work.meet(params["scale"] * sum(added, np.zeros_like(base)))
