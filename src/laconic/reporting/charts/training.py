"""A training: the shares of its mixture over the steps, and what they led to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laconic.reporting.charts.contract import Chart, Panel, Series, history_chart
from laconic.reporting.history import TrainingHistory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from laconic.reporting.history import History

#: Standard errors to the end of a 95 % interval.
ERRORS: Final = 1.96


@history_chart
def training_mixture(history: History) -> Iterator[Chart]:
    """Shares of the pools, accuracy and length over the steps."""
    if not isinstance(history, TrainingHistory):
        return
    steps = history.steps
    accuracy = [(100 * step.accuracy, 100 * step.accuracy_error) for step in steps]
    length = [(step.length, step.length_error) for step in steps]
    yield Chart(
        name=f"training-{history.name}",
        title=f"The training {history.name}: its mixture, and what it led to",
        says="On the left the share of each pool of examples, as the controller set it after each "
        "measurement; then the accuracy and the length that were measured, with 95 % intervals.",
        kind="lines",
        panels=(
            Panel("step", "share of the mixture, %", tuple(_shares(history)), y_from_zero=False),
            Panel("step", "accuracy, %", (_measured(history, accuracy),), y_from_zero=False),
            Panel("step", "mean length, tokens", (_measured(history, length),)),
        ),
        order=10,
    )


def _shares(history: TrainingHistory) -> Iterator[Series]:
    steps = history.steps
    for pool in history.pools:
        shares = (steps[0].before[pool], *(step.after[pool] for step in steps))
        yield Series(
            name=pool,
            role="merge",
            x=(0.0, *(float(step.step) for step in steps)),
            y=tuple(100 * share for share in shares),
            stepped=True,
        )


def _measured(history: TrainingHistory, values: Sequence[tuple[float, float]]) -> Series:
    """Values with their standard errors, over the steps."""
    return Series(
        name="the model",
        role="system2",
        x=tuple(float(step.step) for step in history.steps),
        y=tuple(value for value, _ in values),
        y_ends=tuple((value - ERRORS * e, value + ERRORS * e) for value, e in values),
    )
