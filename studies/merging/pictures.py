"""The study's own pictures: length and reflection by level, and the way of each coefficient."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from laconic.reporting.families import role_of
from laconic.reporting.styles import INK, MUTED
from laconic.reporting.writers.stills.canvas import FONT, ROLE_STYLES
from laconic.stats import summarise
from studies.drawing import dress, panels
from studies.merging.study import named

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

    from laconic.runs.run import Run
    from studies.merging.study import Findings

#: Panels in a row.
ACROSS: Final = 4
#: Line styles of the merges, which share a colour.
STYLES: Final = ("-", "--", ":", "-.")


def draw_difficulty(runs: Mapping[str, Run]) -> Figure:
    """Two panels, a line for each run: tokens by level, and the share of responses that reflect."""
    figure, (left, right) = panels(1, 2, height=3.6)
    merges = [name for name in runs if role_of(name) == "merge"]
    for name, run in runs.items():
        levels = sorted({r.level for r in run.results if r.level is not None})
        parts = [[r for r in run.results if r.level == level] for level in levels]
        look = ROLE_STYLES[role_of(name)]
        style = STYLES[merges.index(name) % len(STYLES)] if name in merges else "-"
        line: dict[str, Any] = {
            "color": look.colour, "marker": look.marker, "linestyle": style, "label": name
        }  # fmt: skip
        left.plot(levels, [summarise(part).length.value for part in parts], **line)
        shares = [100 * sum(r.reflections > 0 for r in part) / len(part) for part in parts]
        right.plot(levels, shares, **line)
        for axes in (left, right):
            axes.set_xticks(levels)
    dress(left, "length, tokens", "level")
    dress(right, "responses that reflect, %", "level")
    left.legend(frameon=False, prop={"family": FONT, "size": 8}, labelcolor=INK)
    return figure


def draw_settings(findings: Findings) -> Figure:
    """A panel for each method with several coefficients: where each one lies, and System 2."""
    several = {method: grid for method, grid in findings.grids.items() if len(grid) > 1}
    figure, places = panels(math.ceil(len(several) / ACROSS), ACROSS, height=2.5)
    end = summarise(findings.dev["system2"].results)
    lowest = 100 * min(summarise(run.results).accuracy.value for run in findings.dev.values())
    for axes, (method, grid) in zip(places, several.items(), strict=False):
        points = [summarise(findings.dev[named(method, label)].results) for label in grid]
        lengths = [s.length.value for s in points]
        shares = [100 * s.accuracy.value for s in points]
        axes.plot(
            lengths, shares, "-o", color=ROLE_STYLES["merge"].colour, markersize=4, linewidth=1
        )
        look = ROLE_STYLES["system2"]
        axes.plot(end.length.value, 100 * end.accuracy.value, look.marker, color=look.colour)
        for x, y, label in zip(lengths, shares, _shortened(list(grid)), strict=True):
            axes.annotate(
                label, (x, y), xytext=(3, -8), textcoords="offset points", fontsize=6, color=MUTED
            )
        axes.set_ylim(lowest - 4, 102)
        axes.set_xlim(40, end.length.value * 1.12)
        dress(axes, "accuracy, %", "tokens", title=method)
    for axes in places[len(several) :]:
        axes.set_visible(False)
    return figure


def _shortened(labels: Sequence[str]) -> list[str]:
    """Only the numbers of coefficients: ``0.3, 0.7`` for ``FFN 0.3, attention 0.7``."""
    numbers = []
    for label in labels:
        words = [word.strip(",") for word in label.split()]
        numbers.append(", ".join(w for w in words if w.lstrip("-").replace(".", "").isdigit()))
    return numbers
