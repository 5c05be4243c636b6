"""Sens-Merging as the Long-to-Short paper used it: a coefficient a layer from its sensitivity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt

from laconic.errors import CalibrationError
from laconic.methods.contract.group import TensorGroup, method
from laconic.methods.contract.step_statistics import layer_mismatch, layer_shares

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.methods.contract.traits import TensorContext


def check(params: Mapping[str, Any], context: TensorContext) -> str:
    """Refuse sensitivities of other layers than the models have."""
    for measured in context.stats["sensitivity"]:
        if differ := measured.once(layer_mismatch):
            raise CalibrationError(f"sens: the sensitivities do not fit: {differ}.")
    if not any(any(m.once(layer_shares).values()) for m in context.stats["sensitivity"]):
        return "sens: all sensitivities are zero, which makes it task_arithmetic"
    return ""


@method(
    models=(1, 1),
    weighted=False,
    stats={"sensitivity": "members"},
    zero_params={"rescale_base": False},
    check=check,
    cost="a forward and a backward pass of base and model over the calibration samples",
)
def sens(
    group: TensorGroup,
    *,
    scale: float = 0.7,
    temperature: Annotated[float, Gt(0)] = 3.0,
    rescale_base: bool = True,
) -> Tensor:
    """Task arithmetic with a coefficient for base and model in every layer.

    In layer l, ``x = c_0 x_0 + c_1 scale v`` with
    ``(c_0, c_1) = 2 softmax(((1 - scale) s_0, scale s_1) / temperature)``, where s_k is the layer's
    sensitivity in model k, the sum of |weight x gradient| over its parameters and all samples,
    divided by the norm of all layers'. Everything outside the layers: ``x_0 + scale v``.

    The base's own weights are rescaled by c_0, as in the authors' release, which moves the model
    even where nothing is merged; `rescale_base` switches that off. Uniform sensitivities make it
    task arithmetic to within one or two per cent a layer. ``sens_general`` takes several models.
    For Long-to-Short, the paper measures System 2 on quick answers and System 1 on slow ones.

    Args:
        scale: alpha, the multiple of the task vector, and the balance of the two sensitivities.
        temperature: The larger, the closer to task arithmetic.
        rescale_base: Whether the base's weights are multiplied, too.

    Source: Liu et al. 2025 (arXiv 2502.12420) in the form of their release for Wu et al. 2025;
    scale 0.4, 0.7, 0.8 and temperature 3, 2, 6 at 1.5B, 7B and 14B there, Table 7.
    """
    vector = group.vectors[0]
    if group.layer is None:
        return group.base + scale * vector
    layer = group.layer
    first, second = (m.once(layer_shares)[layer] for m in group.stats["sensitivity"])
    lean = ((1 - scale) * first - scale * second) / temperature
    base_share, other = 2 / (1 + math.exp(-lean)), 2 / (1 + math.exp(lean))
    base = base_share * group.base if rescale_base else group.base
    return base + other * scale * vector
