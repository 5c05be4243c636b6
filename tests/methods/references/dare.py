"""The float64 reference of `dare`."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests.methods.oracle import DENSITIES, Params, Work, chances

PARAMETERS = {"density": DENSITIES, "rescale": st.booleans()}


def reference(works: list[Work], params: list[Params]) -> None:
    for work, wish in zip(works, params, strict=True):
        factor = 1 / wish["density"] if wish["rescale"] else 1.0
        density = float(np.float32(wish["density"]))
        work.vectors = [
            work.meet(v * (chances(work, i) < density) * factor) for i, v in enumerate(work.vectors)
        ]
        work.exact = work.exact and factor == 1
