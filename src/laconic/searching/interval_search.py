"""A search over one parameter: a coarse grid first, then the interval that can tell most."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.searching.space import Range

#: The first places, as shares of the range: a budget that ends early has seen the centre.
COARSE: Final = (1 / 2, 1 / 4, 3 / 4)
#: What an end of the line is worth as a share of its distance to the nearest place measured.
END: Final = 0.6
#: What nearness to a dropped place leaves of a worth.
DROPPED: Final = 0.1
#: Without a step, an interval of this share of the range is not halved any further.
FINEST: Final = 1 / 64
#: A jump of the thinking share as large as this weighs as much as the whole front.
PHASE: Final = 0.5


@dataclass(frozen=True)
class MeasuredPoint:
    """A value of the parameter that was measured, or is being measured.

    Attributes:
        at: The parameter's value.
        accuracy: Share that is right; None while it is being measured.
        length: Mean completion tokens.
        thinking: Share of responses in which ``</think>`` closed a thought.
        excess: By how much it breaks the constraint; at most 0 if it meets it, None without one.
        dropped: Whether it was dropped before all problems were asked.
    """

    at: float
    accuracy: float | None = None
    length: float = 0.0
    thinking: float = 0.0
    excess: float | None = None
    dropped: bool = False


def next_point(interval: Range, points: Sequence[MeasuredPoint]) -> float | None:
    """The value to measure next; None if every interval is as fine as asked.

    After a coarse grid, the interval with the most to tell is halved. What an interval tells: how
    much of the front can lie in it (its ends' difference in accuracy times that in length); how far
    the thinking share jumps in it, because a merge that begins to think changes its lengths at once
    (Wu et al. 2025, arXiv 2510.10977, section 4); and, under a constraint, whether its ends are on
    both sides of it. Wide intervals go first among equals, and those beside a place that was
    dropped go last. The ends of the line wait for their turn in the same way: they often are a
    parent that is measured already, and the long one is dear.

    Args:
        interval: The range of the parameter.
        points: What has been measured, and what is being measured, in any order.
    """
    known = {interval.nearest(point.at): point for point in points}
    width = interval.high - interval.low
    for share in COARSE:
        if (place := interval.nearest(interval.low + share * width)) not in known:
            return place
    ordered = [known[place] for place in sorted(known)]
    wanted: list[tuple[float, float]] = []
    for end, point in (
        (interval.nearest(interval.low), ordered[0]),
        (interval.nearest(interval.high), ordered[-1]),
    ):
        share = abs(point.at - end) / width
        wanted.append((END * share * (DROPPED if point.dropped else 1), end))
    for left, right in pairwise(ordered):
        if interval.step is not None or right.at - left.at > FINEST * width:
            middle = interval.nearest((left.at + right.at) / 2)
            wanted.append((_worth(left, right, ordered, interval), middle))
    for _, place in sorted(wanted, key=lambda item: (-item[0], item[1])):
        if place not in known:
            return place
    return None


def _worth(
    left: MeasuredPoint, right: MeasuredPoint, points: Sequence[MeasuredPoint], interval: Range
) -> float:
    """How much an interval can tell."""
    width = (right.at - left.at) / (interval.high - interval.low)
    if left.accuracy is None or right.accuracy is None:
        return width / 100
    worth = width / 10
    if left.dropped or right.dropped:
        worth *= DROPPED if left.dropped and right.dropped else 1
    else:
        heights = [point.accuracy for point in points if point.accuracy is not None]
        lengths = [point.length for point in points if point.accuracy is not None]
        area = abs(right.accuracy - left.accuracy) / max(max(heights) - min(heights), 1e-9)
        worth += area * abs(right.length - left.length) / max(max(lengths) - min(lengths), 1e-9)
    if abs(right.thinking - left.thinking) >= PHASE:
        worth += PHASE * width
    if left.excess is not None and right.excess is not None:
        worth += width * ((left.excess > 0) != (right.excess > 0))
    return worth
