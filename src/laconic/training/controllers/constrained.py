"""Constrained: the fewest tokens at which accuracy keeps within a margin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt

from laconic.training.controllers.contract import State, controller, reweigh

if TYPE_CHECKING:
    from laconic.training.bounds import Measurement


@controller(bounds=True)
def constrained(
    state: State,
    measured: Measurement,
    *,
    margin: Annotated[float, Ge(0), Lt(1)] = 0.01,
    rate: Annotated[float, Gt(0)] = 2.0,
    limit: Annotated[float, Gt(0)] = 10.0,
    target: Annotated[float, Gt(0)] | None = None,
    eta: Annotated[float, Gt(0)] = 1.0,
    floor: Annotated[float, Ge(0), Lt(1)] = 0.02,
    max_step: Annotated[float, Gt(0)] | None = 1.5,
) -> State:
    """Minimise tokens subject to accuracy >= System 2's minus `margin`, by dual ascent.

    The price of accuracy is ``price <- clip(price + rate * (A2 - margin - A) / (A2 - A1), 0,
    limit)``: it rises as long as the constraint is broken and falls while it holds. For pools of
    role ``efficiency`` ``benefit <- max((T - target) / (T2 - T1), 0)``, for pools of role
    ``accuracy`` ``benefit <- price``, for others 0; then
    ``w <- (1 - floor) softmax(log w + eta * benefit) + floor / K``. Misses add up until they are
    made good, where ``tldr`` trades them against tokens.

    A margin below one standard error of the accuracy cannot be told from noise: the standard error
    then takes its place, and the log says so under ``margin``.

    Args:
        margin: The loss of accuracy that is acceptable, as a fraction.
        rate: How fast the price follows a miss.
        limit: The highest price.
        target: The length that no pressure goes beyond, in tokens; null takes System 1's.
        eta: How strongly benefits move the weights.
        floor: The share that is spread evenly over all pools.
        max_step: The most by which one update may change the log-odds of two pools; null for none.

    Source: ours; projected dual ascent on the price, exponentiated gradient on the weights.
    """
    bounds = state.reference
    effective_margin = max(margin, measured.accuracy_se)
    miss = (bounds.system2.accuracy - effective_margin - measured.accuracy) / bounds.accuracy_gap
    price = min(max(state.memory.get("price", 0.0) + rate * miss, 0.0), limit)
    goal = bounds.system1.length if target is None else target
    benefits = {
        "efficiency": max((measured.length - goal) / bounds.length_gap, 0.0),
        "accuracy": price,
    }
    push = [eta * benefits[role] if role else 0.0 for role in state.roles]
    weights = reweigh(state.weights, push, floor=floor, max_step=max_step)
    notes = {f"benefit_{role}": value for role, value in benefits.items()}
    return state.moved(
        weights, {"price": price}, margin=effective_margin, miss=miss, price=price, **notes
    )
