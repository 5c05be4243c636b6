"""The streaming thresholds against a sort of everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from laconic.merging.engine.thresholds import SAMPLE, CountRequest, find_thresholds
from laconic.methods.contract.kernels.compiling import BINS
from laconic.methods.contract.ranking import kept

if TYPE_CHECKING:
    from laconic.merging.engine.thresholds import Counts

VALUES = st.one_of(st.floats(0, width=32, allow_infinity=False), st.sampled_from([0.0, 1.0, 2.0]))


class Held:
    """Counts values that are all in memory, a row for each model."""

    def __init__(self, values: np.ndarray) -> None:
        self.bits = values.view(np.uint32).astype(np.int64)
        self.looks: list[CountRequest] = []

    def __call__(self, look: CountRequest) -> Counts:
        self.looks.append(look)
        rows = self.bits[:, :: look.every]
        if not look.bins:
            return np.stack([np.bincount(row >> 16, minlength=BINS) for row in rows])
        places = rows - (np.array(look.bins)[:, None] << 16)
        beside = np.where(places < 0, look.width, look.width + 1)
        places = np.where((places < 0) | (places >= look.width), beside, places)
        return np.stack([np.bincount(row, minlength=look.width + 2) for row in places])


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 40)), elements=VALUES),
    st.sampled_from([0.01, 0.2, 0.5, 0.9, 1.0]),
)
def test_thresholds_equal_a_sort(values: np.ndarray, density: float) -> None:
    check(Held(values), values, density)


def check(counter: Held, values: np.ndarray, density: float) -> None:
    """Compare the thresholds with those of a sort."""
    size = values.shape[1]
    k = kept(size, density)
    for row, found in zip(values, find_thresholds(counter, size, k), strict=True):
        assert found.value == np.sort(row)[::-1][k - 1]
        assert found.tied == (row == found.value).sum()
        assert found.kept_ties == k - (row > found.value).sum()


@pytest.mark.parametrize("density", [0.001, 0.2, 1.0])
def test_a_sample_of_many_entries_saves_a_pass(density: float) -> None:
    values = np.abs(np.random.default_rng(0).standard_normal((2, 3 * SAMPLE), np.float32))
    values[1] = np.round(values[1], 1)
    counter = Held(values)
    check(counter, values, density)
    assert [look.every for look in counter.looks] == [3, 1]


def test_a_sample_that_misleads_costs_only_time() -> None:
    values = np.abs(np.random.default_rng(0).standard_normal((1, 2 * SAMPLE), np.float32))
    values[:, ::2] = 0
    counter = Held(values)
    check(counter, values, 0.2)
    assert [len(look.bins) for look in counter.looks] == [0, 1, 0, 1]


def test_a_hair_below_a_whole_number_counts_as_that_number() -> None:
    assert kept(100, 0.29) == 29
    assert kept(3, 0.2) == 1
