"""The float64 reference of `sce`."""

from __future__ import annotations

import math

import numpy as np

from tests.methods.oracle import DENSITIES, SCALES, Array, Params, Work, vote

PARAMETERS = {"density": DENSITIES, "scale": SCALES}


def reference(work: Work, params: Params) -> Array:
    vectors = np.stack(work.vectors)
    if params["density"] < 1:
        differ = (vectors != vectors[0]).any(0).ravel()
        spread = np.where(differ, vectors.var(0).ravel(), 0)
        count = math.floor(int(differ.sum()) * params["density"] + 1e-9)
        order = np.argsort(-spread, kind="stable")
        mask = np.zeros(spread.size, bool)
        mask[order[:count]] = True
        if 0 < count < spread.size:
            limit = spread[order[count - 1]]
            beside = np.abs(spread - limit) <= 1e-5 * limit
            columns = {tuple(c) for c in vectors.reshape(len(vectors), -1)[:, beside].T}
            work.doubt(np.full(work.base.shape, len(columns) > 1 and not mask[beside].all()))
        vectors = vectors * mask.reshape(work.base.shape)
    work.vectors = list(vectors)
    _, sign = vote(work)
    energy = (vectors.reshape(len(vectors), -1) ** 2).mean(1) if vectors.size else np.ones(1)
    gross = energy.sum()
    shares = energy / gross if gross > 0 else np.full(len(energy), 1 / len(energy))
    fused, divisor = np.zeros_like(work.base), np.zeros_like(work.base)
    for vector, share in zip(vectors, shares, strict=bool(vectors.size)):
        fused += share * np.where(vector * sign > 0, vector, 0)
        divisor += share * (vector * sign > 0)
    result = fused / np.maximum(divisor, 1e-6)
    return work.base + work.meet(params["scale"] * result)
