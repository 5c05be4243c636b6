"""Twin-Merging's shared and exclusive parts: task arithmetic plus a low-rank rest of each model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from laconic.methods.contract.group import TensorGroup, method
from laconic.methods.contract.low_rank import truncate

if TYPE_CHECKING:
    from torch import Tensor


@method(
    reach="tensor",
    extra_copies=3,
    cost="one truncated SVD a model and matrix: seconds for a layer of a 7B model, see "
    "benchmarks/svd.md",
)
def twin_svd(
    group: TensorGroup,
    *,
    scale: float = 0.3,
    density: Annotated[float, Ge(0), Le(1)] = 0.1,
    rank: Annotated[int, Ge(0)] | None = None,
) -> Tensor:
    """Task arithmetic, plus what it leaves out of each model in its largest singular triplets.

    The shared part is ``s = x_0 + scale * sum_k v_k``; the exclusive part of model k is
    ``SVD_r(x_k - s)``, the r largest singular triplets of what the shared part lacks; the result is
    ``s + sum_k w_k SVD_r(x_k - s)``. With one model that is
    ``x_0 + scale v + w (1 - scale) SVD_r(v)``: the straight line, and a refill of rank r. Vectors
    (norms, biases) are not truncated, so that at weight 1 one model's are taken as they are; of a
    stack of experts each matrix is truncated by itself.

    The paper weighs the exclusive parts by a router that looks at the input; a merged checkpoint
    has none, so the recipe's weights stand there. Give a model weight 0 to leave its exclusive
    part out: it stays in the shared one. Wu et al. use this part of the method, and publish neither
    scale nor rank nor weights.

    Args:
        scale: The multiple of the summed vectors in the shared part; 0.3 is the paper's for LLMs.
        density: The fraction of the singular triplets kept (1 minus the mask rate), of
            min(rows, columns), rounded down; 0 gives task arithmetic.
        rank: How many triplets are kept, whatever the size; null goes by `density`.

    Source: Lu et al. 2024 (arXiv 2406.15479) and their code; "Twin" in Wu et al. 2025, Table 1.
    """
    moved = scale * group.vectors.sum(0)
    exclusive = group.base.new_zeros(group.base.shape)
    for i, (vector, weight) in enumerate(zip(group.vectors, group.weights, strict=True)):
        if weight:
            exclusive += weight * _truncated(group, i, vector - moved, density, rank)
    return group.base + (moved + exclusive)


def _truncated(
    group: TensorGroup, i: int, rest: Tensor, density: float, rank: int | None
) -> Tensor:
    """The r largest singular triplets of a model's rest; a vector as it is."""
    if rest.ndim < 2:
        return rest
    if rank is None:
        rank = math.floor(min(rest.shape[-2:]) * density + 1e-9)
    return truncate(rest, rank, lambda rows, columns: group.uniform(i, (rows, columns)) - 0.5)
