"""Model Breadcrumbs: keep the middle of each task vector, not its largest and smallest entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt

from laconic.methods.contract.group import TensorGroup, transform
from laconic.methods.contract.kernel_steps import (
    KernelContext,
    VectorStep,
    drop_largest,
    keep_largest,
)
from laconic.methods.contract.ranking import Trim, kept, whole


def trims_of(n: int, density: float, outliers: float) -> tuple[Trim, Trim]:
    """The trim that drops the smallest of n entries, and that which would keep the largest only."""
    keep = kept(n, density)
    top = min(whole(n, outliers), n - keep)
    return Trim(ties="exact", number=top + keep), Trim(ties="exact", number=top)


def trims(params: Mapping[str, Any], n: int) -> list[Trim]:
    """Those of the two that change something."""
    return [trim for trim in trims_of(n, **params) if 0 < trim.keeps(n) < n]


def kernel(context: KernelContext) -> list[VectorStep]:
    """The two trims, of which the engine has found those that change something."""
    outer, inner = trims_of(context.size, **context.params)
    steps = [keep_largest(context.limits[outer])] if outer in context.limits else []
    return [*steps, *([drop_largest(context.limits[inner])] if inner in context.limits else [])]


@transform(trims=trims, kernel=kernel, no_op_at={"density": 1.0})
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

    outer, inner = trims_of(group.numel, density, outliers)
    models = range(len(group.vectors))
    masks = [group.largest(i, outer) & ~group.largest(i, inner) for i in models]
    return replace(group, vectors=group.vectors * torch.stack(masks))
