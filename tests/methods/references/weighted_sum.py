"""The float64 reference of `weighted_sum`."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.methods.oracle import SCALES, Array, Params, Work, total

PARAMETERS = {"scale": SCALES, "normalise": st.booleans()}


def reference(work: Work, params: Params) -> Array:
    weight = sum(work.weights)
    divisor = weight if params["normalise"] and abs(weight) >= 1e-8 else 1.0
    return work.base + work.meet(params["scale"] * total(work) / divisor)
