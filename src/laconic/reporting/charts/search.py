"""A search: its candidates over the tokens it generated, and in the plane of both aims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from laconic.reporting.charts.contract import Chart, Panel, Series, history_chart
from laconic.reporting.history import STATES, MeasuredCandidate, SearchHistory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from laconic.reporting.history import History, MeasuredParent

Axis = Literal["spent", "accuracy", "length"]
UP: Final[tuple[tuple[Axis, str], ...]] = (
    ("accuracy", "accuracy, %"),
    ("length", "mean length, tokens"),
)


@history_chart
def search_progress(history: History) -> Iterator[Chart]:
    """Accuracy and length of the candidates over the tokens generated so far."""
    if isinstance(history, SearchHistory):
        yield Chart(
            name=f"search-{history.name}",
            title=f"The search {history.name}, over the tokens it generated",
            says="Each mark is a candidate, in the order they were measured. Hollow ones were "
            "dropped before they had answered every problem. A search that learns finds shorter "
            "candidates of the same accuracy as it goes on.",
            kind="lines",
            panels=tuple(
                Panel(
                    across="tokens generated so far",
                    up=words,
                    series=tuple(_series(history, "spent", aim)),
                    y_from_zero=aim != "accuracy",
                )
                for aim, words in UP
            ),
            order=10,
        )


@history_chart
def search_candidates(history: History) -> Iterator[Chart]:
    """Accuracy of the candidates against their length."""
    if isinstance(history, SearchHistory):
        yield Chart(
            name=f"candidates-{history.name}",
            title=f"The candidates of the search {history.name}",
            says="Up and to the left is better. These are the problems that the search chose by; "
            "how its winner did on problems kept back stands among the runs.",
            kind="lines",
            panels=(
                Panel(
                    across="mean length, tokens",
                    up="accuracy, %",
                    series=tuple(_series(history, "length", "accuracy")),
                    y_from_zero=False,
                ),
            ),
            order=20,
        )


def _series(history: SearchHistory, across: Axis, up: Axis) -> Iterator[Series]:
    """The candidates by what became of them, the winner, and the two parents."""
    for state, words in STATES.items():
        candidates = [one for one in history.candidates if one.state == state]
        if candidates:
            yield _points(words, candidates, across, up, hollow=state != "complete")
    if history.winner is not None:
        yield _points("the winner", [history.winner], across, up, hollow=False)
    last = max(one.spent for one in history.candidates)
    for parent in history.parents:
        over = across == "spent"
        x = (0.0, last) if over else (_value(parent, across),)
        yield Series(
            name=parent.role.replace("system", "System "),
            role=parent.role,
            x=x,
            y=(_value(parent, up),) * len(x),
            joined=over,
        )


def _points(
    name: str, candidates: Sequence[MeasuredCandidate], across: Axis, up: Axis, *, hollow: bool
) -> Series:
    return Series(
        name=name,
        role="merge",
        x=tuple(_value(one, across) for one in candidates),
        y=tuple(_value(one, up) for one in candidates),
        notes=tuple(one.name for one in candidates),
        joined=False,
        hollow=hollow,
    )


def _value(measured: MeasuredCandidate | MeasuredParent, axis: Axis) -> float:
    """A value in the unit of its axis: accuracy in percent, the others in tokens."""
    if axis == "accuracy":
        return 100 * measured.accuracy
    if axis == "length":
        return measured.length
    return measured.spent if isinstance(measured, MeasuredCandidate) else 0.0
