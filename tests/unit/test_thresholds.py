"""The streaming thresholds against a sort of everything."""

from __future__ import annotations

import torch

from laconic.method import kept
from laconic.thresholds import Thresholds


def test_thresholds_equal_a_sort_over_all_tensors() -> None:
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, n, generator=draw) * 10**-i for i, n in enumerate((700, 90, 1000))]
    parts.append(torch.zeros(2, 300))
    densities = (0.01, 0.2, 0.5, 0.9, 1.0)
    thresholds = Thresholds()
    for _ in Thresholds.PASSES:
        for part in parts:
            thresholds.count(part)
        thresholds.settle(densities)
    everything = torch.cat(parts, dim=1).abs().sort(dim=1, descending=True).values
    for density in densities:
        k = kept(everything.shape[1], density)
        assert thresholds.found[density] == tuple(everything[:, k - 1].tolist())


def test_a_hair_below_a_whole_number_counts_as_that_number() -> None:
    assert kept(100, 0.29) == 29
    assert kept(3, 0.2) == 1
