"""The streaming thresholds against a sort of everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from laconic.kernels import LOWER_BINS, UPPER_BINS
from laconic.method import kept
from laconic.thresholds import find_thresholds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.thresholds import Counts

VALUES = st.one_of(st.floats(0, width=32, allow_infinity=False), st.sampled_from([0.0, 1.0, 2.0]))


class Held:
    """Counts values that are all in memory, a row for each model."""

    def __init__(self, values: np.ndarray) -> None:
        self.bits = values.view(np.uint32)

    def upper(self) -> Counts:
        return np.stack([np.bincount(row >> 16, minlength=UPPER_BINS) for row in self.bits])

    def lower(self, bins: Sequence[int]) -> Counts:
        rows = [row[row >> 16 == b] & 0xFFFF for row, b in zip(self.bits, bins, strict=True)]
        return np.stack([np.bincount(row, minlength=LOWER_BINS) for row in rows])


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=VALUES),
    st.sampled_from([0.01, 0.2, 0.5, 0.9, 1.0]),
)
def test_thresholds_equal_a_sort(values: np.ndarray, density: float) -> None:
    k = kept(values.shape[1], density)
    for row, found in zip(values, find_thresholds(Held(values), density), strict=True):
        assert found.value == np.sort(row)[::-1][k - 1]
        assert found.tied == (row == found.value).sum()
        assert found.spare == k - (row > found.value).sum()


def test_a_hair_below_a_whole_number_counts_as_that_number() -> None:
    assert kept(100, 0.29) == 29
    assert kept(3, 0.2) == 1
