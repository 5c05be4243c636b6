"""Where the labels of a scatter plot go: near their points, over nothing that matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Box = tuple[float, float, float, float]
DISTANCES = (8.0, 13.0, 20.0, 30.0, 42.0, 56.0, 74.0, 96.0)
DIRECTIONS = 16
SWEEPS = 6
SPOTS = 10
STARTS = 6
MARGIN = 2.0
ON_LABEL, ON_POINT, ON_LINE, OUTSIDE = 200.0, 90.0, 9.0, 1000.0


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    lines: Sequence[Box],
    frame: Box,
) -> list[Box]:
    """A box for each point's label, found by letting each in turn move to its best place.

    Every label has the same candidates: its size, at some directions and distances. One costs its
    distance and what it or the way to its point covers: other labels most, points next, lines
    least. The labels choose in turn, then again for a few rounds with all others in place; of
    the orders tried, the one that costs least in all wins, so equal pictures get equal labels.

    Args:
        points: The centres of the markers; any one unit of length for everything, points best.
        sizes: Width and height of each label.
        lines: Thin boxes (left, bottom, right, top) that labels had better not cross.
        frame: The box that labels must stay inside.
    """
    centres = np.array(points, dtype=np.float64).reshape(-1, 2)
    markers = np.concatenate([centres - 5.0, centres + 5.0], axis=1)
    strokes = np.array(lines, dtype=np.float64).reshape(-1, 4)
    options = [_candidates(point, size) for point, size in zip(points, sizes, strict=True)]
    leaders = [_leaders(boxes, point) for (boxes, _), point in zip(options, points, strict=True)]
    fixed = [
        reach
        + ON_POINT * _overlaps(boxes, markers)
        + ON_POINT * _crossings(ways, markers[_apart(centres, i)])
        + ON_LINE * _overlaps(boxes, strokes)
        + OUTSIDE * _sticks_out(boxes, frame)
        for i, ((boxes, reach), ways) in enumerate(zip(options, leaders, strict=True))
    ]
    best, least = [0] * len(points), np.inf
    for start in range(0, len(points), max(1, len(points) // STARTS)):
        order = [*range(start, len(points)), *range(start)]
        chosen, cost = _settle(order, [boxes for boxes, _ in options], leaders, fixed)
        if cost < least:
            best, least = chosen, cost
    picked = [boxes[k] for (boxes, _), k in zip(options, best, strict=True)]
    return [(float(b[0]), float(b[1]), float(b[2]), float(b[3])) for b in picked]


def _apart(centres: NDArray[np.float64], i: int) -> NDArray[np.bool_]:
    """Which points do not coincide with one: no way leads around those that do, ``[point]``."""
    return np.asarray(np.abs(centres - centres[i]).max(axis=1) > MARGIN)


def _settle(
    order: Sequence[int],
    boxes: Sequence[NDArray[np.float64]],
    leaders: Sequence[NDArray[np.float64]],
    fixed: Sequence[NDArray[np.float64]],
) -> tuple[list[int], float]:
    """Let the labels choose in turn until none moves: the candidates, and what they cost in all."""
    chosen = dict.fromkeys(order, -1)
    costs = dict.fromkeys(order, 0.0)
    for _ in range(SWEEPS):
        before = dict(chosen)
        for i in order:
            there = [(j, k) for j, k in chosen.items() if k >= 0 and j != i]
            placed = np.array([boxes[j][k] for j, k in there]).reshape(-1, 4)
            ways = np.array([leaders[j][k] for j, k in there]).reshape(-1, 2)
            cost = fixed[i] + ON_LABEL * _overlaps(boxes[i], placed)
            cost += ON_LABEL * _crossings(leaders[i], placed)
            cost += ON_LABEL * (_overlaps(boxes[i], np.hstack([ways, ways])) > 0)
            chosen[i] = int(np.argmin(cost))
            costs[i] = float(cost[chosen[i]])
        if chosen == before:
            break
    return [chosen[i] for i in range(len(order))], sum(costs.values())


def _candidates(
    point: tuple[float, float], size: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Boxes around a point ``[candidate, 4]`` and what the way there costs ``[candidate]``."""
    angles = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    width, height = size
    boxes, costs = [], []
    for distance in DISTANCES:
        centre = np.array(point) + directions * (distance + np.array([width, height]) / 2)
        half = np.array([width, height]) / 2
        boxes.append(np.concatenate([centre - half, centre + half], axis=1))
        costs.append(np.full(DIRECTIONS, distance) + np.arange(DIRECTIONS) * 0.01)
    return np.concatenate(boxes), np.concatenate(costs)


def _overlaps(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of the others each box touches, margin included, ``[box]``."""
    a, b = boxes[:, None, :], others[None, :, :]
    apart = (
        (a[..., 0] - MARGIN > b[..., 2])
        | (a[..., 2] + MARGIN < b[..., 0])
        | (a[..., 1] - MARGIN > b[..., 3])
        | (a[..., 3] + MARGIN < b[..., 1])
    )
    touched: NDArray[np.float64] = np.sum(~apart, axis=1).astype(np.float64)
    return touched


def _leaders(boxes: NDArray[np.float64], point: tuple[float, float]) -> NDArray[np.float64]:
    """Spots on the way from the point to the nearest place of each box, ``[box, spot, 2]``.

    The ends are left out: there the way touches its own marker and its own label.
    """
    start = np.array(point)
    nearest = np.clip(start, boxes[:, :2], boxes[:, 2:])
    steps = np.linspace(0.0, 1.0, SPOTS + 2)[1:-1, None]
    spots: NDArray[np.float64] = start + steps * (nearest - start)[:, None, :]
    return spots


def _crossings(ways: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of the boxes each way leads across, ``[way]``."""
    spots, b = ways[:, :, None, :], boxes[None, None, :, :]
    inside = np.all((spots >= b[..., :2]) & (spots <= b[..., 2:]), axis=-1)
    crossed: NDArray[np.float64] = np.sum(np.any(inside, axis=1), axis=1).astype(np.float64)
    return crossed


def _sticks_out(boxes: NDArray[np.float64], frame: Box) -> NDArray[np.float64]:
    left, bottom, right, top = frame
    out = (
        (boxes[:, 0] < left) | (boxes[:, 1] < bottom) | (boxes[:, 2] > right) | (boxes[:, 3] > top)
    )
    return out.astype(np.float64)
