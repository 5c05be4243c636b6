"""The float64 reference of `sens`."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.methods.oracle import SCALES, Array, Params, Work, layer_of, sensitivity_shares, softmax

PARAMETERS = {
    "scale": SCALES,
    "temperature": st.sampled_from([0.5, 3.0]),
    "rescale_base": st.booleans(),
}


def reference(work: Work, params: Params) -> Array:
    (vector,), scale, layer = work.vectors, params["scale"], layer_of(work.name)
    own, other = 1.0, 1.0
    if layer is not None:
        first, second = (sensitivity_shares(s)[layer] for s in work.stats["sensitivity"])
        tilt = [(1 - scale) * first / params["temperature"], scale * second / params["temperature"]]
        own, other = 2 * softmax(tilt)
    if not params["rescale_base"]:
        own = 1.0
    return work.meet(own * work.base) + work.meet(other * scale * vector)
