"""TIES: trim, elect signs, average the vectors that agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Le

from laconic.method import Scope, TensorGroup, method

if TYPE_CHECKING:
    from torch import Tensor


@method(trims=True, idle={"scale": 0.0})
def ties(
    group: TensorGroup,
    *,
    density: Annotated[float, Gt(0), Le(1)] = 0.2,
    scale: float = 1.0,
    scope: Scope = "tensor",
) -> Tensor:
    """Keep the largest entries of each task vector, then average those that agree in sign.

    Each weighted vector is trimmed to its `density` largest entries by magnitude; each element's
    sign is that of the sum over models (+ where it is zero); the entries with that sign are
    averaged over their number; `scale` times the average is added to the base. With one model
    there is nothing to elect: the result is the base plus the scaled, trimmed vector.

    Every entry at the threshold is kept, so ties can keep a little more than `density`. The paper's
    average is unweighted; a weight other than 1 multiplies its vector in the vote and in the
    average and does not cancel.

    Args:
        density: The fraction of entries kept (1 minus the trim ratio k of Wu et al. 2025).
        scale: The multiple of the averaged vectors that is added to the base.
        scope: Whether the entries are ranked within each tensor or over the whole model.

    Source: Yadav et al. 2023 (arXiv 2306.01708), section 3; Wu et al. 2025, Table 7.
    """
    vectors = group.weighted()
    for i, vector in enumerate(group.vectors):
        vectors[i] *= vector.abs() >= group.magnitude(i, density, scope)
    sign = (vectors.sum(0) >= 0) * 2.0 - 1
    agree = vectors * sign > 0
    total, count = (vectors * agree).sum(0), agree.sum(0)
    return group.base + scale * total / count.clamp(min=1)
