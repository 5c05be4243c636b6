"""The float64 reference of `aim`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.methods.oracle import Array, Params, Work

PARAMETERS = {"omega": st.sampled_from([0.0, 0.2, 0.4, 1.0])}


def reference(work: Work, merged: Array, params: Params) -> Array:
    activity = work.stats["activations"][0].get(work.name)
    if activity is None:
        return merged
    share = activity / (activity.max() or 1.0)
    return work.base + work.meet((merged - work.base) * (1 - share * (1 - params["omega"])))
