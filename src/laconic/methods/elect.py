"""Sign election: where weighted vectors disagree, only those of the stronger sign count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.methods.contract.group import TensorGroup, method
from laconic.methods.contract.kernel_steps import Combination, KernelContext, sum_of_agreeing

if TYPE_CHECKING:
    from torch import Tensor


def kernel(context: KernelContext) -> Combination:
    """The election, and the sum that follows."""
    params = context.params
    return sum_of_agreeing(context.weights, params["scale"], normalise=params["normalise"])


@method(base="optional", kernel=kernel, no_op_at={"scale": 0.0})
def elect(group: TensorGroup, *, scale: float = 1.0, normalise: bool = False) -> Tensor:
    """Elect each element's sign and sum the weighted vectors that have it.

    ``x = x_0 + scale * sum_k a_k w_k v_k / D``: the elected sign is that of ``sum_k w_k v_k`` (+
    where it is zero), and a_k is 1 where ``w_k v_k`` has it, else 0 (zero has no sign). D is 1, or
    with `normalise` ``sum_k a_k w_k`` (1 where that is 0). Behind a trim this is TIES as mergekit
    counts it; with one model the weight then cancels. Method ``ties`` divides by the number of
    models that agree instead.

    Args:
        scale: The multiple of the elected vector that is added to the base.
        normalise: Whether the sum is divided by the weights of the models that agree.

    Source: steps 2 and 3 of Yadav et al. 2023 (arXiv 2306.01708), weighted as mergekit does.
    """
    import torch

    vectors = group.weighted()
    sign = (sum(vectors) >= 0) * 2.0 - 1
    agree = vectors * sign > 0
    total: Tensor = sum(vectors * agree)  # type: ignore[assignment]  # there is a model
    if normalise:
        weights = torch.tensor(group.weights, dtype=vectors.dtype, device=vectors.device)
        divisor: Tensor = sum(  # type: ignore[assignment]  # there is a model
            weights.view(-1, *[1] * group.base.ndim) * agree
        )
        total = total / divisor.where(divisor != 0, 1.0)
    return group.base + scale * total
