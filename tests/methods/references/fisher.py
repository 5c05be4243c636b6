"""The float64 reference of `fisher`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.methods.oracle import Array, Params, Work

PARAMETERS = {"floor": st.sampled_from([1e-6, 0.1]), "balance": st.booleans()}

#: The weights of the models; negative ones are refused.
WEIGHTS = st.sampled_from([1.0, 0.3, 2.0])


def reference(work: Work, params: Params) -> Array:
    total, divisor = np.zeros_like(work.base), np.zeros_like(work.base)
    for v, w, s in zip(work.vectors, work.weights, work.stats["fisher"][1:], strict=True):
        norm = math.sqrt(sum(float((f * f).sum()) for f in s.values())) or 1.0
        matters = s[work.name] / (norm if params["balance"] else 1.0) + params["floor"]
        total += work.meet(w * matters * v) / max(1.0, sum(work.weights))
        divisor += w * matters / max(1.0, sum(work.weights))
    work.meet(np.max([np.abs(v) for v in work.vectors], axis=0))
    return work.base + total / divisor
