"""The float64 reference of `sparsify`."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests.methods.oracle import DENSITIES, Params, Work, chances, largest, near_limit

PARAMETERS = {
    "density": DENSITIES,
    "by": st.sampled_from(["magnitude", "chance"]),
    "rescale": st.booleans(),
    "model": st.sampled_from([None, 0]),
}


def reference(works: list[Work], params: list[Params]) -> None:
    for work, wish in zip(works, params, strict=True):
        for i, vector in enumerate(work.vectors):
            if wish["model"] not in (None, i):
                continue
            if wish["by"] == "chance":
                mask = chances(work, i) < float(np.float32(wish["density"]))
            else:
                masks = largest([vector], wish["density"], exactly=True)
                work.doubt(near_limit([work], [vector], masks, vector))
                mask = masks[0]
            held = vector * mask
            before, after = np.abs(vector).sum(), np.abs(held).sum()
            if wish["rescale"] and min(before, after) >= 1e-7:
                held = held * (before / after)
            elif wish["rescale"]:
                work.doubt(np.full(vector.shape, min(before, after) > 0.9e-7))
            work.vectors[i] = work.meet(held)
        work.exact = work.exact and not wish["rescale"]
