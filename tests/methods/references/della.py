"""The float64 reference of `della`."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tests.methods.oracle import Params, Work, chances

PARAMETERS = {
    "density": st.sampled_from([0.3, 0.5, 0.8]),
    "epsilon": st.sampled_from([0.0, 0.1, 0.2]),
    "rescale": st.sampled_from(["probability", "norm", "none"]),
}


def reference(works: list[Work], params: list[Params]) -> None:
    for work, wish in zip(works, params, strict=True):
        density, epsilon = wish["density"], wish["epsilon"]
        for i, vector in enumerate(work.vectors):
            rows = np.abs(vector).reshape(-1, vector.shape[-1] if vector.ndim else 1)
            n = rows.shape[1]
            rank = rows.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
            chance = (
                density - epsilon + 2 * epsilon * rank / (n - 1) if n > 1 else density + 0 * rows
            )
            chance, numbers = chance.reshape(vector.shape), chances(work, i)
            work.doubt(np.abs(numbers - chance) < 1e-6)
            if not work.exact and rows.size:
                apart = np.abs(rows[:, :, None] - rows[:, None, :])
                near = (apart <= 2.0**-19 * rows[:, :, None]) & (apart > 0)
                work.doubt(near.any(2).reshape(vector.shape))
            held = vector * (numbers < chance)
            before, after = np.abs(vector).sum(), np.abs(held).sum()
            if wish["rescale"] == "probability":
                held = held / chance
            elif wish["rescale"] == "norm" and min(before, after) >= 1e-7:
                held = held * (before / after)
            work.vectors[i] = work.meet(held)
        work.exact = work.exact and wish["rescale"] == "none"
