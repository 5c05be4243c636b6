"""The float64 reference of `wudi`."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests.methods.oracle import SCALES, SLACK, Array, Params, Work, layer_of

PARAMETERS = {
    "steps": st.sampled_from([0, 1, 3]),
    "rate": st.sampled_from([1e-5, 1e-4]),
    "scale": SCALES,
}

#: In 300 steps, the default, the signs of slopes that are rounding alone would add up.
ALWAYS = {"steps": 2}


def reference(work: Work, params: Params) -> Array:
    """Adam in float64; where a slope is what rounding makes of it, each step is in doubt."""
    vectors = work.vectors
    merged = sum(map(work.meet, vectors), np.zeros_like(work.base))
    if merged.ndim < 2 or layer_of(work.name) is None:
        return work.base + work.meet(params["scale"] * merged / len(vectors))
    mean, square = np.zeros_like(merged), np.zeros_like(merged)
    for step in range(1, params["steps"] + 1):
        slope, gross = np.zeros_like(merged), np.zeros_like(merged)
        for v in vectors:
            norm = max(float((v * v).sum((-2, -1)).max(initial=0.0)), 1e-30)
            norms = np.maximum((v * v).sum((-2, -1), keepdims=True), 1e-30)
            product = v.swapaxes(-1, -2) @ v
            slope += 2 * (merged - v) @ product / norms
            gross += 2 * (np.abs(merged) + np.abs(v)) @ np.abs(product) / norms * (norm > 1e-30)
        noisy = (np.abs(slope) < 1e-3 * gross) | (np.abs(slope) < 1e-4)
        work.meet(np.where(noisy & (gross > 0), 4 * params["rate"] / SLACK, 0))
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        root = np.sqrt(square / (1 - 0.999**step)) + 1e-8
        merged = merged - params["rate"] * mean / (1 - 0.9**step) / root
    return work.base + work.meet(params["scale"] * work.meet(merged))
