"""The float64 reference of `model_stock`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hypothesis import strategies as st

    from tests.methods.oracle import Array, Params, Work

PARAMETERS: dict[str, st.SearchStrategy[Any]] = {}


def reference(work: Work, params: Params) -> Array:
    flat = [v.ravel() for v in work.vectors]
    norms = [math.sqrt(v @ v) for v in flat]
    pairs = [(i, j) for j in range(len(flat)) for i in range(j)]
    cosines = [
        flat[i] @ flat[j] / (norms[i] * norms[j]) if norms[i] and norms[j] else 0.0
        for i, j in pairs
    ]
    c, k = min(max(sum(cosines) / len(pairs), 0.0), 1.0), len(flat)
    mean = sum(map(work.meet, work.vectors), np.zeros_like(work.base)) / k
    return work.base + k * c / (1 + (k - 1) * c) * mean
