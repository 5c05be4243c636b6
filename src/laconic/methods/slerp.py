"""SLERP: walk from one checkpoint to another along the great circle."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from laconic.methods.contract.group import TensorGroup, method
from laconic.methods.contract.kernel_steps import Combination, KernelContext, between_two
from laconic.methods.contract.sums import Array, products
from laconic.methods.contract.traits import Sums

if TYPE_CHECKING:
    from torch import Tensor

PARALLEL = 0.9995
TINY = 1e-8


def own_products(group: TensorGroup) -> Array:
    """The inner products a·a, a·b and b·b."""
    return products(group.members, group.chunk)


def kernel(context: KernelContext) -> Combination:
    """The two checkpoints, each times its share."""
    aa, ab, bb = context.known_sums
    return between_two(context.weights, shares(aa, ab, bb, **context.params))


@method(
    base="optional",
    members=2,
    weighted=False,
    sums=Sums(own_products, kernel="member_products"),
    kernel=kernel,
    no_op_at={"t": 0.0},
)
def slerp(
    group: TensorGroup,
    *,
    t: Annotated[float, Ge(0), Le(1)] = 0.5,
    zeros: Literal["line", "circle"] = "line",
) -> Tensor:
    """Spherical interpolation between two checkpoints, tensor by tensor.

    ``x = sin((1 - t) W) / sin W * a + sin(t W) / sin W * b`` with W the angle between the flattened
    a and b, which keep their own norms. a is the base, or the first of two models without a base.
    Tensors that are nearly parallel (|cos W| > 0.9995) are interpolated on the straight line;
    sibling models mostly are, and SLERP then equals task arithmetic at scale t. So are tensors of
    which one has no direction, its norm being 1e-8 or less: a bias that training moved away from
    zero is at t of its way.

    Args:
        t: Where on the way: 0 is a, 1 is b.
        zeros: How a tensor that is zero in a checkpoint is interpolated: on the straight ``line``;
            or on the ``circle``, as though it were at right angles to the other one, which is what
            mergekit does: at t = 0.3 the other one then counts by sin(0.3 pi / 2) = 0.454.

    Source: Shoemake 1985; the flattening and the straight line for parallel tensors are mergekit's.
    """
    a, b = group.members
    aa, ab, bb = group.total(own_products)
    left, right = shares(aa, ab, bb, t, zeros)
    return left * a + right * b


def shares(aa: float, ab: float, bb: float, t: float, zeros: str) -> tuple[float, float]:
    """What a and b are multiplied by, from their inner products."""
    one, other = math.sqrt(aa), math.sqrt(bb)
    undirected = 1.0 if zeros == "line" else 0.0
    cosine = ab / one / other if min(one, other) > TINY else undirected
    if abs(cosine) > PARALLEL:
        return 1 - t, t
    angle = math.acos(cosine)
    return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)
