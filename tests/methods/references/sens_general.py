"""The float64 reference of `sens_general`."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests.methods.oracle import SCALES, Array, Params, Work, layer_of, sensitivity_shares, softmax

PARAMETERS = {
    "scale": SCALES,
    "temperature": st.sampled_from([0.5, 1.0]),
    "alignment": st.none(),
}


def reference(work: Work, params: Params) -> Array:
    count, layer = len(work.vectors), layer_of(work.name)
    split = np.full(count, 1 / count)
    if layer is not None:
        tau = np.array(params["alignment"] or [1.0] * count)
        sensitive = [sensitivity_shares(s)[layer] for s in work.stats["sensitivity"][1:]]
        split = softmax(list(np.array(sensitive) * tau / tau.sum() / params["temperature"]))
    parts = [
        work.meet(count * p * w * v)
        for p, w, v in zip(split, work.weights, work.vectors, strict=True)
    ]
    work.meet(sum(map(np.abs, parts), 0 * work.base))
    return work.base + work.meet(params["scale"] * sum(parts, 0 * work.base))


def more_params(draw: st.DrawFn, models: int) -> Params:
    """An alignment, sometimes, which is a number for each model."""
    return {"alignment": [1.0 + i for i in range(models)]} if draw(st.booleans()) else {}
