"""Task arithmetic: the base plus the scaled sum of task vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.methods.contract.group import TensorGroup, method
from laconic.methods.contract.kernel_steps import Combination, KernelContext, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor


def kernel(context: KernelContext) -> Combination:
    """The scaled weighted sum."""
    return weighted_sum(context.weights, context.params["scale"])


@method(kernel=kernel, no_op_at={"scale": 0.0})
def task_arithmetic(group: TensorGroup, *, scale: float = 0.7) -> Tensor:
    """The base plus `scale` times the weighted sum of the task vectors.

    ``x = x_0 + scale * sum_k w_k (x_k - x_0)``. With one model and System 1 as the base this is
    the straight line from System 1 (0) to System 2 (1); above 1 it goes beyond System 2.

    Args:
        scale: The fraction of the summed vectors that is added; Wu et al. use 0.7 at every size.

    Source: Ilharco et al. 2023 (arXiv 2212.04089); Wu et al. 2025, Table 7 for the default.
    """
    return group.base + scale * sum(group.weighted())
