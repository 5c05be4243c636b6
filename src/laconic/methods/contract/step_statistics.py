"""The calibration statistics of one checkpoint, as the steps of a merge read them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from laconic.checkpoints.layout import EMBED, HEAD, Layout, find_depth

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


class StepStatistics(Mapping[str, "Tensor"]):
    """One kind of statistics of one checkpoint, by tensor name, read when asked for.

    Args:
        tensors: The statistics, as `laconic.calibration.record.Calibration` holds them.
        sizes: How many elements each tensor of the checkpoint has.
        tied: Whether the checkpoint's head is its embedding; both then have the same statistics.
        layout: The checkpoint's; None for the usual names of embedding, head and layers.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        sizes: Mapping[str, int] | None = None,
        *,
        tied: bool = False,
        layout: Layout | None = None,
    ) -> None:
        self.sizes = dict(sizes or {})
        layout = layout or Layout(EMBED, HEAD, find_depth(self.sizes or tensors))
        self.depth, self._layout = layout.depth, layout
        self._tensors = tensors
        self._tied = tied
        self._known: dict[Callable[[StepStatistics], Any], Any] = {}

    def _own(self, name: str) -> str:
        stands_in = name == self._layout.head and self._tied and name not in self._tensors
        return (self._layout.embedding if stands_in else None) or name

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._own(name) in self._tensors

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._own(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def once(self, function: Callable[[StepStatistics], T]) -> T:
        """A function's result for all these statistics, computed once for all tensors and blocks.

        Threads that need it at the same time may each compute it; the results are equal.
        """
        if function not in self._known:
            self._known[function] = function(self)
        known: T = self._known[function]
        return known


def layer_shares(statistics: StepStatistics) -> dict[int, float]:
    """The sum of each layer's statistics, over the Euclidean norm of these sums.

    Zeros where all are zero.
    """
    sums: dict[int, float] = {}
    for name, value in statistics.items():
        layer = statistics.depth.of(name)
        if layer is not None:
            sums[layer] = sums.get(layer, 0.0) + float(value.double().sum())
    norm = math.hypot(*sums.values()) or 1.0
    return {layer: value / norm for layer, value in sums.items()}


def layer_mismatch(statistics: StepStatistics) -> str:
    """How the layers of the statistics differ from the checkpoint's; empty where they do not."""
    layers = {statistics.depth.of(name) for name in statistics} - {None}
    needed = {statistics.depth.of(name) for name in statistics.sizes} - {None}
    if layers == needed:
        return ""
    return f"they are of {len(layers)} layers, and the checkpoint has {len(needed)}"
