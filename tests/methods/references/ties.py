"""The float64 reference of `ties`."""

from __future__ import annotations

import numpy as np

from tests.methods.oracle import DENSITIES, RANKED, SCALES, Array, Params, Work, keep_largest, vote

PARAMETERS = {"density": DENSITIES, "scale": SCALES, **RANKED}


def reference(work: Work, params: Params) -> Array:
    vectors, sign = vote(work)
    chosen = [np.where(v * sign > 0, v, 0) for v in vectors]
    number = sum((v * sign > 0 for v in vectors), np.zeros(work.base.shape, int))
    mean = sum(chosen, np.zeros_like(work.base)) / np.maximum(number, 1)
    return work.base + work.meet(params["scale"] * mean)


def prepare(works: list[Work], params: list[Params]) -> None:
    """The trim, over all tensors that are ranked together."""
    keep_largest(works, params)
