"""Sens-Merging of several models: shares a layer from its sensitivity in each model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt

from laconic.errors import CalibrationError, RecipeError
from laconic.methods.contract.group import TensorGroup, method
from laconic.methods.contract.step_statistics import layer_mismatch, layer_shares

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.methods.contract.traits import TensorContext


def check(params: Mapping[str, Any], context: TensorContext) -> str:
    """Refuse sensitivities of other layers and alignments of other models; tell of one model."""
    for measured in context.stats["sensitivity"]:
        if differ := measured.once(layer_mismatch):
            raise CalibrationError(f"sens_general: the sensitivities do not fit: {differ}.")
    count, alignment = len(context.weights), params["alignment"]
    if alignment is not None and (len(alignment) != count or sum(alignment) == 0):
        raise RecipeError(
            f"sens_general.alignment must hold a number for each of the {count} models, with a sum "
            f"other than 0, got {alignment}."
        )
    return "sens_general of one model is task_arithmetic: its share is 1" if count == 1 else ""


@method(
    no_op_at={"scale": 0.0},
    stats={"sensitivity": "models"},
    check=check,
    cost="a forward and a backward pass of each model over the calibration samples",
)
def sens_general(
    group: TensorGroup,
    *,
    scale: float = 1.0,
    temperature: Annotated[float, Gt(0)] = 1.0,
    alignment: list[float] | None = None,
) -> Tensor:
    """Task arithmetic in which the more sensitive model has the larger share of each layer.

    In layer l, ``x = x_0 + scale K sum_k p_k w_k v_k`` over K models, with
    ``p = softmax(s_k t_k / temperature)``, where s_k is the layer's sensitivity in model k, the sum
    of |weight x gradient| over its parameters and all samples, divided by the norm of all layers',
    and t_k the model's alignment. Everything outside the layers has equal shares.

    The paper measures the alignments as distances of logits between the experts; no statistics
    hold them, so they are given here, and equal unless they are. With one model the share is 1.

    Args:
        scale: The multiple of the weighted vectors.
        temperature: The larger, the more equal the shares.
        alignment: A number for each model, t_k once divided by their sum; null for equal ones.

    Source: Liu et al. 2025 (arXiv 2502.12420), sections 3.2 and 3.3, as others retell them.
    """
    import torch

    count, layer = len(group.vectors), group.layer
    if layer is None:
        return group.base + scale * group.weighted().sum(0)
    shares = torch.tensor([m.once(layer_shares)[layer] for m in group.stats["sensitivity"]])
    aligned = torch.tensor(alignment or [1.0] * count)
    split = torch.softmax(shares * aligned / aligned.sum() / temperature, 0).to(group.base)
    weighted = group.weighted() * split.view(-1, *[1] * group.base.ndim)
    return group.base + scale * count * weighted.sum(0)
