"""Exact magnitude thresholds over a whole model, from two streaming passes of counting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from laconic.method import kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor

BINS: Final = 1 << 16


class Thresholds:
    """Finds, per model, the k-th largest |value| of all tensors together.

    The bit pattern of a non-negative float32 grows with its value. The first pass counts the upper
    16 bits, which finds the bin that holds the k-th largest; the second counts the lower 16 bits
    within that bin. Call `count` with every tensor, then `settle`; then both once more.

    Attributes:
        found: For each density the threshold of each model, once both passes are through.
    """

    PASSES: Final = ("upper bits", "lower bits")

    def __init__(self) -> None:
        self.found: dict[float, tuple[float, ...]] = {}
        self._upper: list[np.ndarray] = []
        self._lower: list[dict[int, np.ndarray]] = []
        self._wanted: list[dict[float, tuple[int, int]]] = []

    def count(self, vectors: Tensor) -> None:
        """Count one tensor group's vectors, float32, ``[model, *shape]``."""
        import numpy as np

        for i, vector in enumerate(vectors):
            bits = vector.abs().flatten().numpy().view(np.uint32)
            if not self._wanted:
                if len(self._upper) <= i:
                    self._upper.append(np.zeros(BINS, np.int64))
                self._upper[i] += np.bincount(bits >> 16, minlength=BINS)
                continue
            for bin_, counts in self._lower[i].items():
                inside = bits[bits >> 16 == bin_] & (BINS - 1)
                counts += np.bincount(inside, minlength=BINS)

    def settle(self, densities: Sequence[float]) -> None:
        """Close a pass: pick the bins to look into, or the thresholds themselves."""
        import numpy as np

        if not self._wanted:
            for counts in self._upper:
                wanted = {d: _find(counts, kept(int(counts.sum()), d)) for d in densities}
                self._wanted.append(wanted)
                bins = [bin_ for bin_, _ in wanted.values()]
                self._lower.append({bin_: np.zeros(BINS, np.int64) for bin_ in bins})
            return
        for density in densities:
            limits = []
            for wanted, lower in zip(self._wanted, self._lower, strict=True):
                bin_, rank = wanted[density]
                low, _ = _find(lower[bin_], rank)
                limits.append(float(np.array(bin_ << 16 | low, np.uint32).view(np.float32)))
            self.found[density] = tuple(limits)


def _find(counts: np.ndarray, k: int) -> tuple[int, int]:
    """The bin that holds the k-th largest element, and its rank from the top within that bin."""
    above = counts[::-1].cumsum()
    position = int(above.searchsorted(k))
    before = int(above[position - 1]) if position else 0
    return len(counts) - 1 - position, k - before
