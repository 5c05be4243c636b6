"""The float64 reference of `task_arithmetic`."""

from __future__ import annotations

from tests.methods.oracle import SCALES, Array, Params, Work, total

PARAMETERS = {"scale": SCALES}


def reference(work: Work, params: Params) -> Array:
    return work.base + work.meet(params["scale"] * total(work))
