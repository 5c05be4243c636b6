"""The float64 reference of `trim`."""

from __future__ import annotations

from tests.methods.oracle import DENSITIES, RANKED, Params, Work, keep_largest

PARAMETERS = {"density": DENSITIES, **RANKED}


def reference(works: list[Work], params: list[Params]) -> None:
    keep_largest(works, params)
