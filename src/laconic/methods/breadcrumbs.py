"""Model Breadcrumbs: keep the middle of each task vector, not its largest and smallest entries."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from laconic.method import TensorGroup, kept, transform
from laconic.ranking import largest


@transform(reach="tensor", idle={"density": 1.0}, copies=1)
def breadcrumbs(
    group: TensorGroup,
    *,
    density: Annotated[float, Gt(0), Le(1)] = 0.2,
    outliers: Annotated[float, Ge(0), Lt(1)] = 0.01,
) -> TensorGroup:
    """Drop the largest entries of each task vector by magnitude, then the smallest, per tensor.

    Of n entries the ``outliers * n`` largest are dropped, and of the others the ``density * n``
    largest are kept, both numbers rounded down. Where that many are not left, fewer large ones are
    dropped: at density 1 nothing is. At least one entry is kept; of equal ones the first. In a
    tensor of few entries (a norm, a bias) no entry may count as an outlier. Put it before
    ``task_arithmetic`` for the paper's method; the sum there is scaled.

    An outlier may be what matters; ``trim`` is the same without dropping any.

    Args:
        density: The fraction of entries kept.
        outliers: The fraction dropped as the largest (gamma in mergekit).

    Source: Davari and Belilovsky 2023 (arXiv 2312.06795); counts as in mergekit, except that a
    tensor too small for an outlier is not emptied.
    """
    import torch

    n = group.base.numel()
    keep = kept(n, density)
    top = min(int(n * outliers + 1e-9), n - keep)
    masks = []
    for vector in group.vectors:
        size = vector.abs()
        masks.append(largest(size, top + keep) & ~largest(size, top))
    return replace(group, vectors=group.vectors * torch.stack(masks))
