"""DoReMi: more data from pools where the loss is furthest above a reference model's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt

from laconic.training.controllers.contract import State, controller, reweigh

if TYPE_CHECKING:
    from laconic.training.bounds import Measurement


@controller(excess=True)
def doremi(
    state: State,
    measured: Measurement,
    *,
    eta: Annotated[float, Gt(0)] = 1.0,
    floor: Annotated[float, Ge(0), Lt(1)] = 1e-3,
) -> State:
    """Raise the weight of each pool by its excess loss over a reference model.

    ``w <- (1 - floor) softmax(log w + eta * excess) + floor / K``, where the excess loss of a pool
    is the mean over its tokens of max(loss - reference loss, 0). The paper trains its final model
    on the mean of the weights over all updates: the log holds it as ``mean_POOL``.

    Args:
        eta: How strongly excess losses move the weights.
        floor: The share that is spread evenly over all pools.

    Source: Xie et al. 2023 (arXiv 2305.10429), algorithm 1, with its eta and smoothing.
    """
    push = [eta * measured.excess[pool] for pool in state.pools]
    weights = reweigh(state.weights, push, floor=floor)
    updates = state.memory.get("updates", 0.0) + 1
    means = {}
    for pool, weight in zip(state.pools, weights, strict=True):
        before = state.memory.get(f"mean_{pool}", 0.0)
        means[f"mean_{pool}"] = before + (weight - before) / updates
    return state.moved(weights, {"updates": updates, **means}, **means)
