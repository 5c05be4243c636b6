"""TL;DR: whichever reference is missed by more gets more data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Le, Lt

from laconic.training.controllers.contract import State, controller, reweigh

if TYPE_CHECKING:
    from laconic.training.bounds import Measurement

PAPER = {
    "eta": 4.0,
    "floor": 1e-4,
    "cap": None,
    "recent": 1.0,
    "max_step": None,
    "deadband": 0.0,
}


@controller(bounds=True, presets={"paper": PAPER})
def tldr(
    state: State,
    measured: Measurement,
    *,
    eta: Annotated[float, Gt(0)] = 1.0,
    floor: Annotated[float, Ge(0), Lt(1)] = 0.02,
    cap: Annotated[float, Gt(0)] | None = 1.0,
    recent: Annotated[float, Gt(0), Le(1)] = 0.5,
    max_step: Annotated[float, Gt(0)] | None = 1.5,
    deadband: Annotated[float, Ge(0)] = 1.0,
) -> State:
    """Weigh excess tokens against lost accuracy, each as a share of the gap between the bounds.

    For pools of role ``efficiency`` ``benefit <- max((T - T1) / (T2 - T1), 0)``, for pools of role
    ``accuracy`` ``benefit <- max((A2 - A) / (A2 - A1), 0)``, for others 0; then
    ``w <- (1 - floor) softmax(log w + eta * benefit) + floor / K``. T and A are the measured length
    and accuracy, 1 and 2 the bounds.

    The defaults are damped, and ours. ``preset=paper`` is the released code's rule: eta 4, floor
    1e-4, nothing smoothed or limited; an untouched model's first measurement sends an even mixture
    to 0.018 of long answers. The rule rests where the two benefits are equal: it trades accuracy
    for tokens and does not protect it.

    Args:
        eta: How strongly benefits move the weights.
        floor: The share that is spread evenly over all pools.
        cap: The largest benefit; null for none.
        recent: The weight of the newest measurement in the moving averages of length, accuracy and
            its standard error; 1 is no smoothing.
        max_step: The most by which one update may change the log-odds of two pools; null for none.
        deadband: A loss of accuracy below so many standard errors counts as none.

    Source: Li et al. 2025 (arXiv 2506.02678), as in its released code; the damping is ours.
    """
    bounds, memory = state.reference, {}
    for name in ("accuracy", "accuracy_se", "length"):
        value = getattr(measured, name)
        memory[name] = recent * value + (1 - recent) * state.memory.get(name, value)
    excess = (memory["length"] - bounds.system1.length) / bounds.length_gap
    lost = bounds.system2.accuracy - memory["accuracy"]
    if lost < deadband * memory["accuracy_se"]:
        lost = 0.0
    most = float("inf") if cap is None else cap
    benefits = {
        "efficiency": min(max(excess, 0.0), most),
        "accuracy": min(max(lost / bounds.accuracy_gap, 0.0), most),
    }
    push = [eta * benefits[role] if role else 0.0 for role in state.roles]
    weights = reweigh(state.weights, push, floor=floor, max_step=max_step)
    notes = {f"{name}_averaged": value for name, value in memory.items()}
    notes |= {f"benefit_{role}": value for role, value in benefits.items()}
    return state.moved(weights, memory, **notes)
