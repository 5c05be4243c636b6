"""Ranking: exactly so many of a tensor's largest entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def largest(sizes: Tensor, k: int) -> Tensor:
    """True at exactly the k largest; of equal ones at the first in the order of the elements."""
    import torch

    values = sizes.flatten()
    if k < 1:
        return torch.zeros_like(sizes, dtype=torch.bool)
    limit = _kth_largest(values, k)
    keep = values >= limit
    surplus = int(keep.sum()) - k
    if surplus:
        keep[(values == limit).nonzero().flatten()[-surplus:]] = False
    return keep.view(sizes.shape)


def _kth_largest(values: Tensor, k: int) -> float:
    """The k-th largest of flat values: exact wherever it is taken."""
    import numpy as np

    place = len(values) - k
    if values.device.type == "cpu":
        return float(np.partition(values.numpy(), place)[place])
    return float(values.sort().values[place])
