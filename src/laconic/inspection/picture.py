"""The picture of an inspection: how far each model is from the base, by depth and part."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from laconic.inspection.text import labels
from laconic.reporting.styles import GRID, INK, MUTED, PAPER
from laconic.reporting.wording import plain
from laconic.reporting.writers.stills.canvas import DPI, FONT, WIDTH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from laconic.inspection.inspect import Inspection

#: How a part is drawn: never by colour alone.
LOOKS: Final = {
    "attention": ("#0b63c4", "^"),
    "mlp": ("#b5430b", "s"),
    "norm": ("#6b4fa0", "D"),
    "other": (MUTED, "v"),
    "embedding": ("#087a58", "o"),
    "head": ("#087a58", "P"),
}
#: Parts that stand before or behind the layers.
OUTSIDE: Final = ("embedding", "head")
PANEL: Final = 2.9
LONGEST_NAME: Final = 60
WORDS: Final[dict[str, Any]] = {"color": INK, "fontfamily": FONT, "parse_math": False}


def draw(inspection: Inspection) -> Figure:
    """A figure with a panel for each model and, for several, one for how they agree."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = max(1, len(inspection.compared)) + (len(inspection.compared) > 1)
    figure = Figure(
        figsize=(WIDTH, PANEL * panels + 0.4), dpi=DPI, facecolor=PAPER, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
    if not inspection.compared:
        axes[0].set_axis_off()
        axes[0].text(0.5, 0.5, "Nothing could be compared.", ha="center", fontsize=12, **WORDS)
        return figure
    names = labels(inspection.names)
    highest = max(
        _changes(axis, inspection, i) for axis, i in zip(axes, inspection.compared, strict=False)
    )
    for axis, i in zip(axes, inspection.compared, strict=False):
        axis.set_ylim(0, highest * 1.08 or 1.0)
        title = f"{_short(names[inspection.used[i]])}: change from {_short(names[0])}"
        _frame(axis, inspection, title, "|change| / |base|, %")
    if len(inspection.compared) > 1:
        _agreement(axes[-1], inspection)
    axes[-1].set_xlabel("layer", fontsize=10, **WORDS)
    return figure


def _changes(axes: Axes, inspection: Inspection, i: int) -> float:
    """Draw one model's relative norms; returns the largest, in percent."""
    highest = 0.0
    for part, sums in inspection.parts.items():
        colour, marker = LOOKS[part]
        points = [
            (layer, 100 * value)
            for layer in range(inspection.layers)
            if (value := inspection.layer(layer, part=part).relative(i)) is not None
        ]
        if part in OUTSIDE:
            whole = sums.relative(i)
            points = [] if whole is None else [(_place(inspection, part), 100 * whole)]
        if not points:
            continue
        x, y = zip(*points, strict=True)
        axes.plot(
            x,
            y,
            color=colour,
            marker=marker,
            markersize=5,
            linewidth=1.5,
            label=part,
            clip_on=False,
        )
        highest = max(highest, *y)
    _legend(axes)
    return highest


def _agreement(axes: Axes, inspection: Inspection) -> None:
    """Draw the cosine of each pair's task vectors, layer by layer."""
    markers, names = "os^Dv", labels(inspection.names)
    for number, (i, j) in enumerate(combinations(inspection.compared, 2)):
        points = [
            (layer, cosine)
            for layer in range(inspection.layers)
            if (cosine := inspection.layer(layer).cosine(i, j)) is not None
        ]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(
                x,
                y,
                color=list(LOOKS.values())[number % len(LOOKS)][0],
                marker=markers[number % len(markers)],
                markersize=5,
                linewidth=1.5,
                label=" and ".join(_short(names[inspection.used[one]]) for one in (i, j)),
            )
    axes.axhline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 2)))
    axes.set_ylim(-1.05, 1.05)
    _legend(axes)
    _frame(
        axes,
        inspection,
        "Do the task vectors agree? 1: the same; 0: unrelated; \N{MINUS SIGN}1: opposed",
        "cosine",
    )


def _place(inspection: Inspection, part: str) -> int:
    return -1 if part == "embedding" else inspection.layers


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.012, 0.985),
            ncols=6,
            frameon=False,
            labelcolor=INK,
            handletextpad=0.4,
            columnspacing=1.3,
            prop={"family": FONT, "size": 9},
        )


def _frame(axes: Axes, inspection: Inspection, title: str, what: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, pad=22, **WORDS)
    axes.set_ylabel(what, fontsize=9, **WORDS)
    outside = [part for part in OUTSIDE if part in inspection.parts]
    places = sorted([*_ticks(inspection.layers), *(_place(inspection, part) for part in outside)])
    names = {_place(inspection, part): part for part in outside}
    axes.set_xticks(places, [names.get(place, str(place)) for place in places])
    axes.set_xlim(min(places, default=0) - 0.4, max(places, default=0) + 0.4)
    axes.tick_params(labelsize=9, color=GRID, labelcolor=INK, labelfontfamily=FONT)
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(MUTED)


def _ticks(layers: int) -> Sequence[int]:
    """Layers to write below the axis: all of a few, else about ten."""
    step = next(s for s in (1, 2, 4, 5, 10, 20, 50, 100, 1000) if layers <= 12 * s or s == 1000)
    return range(0, layers, step)


def _short(name: str) -> str:
    """A name that fits a title: the end of a long one."""
    name = plain(name)
    return name if len(name) <= LONGEST_NAME // 2 else f"…{name[-LONGEST_NAME // 2 + 1 :]}"
