"""The weighted mean of checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.errors import RecipeError
from laconic.methods.contract.group import TensorGroup, method
from laconic.methods.contract.kernel_steps import Combination, KernelContext, weighted_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def kernel(context: KernelContext) -> Combination:
    """The weighted sum over the sum of the weights."""
    return weighted_mean(context.weights, 1.0, divisor(context.weights))


@method(base="optional", normalises=True, kernel=kernel)
def average(group: TensorGroup) -> Tensor:
    """The mean of the models, their weights normalised to a sum of 1.

    ``x = sum_k w_k x_k / sum_k w_k``. A base is not a member of the mean: list it among the models
    to make it one. With two models and equal weights this is task arithmetic at scale 0.5.

    Source: model soups (Wortsman et al. 2022, arXiv 2203.05482); "Average" in Wu et al. 2025.
    """
    return group.base + sum(group.weighted()) / group.base.new_tensor(divisor(group.weights))


def divisor(weights: Sequence[float]) -> float:
    """The sum of the weights.

    Raises:
        RecipeError: Where it is 0.
    """
    total = sum(weights)
    if total == 0:
        raise RecipeError("average: the models' weights sum to 0, so they have no mean.")
    return total
