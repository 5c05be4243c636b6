"""The weighted sum of task vectors, divided by the weights' sum or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.methods.contract.group import TensorGroup, method
from laconic.methods.contract.kernel_steps import Combination, KernelContext, weighted_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

TINY = 1e-8


def kernel(context: KernelContext) -> Combination:
    """The weighted sum over its divisor."""
    params = context.params
    total = divisor(context.weights, normalise=params["normalise"])
    return weighted_mean(context.weights, params["scale"], total)


@method(base="optional", kernel=kernel, no_op_at={"scale": 0.0})
def weighted_sum(group: TensorGroup, *, scale: float = 1.0, normalise: bool = False) -> Tensor:
    """The base plus `scale` times the weighted sum of the vectors, with or without a base.

    ``x = x_0 + scale * sum_k w_k v_k / D``, where D is 1, or with `normalise` ``sum_k w_k`` (1
    where that is 0). Without a base the vectors are the models themselves.

    Args:
        scale: The multiple of the sum that is added to the base.
        normalise: Whether the sum is divided by the sum of the weights.

    Source: Ilharco et al. 2023 (arXiv 2212.04089); the division is mergekit's ``normalize``.
    """
    total = group.base.new_tensor(divisor(group.weights, normalise=normalise))
    return group.base + scale * sum(group.weighted()) / total


def divisor(weights: Sequence[float], *, normalise: bool) -> float:
    """What the sum is divided by."""
    total = sum(weights)
    return total if normalise and abs(total) >= TINY else 1.0
