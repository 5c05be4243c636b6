"""TIES: trim, elect signs, average the vectors that agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Le

from laconic.methods.contract.group import TensorGroup, method
from laconic.methods.contract.kernel_steps import (
    Combination,
    KernelContext,
    mean_of_agreeing,
    weighted_sum,
)
from laconic.methods.contract.ranking import Scope, Ties  # noqa: TC001  # the registry reads the types

if TYPE_CHECKING:
    from torch import Tensor


def kernel(context: KernelContext) -> Combination:
    """The vote; of one model there is nothing to elect."""
    combine = mean_of_agreeing if len(context.weights) > 1 else weighted_sum
    return combine(context.weights, context.params["scale"])


@method(trims=True, kernel=kernel, no_op_at={"scale": 0.0})
def ties(
    group: TensorGroup,
    *,
    density: Annotated[float, Gt(0), Le(1)] = 0.2,
    scale: float = 1.0,
    scope: Scope = "tensor",
    ties: Ties = "all",
) -> Tensor:
    """Keep the largest entries of each task vector, then average those that agree in sign.

    Each weighted vector is trimmed to its `density` largest entries by magnitude; each element's
    sign is that of the sum over models (+ where it is zero); the entries with that sign are
    averaged over their number; `scale` times the average is added to the base. With one model
    there is nothing to elect: the result is the base plus the scaled, trimmed vector.

    Of n entries the ``density * n`` largest are kept, rounded down, and at least one; by default so
    is every entry as large as the last of them, so a little more than `density` can be. The paper's
    code and the scripts of Wu et al. keep one entry more, the next one below. The paper's average
    is unweighted; a weight other than 1 multiplies its vector in the vote and in the average and
    does not cancel.

    Args:
        density: The fraction of entries kept (1 minus the trim ratio k of Wu et al. 2025).
        scale: The multiple of the averaged vectors that is added to the base.
        scope: Whether the entries are ranked within each tensor or over the whole model.
        ties: Of the entries at the threshold keep all, or exactly as many as `density` says: those
            that come first in the tensor (and in the sorted names of tensors).

    Source: Yadav et al. 2023 (arXiv 2306.01708), section 3; Wu et al. 2025, Table 7; the code of
    both keeps one entry more.
    """
    vectors = group.trimmed(density, scope, ties).weighted()
    sign = (sum(vectors) >= 0) * 2.0 - 1
    agree = vectors * sign > 0
    return group.base + scale * sum(vectors * agree) / agree.sum(0).clamp(min=1)
