"""The float64 reference of `slerp`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.methods.oracle import Array, Params, Work

PARAMETERS = {
    "t": st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
    "zeros": st.sampled_from(["line", "circle"]),
}


def reference(work: Work, params: Params) -> Array:
    members = [work.base + v for v in work.vectors]
    a, b = (work.base, *members) if work.based else members
    t, norms = params["t"], [math.sqrt((x * x).sum()) for x in (a, b)]
    lost = 1.0 if params["zeros"] == "line" else 0.0
    cosine = (a * b).sum() / norms[0] / norms[1] if min(norms) > 1e-8 else lost
    on_the_edge = abs(abs(cosine) - 0.9995) < 1e-6 or any(abs(n - 1e-8) < 1e-10 for n in norms)
    work.doubt(np.full(a.shape, on_the_edge))
    left, right = 1 - t, t
    if abs(cosine) <= 0.9995:
        angle = math.acos(cosine)
        left, right = (math.sin(share * angle) / math.sin(angle) for share in (1 - t, t))
        # Towards opposite vectors, the angle's own error counts as much more.
        work.meet((np.abs(left * a) + np.abs(right * b)) / math.sin(angle) ** 2)
    work.meet(np.abs(left * a) + np.abs(right * b))
    result: Array = left * a + right * b
    return result
