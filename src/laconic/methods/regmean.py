"""RegMean: the matrix whose outputs come nearest to those of every model on its own inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from laconic.errors import CalibrationError, RecipeError
from laconic.methods.contract.group import TensorGroup, method

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.methods.contract.traits import TensorContext


def check(_: Mapping[str, Any], context: TensorContext) -> str:
    """Refuse negative weights and files that differ in what they hold; tell of lone matrices."""
    if min(context.weights) < 0:
        raise RecipeError("regmean: a weight is negative; the problem then has no solution.")
    name, present = context.name, [context.name in m for m in context.stats["gram"]]
    if any(present) and not all(present):
        raise CalibrationError(f"regmean: a file holds nothing of '{name}', another does.")
    if any(present) or len(context.shape) != 2 or context.role or "embed" in name:
        return ""
    return "regmean takes the mean of matrices without statistics"


@method(
    reach="tensor",
    base="optional",
    normalises=True,
    stats={"gram": "models"},
    check=check,
    extra_copies=8,
    stats_copies=8,
    cost="a forward pass of each model over its calibration texts, and a Cholesky decomposition of "
    "inputs x inputs a matrix: minutes for a down projection of a 7B model on a CPU",
)
def regmean(
    group: TensorGroup,
    *,
    off_diagonal: Annotated[float, Ge(0), Le(1)] = 0.9,
    ridge: Annotated[float, Ge(0)] = 1e-6,
) -> Tensor:
    """Solve for the linear map that is nearest to all models' on their own inputs.

    ``x^T = (sum_k w_k G_k)^-1 sum_k w_k G_k x_k^T``, where G_k is the mean of the outer products of
    model k's inputs, its entries off the diagonal multiplied by `off_diagonal`. What has no such
    statistics (embedding, norms, biases, stacked experts) takes the weighted mean.

    It is solved for the difference from the mean m, ``x = m + y`` with
    ``(sum_k w_k G_k + r) y^T = sum_k w_k G_k (x_k - m)^T``, in float64 by Cholesky, where r is
    `ridge` times the mean of the diagonal: inputs that were never active take the mean.

    Args:
        off_diagonal: The factor of correlations between inputs; 1 trusts them, 0 ignores them.
        ridge: What is added to the diagonal, as a fraction of its mean.

    Source: Jin et al. 2023 (arXiv 2212.09849), equation 2 and section 3.2; the ridge is ours.
    """
    import torch

    weight = [w / sum(group.weights) for w in group.weights]
    mean = sum(
        (w * v for w, v in zip(weight, group.vectors, strict=True)), torch.zeros_like(group.base)
    )
    grams = group.measured("gram")
    if group.base.ndim != 2 or any(gram is None for gram in grams):
        return group.base + mean
    columns = group.base.shape[1]
    left = torch.zeros(columns, columns, dtype=torch.float64, device=group.base.device)
    right = left.new_zeros(columns, group.base.shape[0])
    for w, vector, gram in zip(weight, group.vectors, grams, strict=True):
        assert gram is not None
        scaled = gram.double() * (w * off_diagonal)
        scaled.diagonal().add_(gram.diagonal().double() * (w * (1 - off_diagonal)))
        left += scaled
        right += scaled @ (vector - mean).double().T
    left.diagonal().add_(ridge * left.diagonal().mean())
    return group.base + mean + solved(group.name, left, right).T.float()


def solved(name: str, left: Tensor, right: Tensor) -> Tensor:
    """The solution of ``left y = right`` for a symmetric `left`; zeros where all of it is zero."""
    import torch

    if not bool(left.any()):
        return torch.zeros_like(right)
    factor, failed = torch.linalg.cholesky_ex(left)
    if int(failed):
        raise RecipeError(
            f"regmean: the Gram matrices of '{name}' are singular: fewer tokens than inputs, or "
            "inputs that say the same. Use off_diagonal below 1, a larger ridge, or more samples."
        )
    solution: Tensor = torch.cholesky_solve(right, factor)
    return solution
