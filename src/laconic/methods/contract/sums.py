"""Sums over a tensor, chunk by chunk in a fixed order, so that blocks and threads change no bit."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

Array = np.ndarray[Any, Any]


def magnitudes(values: Sequence[Tensor], chunk: int) -> Array:
    """The sums of magnitudes of some tensors, ``[tensor, chunk]``."""
    from laconic.methods.contract.kernels.summing import magnitude

    rows = [[magnitude(part) for part in _chunks(value, chunk)] for value in values]
    return np.array(rows)


def squares(values: Sequence[Tensor], chunk: int) -> Array:
    """The sums of squares of some tensors, ``[tensor, chunk]``."""
    from laconic.methods.contract.kernels.summing import inner

    return np.array([[inner(c, c) for c in _chunks(value, chunk)] for value in values])


def products(values: Sequence[Tensor], chunk: int) -> Array:
    """The inner products of some tensors with each other, in float64.

    The pairs are 0·0, 0·1, ..., 1·1, and so on: ``[pair, chunk]``.
    """
    from laconic.methods.contract.kernels.summing import inner

    chunks = [list(_chunks(value, chunk)) for value in values]
    pairs = combinations_with_replacement(chunks, 2)
    return np.array([[inner(a, b) for a, b in zip(*pair, strict=True)] for pair in pairs])


def add(parts: Sequence[float]) -> float:
    """The exact sum of some numbers; infinite or NaN where they are."""
    return math.fsum(parts) if np.isfinite(parts).all() else float(np.sum(parts))


def square(products: Sequence[float]) -> Array:
    """Inner products as `products` gives them, as a symmetric matrix."""
    size = int((8 * len(products) + 1) ** 0.5 - 1) // 2
    matrix = np.empty((size, size))
    for (i, j), value in zip(combinations_with_replacement(range(size), 2), products, strict=True):
        matrix[i, j] = matrix[j, i] = value
    return matrix


def _chunks(value: Tensor, chunk: int) -> Iterator[Array]:
    flat = value.flatten().cpu().numpy()
    for start in range(0, len(flat), chunk):
        yield flat[start : start + chunk]
