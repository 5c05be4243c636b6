"""The float64 reference of `breadcrumbs`."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from tests.methods.oracle import DENSITIES, Params, Work, count_kept, near_limit

PARAMETERS = {"density": DENSITIES, "outliers": st.sampled_from([0.0, 0.01, 0.2, 0.9])}


def reference(works: list[Work], params: list[Params]) -> None:
    for work, wish in zip(works, params, strict=True):
        for i, vector in enumerate(work.vectors):
            keep = count_kept(vector.size, wish["density"])
            top = min(math.floor(vector.size * wish["outliers"] + 1e-9), vector.size - keep)
            order = np.argsort(-np.abs(vector).ravel(), kind="stable")
            masks = []
            for count in (top + keep, top):
                mask = np.zeros(vector.size, bool)
                mask[order[:count]] = True
                masks.append(mask.reshape(vector.shape))
                if 0 < count < vector.size:
                    work.doubt(near_limit([work], [vector], masks[-1:], vector))
            work.vectors[i] = vector * (masks[0] & ~masks[1])
