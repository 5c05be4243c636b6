"""NuSLERP: SLERP between two models, or between their task vectors, by their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from laconic.methods.contract.group import VECTOR_PRODUCTS, TensorGroup, method, vector_products
from laconic.methods.contract.kernel_steps import Combination, KernelContext, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.methods.contract.traits import Reach

TINY = 1e-8
#: Rows whose products are taken to float64 at a time, in entries.
SLICE = 1 << 20


REACHES: Final[Mapping[str, Reach]] = {"tensor": "element", "row": "row", "column": "tensor"}


def reach(params: Mapping[str, Any]) -> Reach:
    """What an element depends on, apart from the inner products of whole tensors."""
    return REACHES[params["along"]]


def kernel(context: KernelContext) -> Combination:
    """The two vectors, each times its share; for whole tensors."""
    return weighted_sum(shares_of(context.known_sums, share(context.weights)), 1.0)


@method(
    reach=reach,
    base="optional",
    models=(2, 2),
    sums=VECTOR_PRODUCTS._replace(only={"along": "tensor"}),
    kernel=kernel,
)
def nuslerp(group: TensorGroup, *, along: Literal["tensor", "row", "column"] = "tensor") -> Tensor:
    """Go from one model to the other along the great circle, or from one task vector to the other.

    ``x = sin((1 - t) W) / sin W * a + sin(t W) / sin W * b``, with W the angle between a and b,
    which keep their own norms, and ``t = w_2 / (w_1 + w_2)`` (0.5 where the weights' sum is below
    1e-6). Without a base a and b are the two models; with one they are their task vectors, and x is
    added to the base. Where a or b is nearly zero, or sin W below 1e-8, the straight line is taken.
    ``slerp`` goes from a base to one model instead.

    Args:
        along: What has an angle of its own: the whole tensor; each row of a matrix (an output's
            weights); each column (an input's). A vector (norm, bias) always is one row.

    Source: Shoemake 1985; weights, rows and the use on task vectors are mergekit's ``nuslerp``.
    """
    t, (a, b) = share(group.weights), group.vectors
    if along == "tensor":
        weights = tuple(shares_of(group.total(vector_products), t))
        return group.base + sum(replace(group, weights=weights).weighted())
    turned = along == "column" and a.ndim > 1
    if turned:
        a, b = a.mT, b.mT
    left, right = (s.float() for s in shares(_by_row(a, a), _by_row(a, b), _by_row(b, b), t))
    merged: Tensor = left * a + right * b
    return group.base + (merged.mT if turned else merged)


def share(weights: Sequence[float]) -> float:
    """How far the way goes to the second model."""
    total = sum(weights)
    return weights[1] / total if abs(total) >= TINY * 100 else 0.5


def shares_of(products: Sequence[float], t: float) -> list[float]:
    """What a and b are multiplied by, from the inner products of whole tensors."""
    import torch

    aa, ab, bb = torch.tensor(products, dtype=torch.float64)
    return [float(share) for share in shares(aa, ab, bb, t)]


def shares(aa: Tensor, ab: Tensor, bb: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """What a and b are multiplied by, from their inner products, float64."""
    norms = (aa * bb).sqrt()
    near = (aa.sqrt() < TINY) | (bb.sqrt() < TINY)
    angle = (ab / norms.where(~near, 1.0)).clamp(-1, 1).acos()
    straight = near | (angle.sin() < TINY)
    divisor = angle.sin().where(~straight, 1.0)
    left, right = ((share * angle).sin() / divisor for share in (1 - t, t))
    return left.where(~straight, 1 - t), right.where(~straight, t)


def _by_row(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each row of a with that of b, float64, ``[..., row, 1]``."""
    import torch

    if a.ndim < 2:
        return (a.double() * b.double()).sum(-1, keepdim=True)
    step = max(1, SLICE // max(1, a[0].numel()))
    parts = [slice(start, start + step) for start in range(0, len(a), step)]
    return torch.cat([(a[p].double() * b[p].double()).sum(-1, keepdim=True) for p in parts])
