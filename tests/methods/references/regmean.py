"""The float64 reference of `regmean`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.methods.oracle import Array, Params, Work

PARAMETERS = {
    "off_diagonal": st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    "ridge": st.sampled_from([1e-6, 0.1]),
}

#: The weights of the models; negative ones are refused.
WEIGHTS = st.sampled_from([1.0, 0.3, 2.0])


def reference(work: Work, params: Params) -> Array:
    """The formula itself, without the detour over the mean, and with the ridge."""
    weights = np.array(work.weights) / sum(work.weights)
    mean = sum((w * v for w, v in zip(weights, work.vectors, strict=True)), 0 * work.base)
    work.meet(np.max([np.abs(v) for v in work.vectors], axis=0))
    if work.name not in work.stats["gram"][0]:
        return work.base + mean
    columns = work.base.shape[1]
    left, right = np.zeros((columns, columns)), np.zeros((columns, len(work.base)))
    for w, v, s in zip(weights, work.vectors, work.stats["gram"][1:], strict=True):
        diagonal = np.diag(np.diag(s[work.name]))
        gram = params["off_diagonal"] * (s[work.name] - diagonal) + diagonal
        left, right = left + w * gram, right + w * gram @ v.T
    ridge = params["ridge"] * np.trace(left) / columns * np.eye(columns)
    work.meet(np.full(work.base.shape, 30 * max(np.abs(v).max() for v in work.vectors)))
    solved: Array = np.linalg.solve(left + ridge, right + ridge @ mean.T).T
    return work.base + solved
