"""The float64 reference of `elect`."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests.methods.oracle import SCALES, Array, Params, Work, vote

PARAMETERS = {"scale": SCALES, "normalise": st.booleans()}


def reference(work: Work, params: Params) -> Array:
    vectors, sign = vote(work)
    agree = [v * sign > 0 for v in vectors]
    summed = sum((np.where(a, v, 0) for a, v in zip(agree, vectors, strict=True)), 0 * work.base)
    if params["normalise"]:
        divisor = sum((w * a for w, a in zip(work.weights, agree, strict=True)), 0 * work.base)
        gross = sum(abs(w) * a for w, a in zip(work.weights, agree, strict=True))
        work.doubt((divisor != 0) & (np.abs(divisor) < 1e-5 * gross))
        work.doubt((divisor == 0) & (gross > 0))
        # Weights that nearly cancel make every error as much larger.
        cancel = np.maximum(gross / np.where(divisor == 0, 1, np.abs(divisor)), 1)
        summed = summed / np.where(divisor == 0, 1, divisor)
        work.meet(np.abs(summed * params["scale"]) * cancel)
    return work.base + work.meet(params["scale"] * summed)
