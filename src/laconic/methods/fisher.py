"""Fisher merging: the mean of the models, each entry weighted by how much it matters to each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Gt

from laconic.errors import CalibrationError, RecipeError
from laconic.methods.contract.group import TensorGroup, method

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.methods.contract.step_statistics import StepStatistics
    from laconic.methods.contract.traits import TensorContext


def check(_: Mapping[str, Any], context: TensorContext) -> str:
    """Refuse negative weights, and files that lack the tensor or hold it in two ways."""
    if min(context.weights) < 0:
        raise RecipeError("fisher: a weight is negative, and so would be what it divides by.")
    values = [m[context.name] for m in context.stats["fisher"] if context.name in m]
    if len(values) < len(context.weights):
        raise CalibrationError(f"fisher: a file holds nothing of '{context.name}'.")
    if len({value.ndim == 0 and context.shape != () for value in values}) > 1:
        raise CalibrationError(
            f"fisher: '{context.name}' is in one file entry by entry and in another as one number. "
            "Measure both the same way."
        )
    return ""


@method(
    base="optional",
    normalises=True,
    stats={"fisher": "models"},
    check=check,
    cost="a forward and a backward pass of each model over its calibration samples",
)
def fisher(
    group: TensorGroup, *, floor: Annotated[float, Gt(0)] = 1e-6, balance: bool = False
) -> Tensor:
    """Average the models, weighting every entry by its Fisher information in each.

    ``x = sum_k w_k F_k x_k / sum_k w_k F_k``, where F_k is the mean squared gradient of model k's
    loss on its own samples, plus `floor`. As for ``average``, the base is not a member: list it
    among the models to make it one, and the result lies between System 1 and System 2 entry by
    entry. Statistics reduced to one number a tensor make it a mean with one weight a tensor.

    Where `floor` is much larger than the information this is the plain mean.

    Args:
        floor: Added to the information of every entry, after balancing; 1e-6 in common code.
        balance: Whether each model's information is divided by the norm of all of it, so that
            a model of large gradients has no more say.

    Source: Matena and Raffel 2022 (arXiv 2111.09832), equation 4; floor and balance as others
    implement it. The loss is that of the next token instead of a classifier's.
    """
    total, divisor = group.base * 0, group.base * 0
    for vector, weight, measured in zip(
        group.vectors, group.weights, group.stats["fisher"], strict=True
    ):
        norm = measured.once(norm_of_all) if balance else 1.0
        matters = weight * (here(group, measured[group.name]) / (norm or 1.0) + floor)
        total += matters * vector
        divisor += matters
    return group.base + total / divisor


def here(group: TensorGroup, values: Tensor) -> Tensor:
    """What belongs to the elements here, of a whole tensor's values or of one number for all."""
    if values.ndim:
        stop = group.offset + group.base.numel()
        values = values.flatten()[group.offset : stop].view(group.base.shape)
    return values.to(group.base)


def norm_of_all(measured: StepStatistics) -> float:
    """The Euclidean norm of all of a model's information."""
    return math.sqrt(sum(float(value.double().square().sum()) for value in measured.values()))
