"""Colours, marks and dashes of a report, the same on the page and in still pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.reporting.families import Role

#: The shapes of points, by plotly's names.
Mark = Literal[
    "triangle-up",
    "square",
    "diamond",
    "circle",
    "cross",
    "star",
    "hexagon",
    "triangle-down",
    "pentagon",
]
#: The strokes of lines, by plotly's names.
Dash = Literal["solid", "dash", "dot", "dashdot"]

INK, MUTED, GRID, PAPER = "#1f2328", "#59636e", "#dfe3e8", "#ffffff"
#: The colours of merges on white and on dark paper, used in turn.
MERGES: Final = (
    ("#087a58", "#57d3a5"),
    ("#a3318a", "#ec93da"),
    ("#00708f", "#5cc8e6"),
    ("#7a6a00", "#d6c64a"),
    ("#4c53c9", "#a3adff"),
    ("#a8323a", "#f58f92"),
    ("#9a5b00", "#f2b05e"),
    ("#5a6672", "#b9c2cc"),
)
#: Every colour by name, on white and on dark paper.
PALETTE: Final[Mapping[str, tuple[str, str]]] = {
    "ink": (INK, "#e6edf3"),
    "muted": (MUTED, "#9aa4af"),
    "grid": (GRID, "#30363d"),
    "paper": (PAPER, "#0f1419"),
    "shade": ("#59636e1f", "#9aa4af2e"),
    "system1": ("#0b63c4", "#6cb6ff"),
    "system2": ("#b5430b", "#ff9d6b"),
    "base": ("#6b4fa0", "#c4a6ff"),
    "merge": MERGES[0],
    "reflects": ("#ffe8b8", "#5a4410"),
    "answered": ("#c9f2df", "#0d4a35"),
    **{f"merge{i}": both for i, both in enumerate(MERGES)},
}
ROLE_MARKS: Final[Mapping[Role, Mark]] = {
    "system1": "triangle-up",
    "system2": "square",
    "base": "diamond",
    "merge": "circle",
}
MERGE_MARKS: Final[tuple[Mark, ...]] = (
    *("circle", "cross", "star", "hexagon", "triangle-down", "pentagon"),
)
DASHES: Final[tuple[Dash, ...]] = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class SeriesStyle:
    """How a run is drawn in every chart; colour is never the only difference.

    Attributes:
        colour: A name in `PALETTE`.
        mark: The shape of its points.
        dash: The stroke of its line.
    """

    colour: str
    mark: Mark
    dash: Dash = "solid"


def style_of(role: Role, number: int = 0) -> SeriesStyle:
    """The style of a parent, or of a merge by its number among the merges, from 0."""
    if role != "merge":
        return SeriesStyle(role, ROLE_MARKS[role])
    return SeriesStyle(
        colour=f"merge{number % len(MERGES)}",
        mark=MERGE_MARKS[number % len(MERGE_MARKS)],
        dash=DASHES[number // len(MERGES) % len(DASHES)],
    )
