"""The pictures of the study of training: where every arm lies, and the way it took."""

from __future__ import annotations

import math
import textwrap
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final

from laconic.reporting.styles import INK, MUTED
from laconic.reporting.writers.stills.canvas import ROLE_STYLES, label
from laconic.stats import summarise
from studies.drawing import dress, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from studies.tldr.study import TldrFindings

#: How arms are told apart: in the order of the study, never by colour alone.
MARKERS: Final = ("p", "v", "P", "X", "d", "*", "h", "<", ">", "8")
COLOURS: Final = (
    "#7a3b2e", "#0b63c4", "#8a5a00", "#b5430b", "#6b4fa0", "#a3195b", "#2f6f7e", "#59636e",
    "#4b7f1b", "#1f2328",
)  # fmt: skip

#: Points of accuracy left free below the lowest arm.
BELOW: Final = 2.5
#: Letters of a panel's title in one line.
WRAP: Final = 11


def draw_front(findings: TldrFindings) -> Figure:
    """Accuracy against tokens: an arm's mean large, its seeds small, the merges as a line."""
    figure, (axes,) = panels(1, 1, height=5.4)
    spots: list[tuple[float, float]] = []
    names: list[str] = []
    line = []
    for name, run in findings.test.items():
        s = summarise(run.results)
        spot = s.length.value, 100 * s.accuracy.value
        look = ROLE_STYLES.get(name, ROLE_STYLES["merge"])  # type: ignore[call-overload]  # names of merges fall back
        if name != "system1":
            axes.plot(*spot, look.marker, color=look.colour, markersize=7)
        spots.append(spot)
        names.append(name)
        if name.startswith("merge, scale"):
            line.append(spot)
    if line:
        axes.plot(*zip(*sorted(line), strict=True), "--", color=MUTED, linewidth=1, zorder=1)
    for place, arm in enumerate(findings.arms):
        marker, colour = MARKERS[place % len(MARKERS)], COLOURS[place % len(COLOURS)]
        for seed in findings.seeds:
            s = summarise(findings.trained[arm.name, seed].results)
            spot = s.length.value, 100 * s.accuracy.value
            axes.plot(*spot, marker, color=colour, markersize=4, alpha=0.45)
        s = summarise(findings.pooled(arm.name))
        spot = s.length.value, 100 * s.accuracy.value
        axes.plot(*spot, marker, color=colour, markersize=9)
        spots.append(spot)
        names.append(arm.name)
    shown = [i for i, name in enumerate(names) if name != "system1"]
    axes.set_ylim(min(spots[i][1] for i in shown) - BELOW, None)
    left_out = "" if len(shown) == len(names) else "; System 1 lies below"
    dress(axes, "accuracy, %", "tokens", title=f"Accuracy against tokens, fresh problems{left_out}")
    figure.draw_without_rendering()  # labels are placed by where the layout puts the axes
    label(axes, [spots[i] for i in shown], [names[i] for i in shown])
    return figure


def draw_ways(findings: TldrFindings) -> Figure:
    """A column for each arm, a line for each seed: short share of tokens, accuracy, length."""
    figure, places = panels(3, len(findings.arms), height=2.0)
    for column, arm in enumerate(findings.arms):
        share, accuracy, length = places[column :: len(findings.arms)]
        for seed, style in zip(findings.seeds, cycle(("-", "--", ":", "-.")), strict=False):
            records = findings.trainings[arm.name, seed].records
            steps = [record["step"] for record in records]
            colour = COLOURS[column % len(COLOURS)]
            line: dict[str, Any] = {"color": colour, "linestyle": style, "linewidth": 1.2}
            shares = [100 * record["token_shares"].get("short", math.nan) for record in records]
            share.plot(steps, shares, **line)
            accuracy.plot(steps, [100 * r["measured"]["accuracy"] for r in records], **line)
            length.plot(steps, [r["measured"]["length"] for r in records], **line)
            chosen = findings.trainings[arm.name, seed].step
            at = steps.index(chosen)
            length.plot(chosen, records[at]["measured"]["length"], "o", color=INK, markersize=3)
        first = column == 0
        dress(share, "short, % of tokens" if first else "", "", title=textwrap.fill(arm.name, WRAP))
        dress(accuracy, "accuracy, %" if first else "", "")
        dress(length, "tokens" if first else "", "step")
        if arm.pools == "pairs":
            share.set_axis_off()
    _alike(places, len(findings.arms))
    return figure


def _alike(places: list[Axes], columns: int) -> None:
    """Give all panels of a row the same height of axis."""
    for start in range(0, len(places), columns):
        row = places[start : start + columns]
        ends = [axes.get_ylim() for axes in row]
        for axes in row:
            axes.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
