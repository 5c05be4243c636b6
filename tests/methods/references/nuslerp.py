"""The float64 reference of `nuslerp`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.methods.oracle import Array, Params, Work

PARAMETERS = {"along": st.sampled_from(["tensor", "row", "column"])}

#: Rows that point nearly opposite ways have no circle between them that float32 could tell.
LEFT_OUT = 0.02


def reference(work: Work, params: Params) -> Array:
    first, second = work.weights
    t = second / (first + second) if abs(first + second) >= 1e-6 else 0.5
    work.doubt(np.full(work.base.shape, abs(abs(first + second) - 1e-6) < 1e-8))
    a, b = work.vectors
    axis = {"tensor": None, "row": -1, "column": -2}[params["along"]] if a.ndim > 1 else None
    aa, ab, bb = ((x * y).sum(axis, keepdims=True) for x, y in ((a, a), (a, b), (b, b)))
    near = (aa < 1e-16) | (bb < 1e-16)
    angle = np.arccos(np.clip(ab / np.where(near, 1, np.sqrt(aa * bb)), -1, 1))
    straight = near | (np.sin(angle) < 1e-8)
    # What is nearly parallel or opposite: the angle is what its rounding makes of it.
    work.doubt(np.broadcast_to(~near & (np.sin(angle) < 1e-3) & (ab < 0), a.shape))
    divisor = np.where(straight, 1, np.sin(angle))
    left = np.where(straight, 1 - t, np.sin((1 - t) * angle) / divisor)
    right = np.where(straight, t, np.sin(t * angle) / divisor)
    work.meet(np.abs(left * a) + np.abs(right * b))
    return work.base + left * a + right * b
