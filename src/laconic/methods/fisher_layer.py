"""Layers that the base depends on and a merge moved far keep less of it: an experiment."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from laconic.errors import CalibrationError
from laconic.methods.contract.group import TensorGroup, adjustment
from laconic.methods.contract.step_statistics import StepStatistics, layer_mismatch

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.methods.contract.traits import TensorContext


def check(params: Mapping[str, Any], context: TensorContext) -> str:
    """Refuse information of other layers; tell where every layer keeps the same."""
    (base,) = context.stats["fisher"]
    if differ := base.once(layer_mismatch):
        raise CalibrationError(f"fisher_layer: the Fisher information does not fit: {differ}.")
    if params["first"] == params["last"] or not params["sharpness"]:
        return "fisher_layer keeps the same share of every layer: scale the merge instead"
    return ""


@adjustment(
    stats={"fisher": "base"},
    norms=True,
    no_op_at={"first": 1.0, "last": 1.0},
    check=check,
    cost="a forward and a backward pass of the base over a few samples, and the merge once more",
    experimental=True,
)
def fisher_layer(
    group: TensorGroup,
    merged: Tensor,
    *,
    first: float = 0.4,
    last: float = 1.0,
    sharpness: float = 1.0,
) -> Tensor:
    """Scale what merging moved, layer by layer, by how much moving it should cost the base.

    ``x_0 + a_l (x - x_0)`` with ``a_l = first + (last - first) sigmoid(-sharpness z_l)``, where z_l
    is ``log(F_l |x_l - x_0|^2)`` less its mean over the layers and over its standard deviation, and
    F_l the mean squared gradient of the base's parameters in layer l. Embeddings, final norm,
    head and layers that cost nothing take the mean of `first` and `last`.

    Experimental: the idea of FIM-Merging, whose paper could be read in outline only. How it maps
    scores to scales, and what it does to gates and norms, is not known here: the mapping is ours,
    and its figures are not to be expected.

    Args:
        first: The share that is kept where moving the layer costs most.
        last: The share that is kept where it costs least.
        sharpness: How steep the shares are between the two; 0 gives every layer their mean.

    Source: after arXiv 2603.21705 (2026), by its abstract and summaries; the mapping is ours.
    """
    share = (first + last) / 2
    if group.layer is not None:
        (base,) = group.stats["fisher"]
        costs = scores(base.once(by_layer), group.norms)
        share = first + (last - first) * falling(sharpness * costs.get(group.layer, 0.0))
    return group.base + share * (merged - group.base)


def by_layer(measured: StepStatistics) -> dict[int, float]:
    """The mean information of each layer's parameters."""
    sums: dict[int, float] = {}
    sizes: dict[int, int] = {}
    for name, value in measured.items():
        layer = measured.depth.of(name)
        if layer is not None and value.numel():
            size = measured.sizes.get(name, value.numel())
            sums[layer] = sums.get(layer, 0.0) + float(value.double().mean()) * size
            sizes[layer] = sizes.get(layer, 0) + size
    return {layer: sums[layer] / sizes[layer] for layer in sums}


def scores(information: Mapping[int, float], norms: Mapping[int, float]) -> dict[int, float]:
    """The standardised logarithm of each layer's cost; a layer that costs nothing has none."""
    costs = {layer: f * norms.get(layer, 0.0) for layer, f in information.items()}
    logs = {layer: math.log(cost) for layer, cost in costs.items() if cost > 0}
    mean = statistics.fmean(logs.values()) if logs else 0.0
    spread = statistics.pstdev(logs.values()) if logs else 0.0
    return {layer: (log - mean) / (spread or 1.0) for layer, log in logs.items()}


def falling(x: float) -> float:
    """``1 / (1 + e^x)``, which falls from 1 to 0."""
    return 1 / (1 + math.exp(min(x, 700.0)))
