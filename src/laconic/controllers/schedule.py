"""Schedule: the mixture follows a table of steps."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from laconic.controller import State, controller
from laconic.errors import TrainError
from laconic.mixture import check_weights

if TYPE_CHECKING:
    from laconic.bounds import Measurement


@controller(example={"points": [[0, 0.5, 0.5], [100, 0.9, 0.1]]})
def schedule(
    state: State,
    measured: Measurement,
    *,
    points: list[list[float]],
    between: Literal["linear", "step"] = "linear",
) -> State:
    """Take the weights from a table of steps, whatever is measured.

    ``w <- points(step)``: the mixture moves where something is measured, to the table's weights at
    that step. Before the first point the first holds, after the last the last.

    Args:
        points: Rows of a step and one weight per pool, such as [[0, 0.5, 0.5], [200, 0.9, 0.1]];
            steps rise.
        between: Between two points go along a straight line, or stay at the earlier one.

    Source: common practice; annealed mixtures.
    """
    _check(points, state)
    return state.moved(_weights(points, measured.step, between))


def _weights(points: list[list[float]], step: int, between: str) -> list[float]:
    """The table's weights at a step."""
    if step <= points[0][0]:
        return points[0][1:]
    for (start, *old), (end, *new) in pairwise(points):
        if step < end:
            way = (step - start) / (end - start) if between == "linear" else 0.0
            return [a + way * (b - a) for a, b in zip(old, new, strict=True)]
    return points[-1][1:]


def _check(points: list[list[float]], state: State) -> None:
    """Refuse a table without rows, with steps that do not rise, or with weights of other pools."""
    if not points:
        raise TrainError("schedule.points is empty: give at least one row of a step and weights.")
    for number, row in enumerate(points, start=1):
        try:
            check_weights(state.pools, row[1:])
        except TrainError as error:
            raise TrainError(f"schedule.points, row {number} ({row}): {error}") from None
    for (start, *_), (end, *_) in pairwise(points):
        if end <= start:
            raise TrainError(f"schedule.points: steps must rise, but {end:g} follows {start:g}.")
