"""The colours of a report by name, on white and on dark paper; for papers and for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laconic.reporting.drawing import GRID, INK, LOOKS, MUTED, PAPER

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Merges beside one another; marks and dashes tell them apart where colours do not.
MERGES: Final = (
    (LOOKS["merge"].colour, "#57d3a5"),
    ("#a3318a", "#ec93da"),
    ("#00708f", "#5cc8e6"),
    ("#7a6a00", "#d6c64a"),
    ("#4c53c9", "#a3adff"),
    ("#a8323a", "#f58f92"),
    ("#9a5b00", "#f2b05e"),
    ("#5a6672", "#b9c2cc"),
)
PALETTE: Final[Mapping[str, tuple[str, str]]] = {
    "ink": (INK, "#e6edf3"),
    "muted": (MUTED, "#9aa4af"),
    "grid": (GRID, "#30363d"),
    "paper": (PAPER, "#0f1419"),
    "shade": ("#59636e1f", "#9aa4af2e"),
    "system1": (LOOKS["system1"].colour, "#6cb6ff"),
    "system2": (LOOKS["system2"].colour, "#ff9d6b"),
    "base": (LOOKS["base"].colour, "#c4a6ff"),
    "merge": MERGES[0],
    "reflects": ("#ffe8b8", "#5a4410"),
    "answered": ("#c9f2df", "#0d4a35"),
    **{f"merge{i}": both for i, both in enumerate(MERGES)},
}
