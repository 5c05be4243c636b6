"""SLERP: walk from one checkpoint to another along the great circle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from laconic.method import TensorGroup, method

if TYPE_CHECKING:
    from torch import Tensor

PARALLEL = 0.9995
TINY = 1e-8


@method(base="optional", members=2, weighted=False, products=True, idle={"t": 0.0})
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
    aa, ab, bb = group.products()
    left, right = shares(aa, ab, bb, t)
    return left * a + right * b


def shares(aa: float, ab: float, bb: float, t: float) -> tuple[float, float]:
    """What a and b are multiplied by, from their inner products."""
    norms = math.sqrt(aa * bb)
    cosine = ab / norms if norms >= TINY else 1.0
    if abs(cosine) > PARALLEL:
        return 1 - t, t
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
