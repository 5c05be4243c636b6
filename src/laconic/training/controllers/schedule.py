"""Schedule: the mixture follows a table of steps."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from laconic.errors import TrainError, did_you_mean
from laconic.training.controllers.contract import State, controller
from laconic.training.data.mixture import check_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.training.bounds import Measurement

#: Rows of a step and the weight of each pool, by its name.
Rows = list[list[float | dict[str, float]]]
#: The same, with the weights in the order of the mixture's pools.
Table = list[tuple[float, list[float]]]


@controller(
    example={"points": [[0, {"short": 0.5, "long": 0.5}], [100, {"short": 0.9, "long": 0.1}]]}
)
def schedule(
    state: State,
    measured: Measurement,
    *,
    points: list[list[float | dict[str, float]]],
    between: Literal["linear", "step"] = "linear",
) -> State:
    """Take the weights from a table of steps, whatever is measured.

    ``w <- points(step)``: the mixture moves where something is measured, to the table's weights at
    that step. Before the first point the first holds, after the last the last.

    Args:
        points: Rows of a step and the weight of each pool by its name, such as
            [[0, {short: 0.5, long: 0.5}], [200, {short: 0.9, long: 0.1}]]; steps rise.
        between: Between two points go along a straight line, or stay at the earlier one.

    Source: common practice; annealed mixtures.
    """
    return state.moved(_weights(_table(points, state.pools), measured.step, between))


def _weights(table: Table, step: int, between: str) -> list[float]:
    """The table's weights at a step."""
    if step <= table[0][0]:
        return table[0][1]
    for (start, old), (end, new) in pairwise(table):
        if step < end:
            way = (step - start) / (end - start) if between == "linear" else 0.0
            return [a + way * (b - a) for a, b in zip(old, new, strict=True)]
    return table[-1][1]


def _table(points: Rows, pools: Sequence[str]) -> Table:
    """The rows with their weights in order.

    Raises:
        TrainError: For a table without rows, steps that do not rise, weights without the names of
            their pools, or of other pools.
    """
    if not points:
        raise TrainError(
            f"schedule.points is empty: give at least one row, such as {_row(0, pools)}."
        )
    table = []
    for number, row in enumerate(points, start=1):
        match row:
            case [int() | float() as step, dict(weights)]:
                where = f"schedule.points, row {number}"
                table.append((step, _ordered(weights, pools, where)))
            case _:
                raise TrainError(_unnamed(points, row, pools))
    for (start, _), (end, _) in pairwise(table):
        if end <= start:
            raise TrainError(f"schedule.points: steps must rise, but {end:g} follows {start:g}.")
    return table


def _ordered(weights: dict[str, float], pools: Sequence[str], where: str) -> list[float]:
    """The weights of a row in the order of the pools."""
    for name in weights:
        if name not in pools:
            raise TrainError(f"{where}: there is no pool '{name}'. {did_you_mean(name, pools)}")
    for name in pools:
        if name not in weights:
            raise TrainError(f"{where} has no weight for pool '{name}': give 0 to leave it out.")
    ordered = [weights[name] for name in pools]
    try:
        check_weights(pools, ordered)
    except TrainError as error:
        raise TrainError(f"{where}: {error}") from None
    return ordered


def _unnamed(points: Rows, row: Sequence[object], pools: Sequence[str]) -> str:
    """What to write in place of rows that give weights by position."""
    refusal = (
        f"schedule.points: the row {list(row)} must be a step and the weights by the names of "
        "their pools. The order of a recipe's keys says nothing, since tools sort them."
    )
    plain = all(
        len(one) == len(pools) + 1 and not any(isinstance(value, dict) for value in one)
        for one in points
    )
    if not plain:
        return f"{refusal} Write {_row(0, pools)}."
    lines = (_row(step, pools, weights) for step, *weights in points)
    order = ", ".join(pools)
    return f"{refusal} Where their order was {order}, write:\npoints: [{', '.join(lines)}]"


def _row(step: Any, pools: Sequence[str], weights: Sequence[Any] = ()) -> str:
    """A row as YAML."""
    values = weights or [1 / len(pools)] * len(pools)
    inner = ", ".join(f"{name}: {value:g}" for name, value in zip(pools, values, strict=True))
    return f"[{step:g}, {{{inner}}}]"
