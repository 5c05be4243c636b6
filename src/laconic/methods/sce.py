"""SCE: select the entries that differ most, weigh models by their energy, erase minority signs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt, Le

from laconic.methods.contract.group import TensorGroup, method
from laconic.methods.contract.ranking import Trim, TrimLimit, limit_of, within
from laconic.methods.contract.sums import Array, squares
from laconic.methods.contract.traits import Sums, TensorContext

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-6
#: The smallest float32 above 0.
SMALLEST = 2.0**-149


def check(params: Mapping[str, Any], context: TensorContext) -> str:
    """Say what SCE of a single model is."""
    if len(context.weights) > 1:
        return ""
    if params["density"] < 1:
        return (
            "sce of one model gives back the base: it keeps the entries that vary most over the "
            "models, and one model has no variance. Merge two models, or use ties."
        )
    return "sce of one model is task_arithmetic: there is nothing to select, weigh or erase."


def trims(params: Mapping[str, Any], _: int) -> list[Trim]:
    """The selection, where there is one."""
    return [_selection(params["density"])] if params["density"] < 1 else []


def variance(group: TensorGroup) -> Tensor:
    """Each position's variance over the models, above 0 exactly where they differ, as one rank."""
    vectors, count = group.vectors, len(group.vectors)
    mean = sum(vectors) / count
    spread = sum((v - mean).square() for v in vectors) / count
    ranks: Tensor = spread.clamp(min=SMALLEST) * (vectors != vectors[0]).any(0)
    return ranks[None]


def energies(group: TensorGroup, *, density: float) -> Array:
    """The sums of squares of what is selected of each vector."""
    return squares(list(_selected(group, density)), group.chunk)


@method(
    weighted=False,
    trims=trims,
    ranks=variance,
    sums=Sums(energies),
    no_op_at={"scale": 0.0},
    check=check,
)
def sce(
    group: TensorGroup, *, density: Annotated[float, Gt(0), Le(1)] = 1.0, scale: float = 1.0
) -> Tensor:
    """Select, calculate and erase, tensor by tensor; the models' weights follow from their vectors.

    Select: of the positions whose variance over the models is not 0, the fraction `density` with
    the largest variance (rounded down; of equal ones the first) stays, the others become 0; at
    density 1 all stay. Calculate: ``w_k = mean(v_k^2) / sum_j mean(v_j^2)`` of what stays. Erase:
    entries whose sign is not that of ``sum_k v_k`` (+ where it is 0) do not count. The result is
    ``x_0 + scale * sum_k a_k w_k v_k / max(sum_k a_k w_k, 1e-6)``, where a_k is 1 for those that
    count. One model has no variance: below density 1 the base comes back, and the plan says so.

    mergekit takes equal weights where the sum of mean squares is below 1e-6, which is so wherever
    entries move by a few 1e-4, as in fine-tuned models; here only vectors of zeros are weighed
    equally.

    Args:
        density: The fraction of differing positions kept (tau, mergekit's select_topk).
        scale: The multiple of the fused vector that is added; the paper has none (1).

    Source: Wan et al. 2024 (arXiv 2408.07990), SCE; other details as in mergekit; `scale` is ours.
    """
    import torch

    vectors = _selected(group, density)
    sign = (sum(vectors) >= 0) * 2.0 - 1
    fused, divisor = torch.zeros_like(group.base), torch.zeros_like(group.base)
    for vector, share in zip(vectors, shares(group.total(energies, density=density)), strict=True):
        counts = vector * sign > 0
        fused += share * vector * counts
        divisor += share * counts
    return group.base + scale * (fused / divisor.clamp(min=TINY))


def shares(sums: Sequence[float]) -> list[float]:
    """The models' weights, from the sums of squares of their vectors."""
    total = math.fsum(sums)
    return [s / total if total > 0 else 1 / len(sums) for s in sums]


def _selection(density: float) -> Trim:
    return Trim(density, ties="exact", nonzero=True)


def _selected(group: TensorGroup, density: float) -> Tensor:
    """The vectors, of which positions that are not selected are 0."""
    if density >= 1:
        return group.vectors
    trim, (sizes,) = _selection(density), variance(group)
    limit: TrimLimit = group.limits[trim][0] if trim in group.limits else limit_of(sizes, trim)
    return group.vectors * within(sizes, limit, group.offset)
