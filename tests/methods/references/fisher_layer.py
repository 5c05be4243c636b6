"""The float64 reference of `fisher_layer`."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.methods.oracle import SCALES, Array, Params, Work, layer_of

PARAMETERS = {"first": SCALES, "last": SCALES, "sharpness": st.sampled_from([0.5, 2.0])}


def reference(work: Work, merged: Array, params: Params) -> Array:
    layer, share = layer_of(work.name), (params["first"] + params["last"]) / 2
    logs = {}
    for number, norm in work.norms.items():
        own = {n: f for n, f in work.stats["fisher"][0].items() if layer_of(n) == number}
        size = sum(f.size for f in own.values())
        cost = norm * sum(float(f.sum()) for f in own.values()) / max(size, 1)
        if cost:
            logs[number] = math.log(cost)
    if layer in logs:
        spread = float(np.std(list(logs.values())))
        assume(spread > 0.05)
        z = (logs[layer] - float(np.mean(list(logs.values())))) / spread
        low, high = params["first"], params["last"]
        share = low + (high - low) / (1 + math.exp(params["sharpness"] * z))
    return work.base + work.meet(share * (merged - work.base))


def prepare(works: list[Work], merged: list[Array]) -> None:
    """Leave out what merging moved by as little as rounding does: its logarithm counts."""
    for work, result in zip(works, merged, strict=True):
        moved = result - work.base
        assume(not moved.any() or np.abs(moved).max() > 1e-3 * work.large.max())
