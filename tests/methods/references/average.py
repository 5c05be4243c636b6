"""The float64 reference of `average`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.methods.oracle import Array, Params, Work, total

if TYPE_CHECKING:
    from hypothesis import strategies as st

PARAMETERS: dict[str, st.SearchStrategy[Any]] = {}


def reference(work: Work, params: Params) -> Array:
    return work.base + work.meet(total(work) / sum(work.weights))


def weights_fit(weights: list[float]) -> bool:
    """Whether a tensor's weights have a mean that float32 can tell from infinity."""
    return abs(sum(weights)) > 0.05
