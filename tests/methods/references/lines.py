"""The float64 reference of `lines`."""

from __future__ import annotations

from tests.methods.oracle import LAYERS, SCALES, Array, Params, Work, layer_of

PARAMETERS = {"first": SCALES, "last": SCALES}


def reference(work: Work, merged: Array, params: Params) -> Array:
    layer = layer_of(work.name)
    depth = layer / (LAYERS - 1) if layer is not None else float("embed" not in work.name)
    factor = (1 - depth) * params["first"] + depth * params["last"]
    return work.base + work.meet(factor * (merged - work.base))
