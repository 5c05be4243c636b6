"""SLERP: walk from one checkpoint to another along the great circle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Ge, Le

from laconic.method import TensorGroup, method

if TYPE_CHECKING:
    from torch import Tensor

PARALLEL = 0.9995
TINY = 1e-8


@method(reach="tensor", base="optional", members=2, weighted=False, idle={"t": 0.0})
def slerp(group: TensorGroup, *, t: Annotated[float, Ge(0), Le(1)] = 0.5) -> Tensor:
    """Spherical interpolation between two checkpoints, tensor by tensor.

    ``x = sin((1 - t) W) / sin W * a + sin(t W) / sin W * b`` with W the angle between the flattened
    a and b, which keep their own norms. a is the base, or the first of two models without a base.
    Tensors that are nearly parallel (|cos W| > 0.9995) or nearly zero are interpolated on the
    straight line; sibling models mostly are, and SLERP then equals task arithmetic at scale t.

    Args:
        t: Where on the way: 0 is a, 1 is b.

    Source: Shoemake 1985; the flattening and the straight-line rule are mergekit's.
    """
    a, b = group.members
    norms = torch.linalg.vector_norm(a) * torch.linalg.vector_norm(b)
    cosine = float((a * b).sum(dtype=torch.float64) / norms.clamp(min=TINY))
    if norms < TINY or abs(cosine) > PARALLEL:
        return torch.lerp(a, b, t)
    angle = torch.arccos(torch.tensor(cosine, dtype=torch.float64))
    left, right = torch.sin((1 - t) * angle), torch.sin(t * angle)
    return float(left / angle.sin()) * a + float(right / angle.sin()) * b
