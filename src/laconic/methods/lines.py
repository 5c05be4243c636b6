"""LiNeS: scale the merged vector layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.methods.contract.group import TensorGroup, adjustment

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.checkpoints.layout import Role
    from laconic.methods.contract.kernel_steps import KernelContext


def kernel(context: KernelContext) -> float:
    """The tensor's factor."""
    return factor_at(context.role, context.layer, context.layers, **context.params)


@adjustment(kernel=kernel, no_op_at={"first": 1.0, "last": 1.0})
def lines(group: TensorGroup, merged: Tensor, *, first: float = 0.5, last: float = 1.0) -> Tensor:
    """Scale the merged task vector linearly with depth, from `first` to `last` layer.

    ``x_0 + (first + (last - first) * (l - 1) / (L - 1)) * (x - x_0)`` for layer l of the L layers
    of the text model. The embedding takes `first`; whatever else is outside these layers takes
    `last`: the final norm, the head, vision towers, layers that predict further tokens. The
    authors' code gives final norm and head `first`, too: ``last: [{match: model.norm.weight, value:
    0.5}, {match: head, value: 0.5}, {value: 1.0}]`` does the same at first = 0.5.

    Args:
        first: The factor of the first layer.
        last: The factor of the last layer.

    Source: Wang et al. 2024 (arXiv 2410.17146), with alpha = first and beta = last - first; the
    rule for tensors outside the layers is ours: the authors' code gives them all `first`.
    """
    factor = factor_at(group.role, group.layer, group.layers, first, last)
    return group.base + factor * (merged - group.base)


def factor_at(role: Role, layer: int | None, layers: int, first: float, last: float) -> float:
    """The factor of one tensor."""
    depth = layer / max(1, layers - 1) if layer is not None else 1.0
    if role == "embedding":
        depth = 0.0
    return first + (last - first) * depth
