"""Low-rank approximation and singular value thresholding of one matrix or a stack of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

#: Draws a random matrix of so many rows and columns, on the device of what is approximated.
Draw = Callable[[int, int], "Tensor"]
#: More columns than the rank that a random sketch takes, and how often it is sharpened.
OVERSAMPLING: Final = 10
POWER: Final = 2
#: Sketch where the rank is below this fraction of the smaller side; above, it saves little.
SKETCHED: Final = 0.25
#: The columns of a matrix that are taken to float64 at a time.
SLICE: Final = 4096


def truncate(matrix: Tensor, rank: int, draw: Draw) -> Tensor:
    """The approximation of a matrix by its `rank` largest singular triplets.

    Where the rank is small it is found by randomised subspace iteration from a random start, else
    by the eigenvectors of the smaller product of the matrix with its transpose, in float64. Either
    way the matrix is projected onto its leading singular vectors.

    Args:
        matrix: ``[..., m, n]``, float32; of a stack each matrix is approximated by itself.
        rank: How many triplets are kept; 0 gives zeros, min(m, n) or more the matrix.
        draw: Makes the random start.

    Returns:
        ``[..., m, n]``, float32, on the same device; NaN where the matrix is not finite.

    Source: Halko, Martinsson and Tropp 2011 (SIAM Review 53(2)), algorithms 4.4 and 5.1.
    """

    def one(wide: Tensor) -> Tensor:
        if rank < 1:
            return wide.new_zeros(wide.shape)
        if rank >= len(wide):
            return wide
        if rank + OVERSAMPLING <= SKETCHED * len(wide):
            basis = _sketch(wide, rank, draw)
        else:
            basis = _left(wide)[1][:, -rank:].float()
        return basis @ (basis.mT @ wide)

    return _each(matrix, one)


def soften(matrix: Tensor, threshold: float, *, relative: bool = False) -> Tensor:
    """Singular value thresholding: every singular value less `threshold`, but not less than 0.

    ``U max(S - threshold, 0) V^T``, found as ``U max(1 - threshold / S, 0) U^T`` times the matrix.

    Args:
        matrix: ``[..., m, n]``, float32.
        threshold: At least 0.
        relative: Whether the threshold is a fraction of each matrix's largest singular value.

    Returns:
        ``[..., m, n]``, float32, on the same device; NaN where the matrix is not finite.

    Source: Cai, Candes and Shen 2010 (SIAM Journal on Optimization 20(4)), section 2.1.
    """

    def one(wide: Tensor) -> Tensor:
        values, left = _left(wide)
        limit = threshold * values[-1] if relative else threshold
        share = (1 - limit / values.clamp(min=1e-300)).clamp(min=0)
        return ((left * share) @ left.mT).float() @ wide

    return _each(matrix, one) if threshold else matrix


def _each(matrix: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of wide matrices to a stack of any; tall ones are turned."""
    import torch

    if not matrix.numel():
        return matrix
    if not bool(torch.isfinite(matrix).all()):
        return matrix * float("nan")
    if matrix.ndim > 2:
        return torch.stack([_each(part, function) for part in matrix])
    if matrix.shape[0] > matrix.shape[1]:
        return function(matrix.mT).mT
    return function(matrix)


def _left(wide: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values, ascending, and left singular vectors of a wide matrix, float64.

    NaN where a sketch of it has overflown.
    """
    import torch

    product = wide.new_zeros(len(wide), len(wide)).double()
    for start in range(0, wide.shape[1], SLICE):
        part = wide[:, start : start + SLICE].double()
        product += part @ part.mT
    if not bool(torch.isfinite(product).all()):
        return product[0] * float("nan"), product * float("nan")
    squares, left = torch.linalg.eigh(product)
    return squares.clamp(min=0).sqrt(), left


def _sketch(wide: Tensor, rank: int, draw: Draw) -> Tensor:
    """The leading left singular vectors of a wide matrix, ``[m, rank]``, nearly."""
    import torch

    def orthogonal(columns: Tensor) -> Tensor:
        basis: Tensor = torch.linalg.qr(columns).Q
        return basis

    basis = orthogonal(wide @ draw(wide.shape[1], rank + OVERSAMPLING))
    for _ in range(POWER):
        basis = orthogonal(wide @ orthogonal(wide.mT @ basis))
    return basis @ _left(basis.mT @ wide)[1][:, -rank:].float()
