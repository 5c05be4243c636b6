"""Magnitude trimming: keep the largest entries of each task vector."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Gt, Le

from laconic.method import Scope, TensorGroup, transform


@transform(trims=True, idle={"density": 1.0})
def trim(
    group: TensorGroup,
    *,
    density: Annotated[float, Gt(0), Le(1)] = 0.2,
    scope: Scope = "tensor",
) -> TensorGroup:
    """Keep the `density` largest entries of each task vector by magnitude, unscaled.

    The first step of TIES by itself, for any method that follows. Every entry at the threshold is
    kept.

    Args:
        density: The fraction of entries kept.
        scope: Whether the entries are ranked within each tensor or over the whole model.

    Source: Yadav et al. 2023 (arXiv 2306.01708), section 3, step 1.
    """
    limits = [group.magnitude(i, density, scope) for i in range(len(group.vectors))]
    keep = torch.stack([v.abs() >= limit for v, limit in zip(group.vectors, limits, strict=True)])
    return replace(group, vectors=group.vectors * keep)
