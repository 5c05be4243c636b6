"""LoRE-Merging: low-rank task vectors over a base that is estimated from the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from laconic.methods.contract.group import TensorGroup, method
from laconic.methods.contract.low_rank import soften

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.methods.contract.traits import TensorContext

#: The iteration ends when no entry of the estimated base moves by more than this share of it.
CONVERGED = 1e-7


def check(params: Mapping[str, Any], context: TensorContext) -> str:
    """Say where LoRE is something simpler."""
    count, equal = len(context.weights), len(set(context.weights)) == 1
    if context.based:
        return ""
    if count == 1:
        return (
            "lore of one model without a base gives that model back: name a base, or merge two "
            "models of different weights."
        )
    if equal and (count == 2 or abs(params["scale"] * context.weights[0] * count - 1) < 1e-9):
        return (
            f"lore of {count} models of equal weights is their mean, whatever mu is. Give them "
            "different weights (--model NAME=WEIGHT), or name a base."
        )
    return ""


@method(
    reach="tensor",
    base="optional",
    check=check,
    extra_copies=4,
    cost="a full singular value decomposition a matrix (of more than two models without a base: a "
    "model and iteration, too): minutes for a layer of a 7B model on a CPU",
)
def lore(
    group: TensorGroup,
    *,
    mu: Annotated[float, Ge(0)] = 0.01,
    relative: bool = False,
    scale: float = 1.0,
    iterations: Annotated[int, Ge(1)] = 20,
    embeddings: bool = False,
) -> Tensor:
    """Shrink each task vector's singular values by `mu`, over a base that is known or estimated.

    Without a base, x_0 and the vectors d_k are estimated alternately: ``x_0 = mean_k(x_k - d_k)``,
    ``d_k = SVT(x_k - x_0)``, from d_k = 0, where ``SVT(U S V^T) = U max(S - mu, 0) V^T``. With a
    base in the recipe, x_0 is that base and ``d_k = SVT(x_k - x_0)`` at once. The result is
    ``x_0 + scale * sum_k w_k d_k``.

    Of two models without a base, d_1 = -d_2 after one step and for good: the result is
    ``(x_1 + x_2) / 2 + scale (w_1 - w_2) SVT((x_1 - x_2) / 2)``, and equal weights give the mean.

    The paper prints an objective with the squared nuclear norm; shrinking by a constant solves
    the plain one, and is what is done. The paper averages the vectors or applies TIES to them;
    here they are summed with the recipe's weights (1 / K each for the average). Vectors (norms,
    biases), and embedding and head for their cost, are not shrunk; of a stack of experts each
    matrix is shrunk by itself. Wu et al. publish no values for LoRE.

    Args:
        mu: What is taken from each singular value; at or above the largest nothing remains.
        relative: Whether `mu` is a fraction of the largest singular value of the matrix shrunk.
        scale: The multiple of the summed vectors that is added.
        iterations: The most rounds of the estimation; it ends earlier where the base
            no longer changes.
        embeddings: Whether matrices outside the layers (embedding and head) are shrunk, too.

    Source: Liu et al. 2025 (arXiv 2502.10749), the solver as others describe it, who also give the
    defaults; `relative`, `embeddings` and the treatment of vectors are ours.
    """
    matrix = group.base.ndim > 1 and (embeddings or group.layer is not None)
    threshold = mu if matrix else 0.0
    if not group.has_base and len(group.vectors) == 2:
        one, two, (first, second) = group.vectors[0], group.vectors[1], group.weights
        half = soften((one - two) / 2, threshold, relative=relative)
        return (one + two) / 2 + scale * (first - second) * half
    if group.has_base:
        merged = group.base.clone()
        for vector, weight in zip(group.vectors, group.weights, strict=True):
            merged += scale * weight * soften(vector, threshold, relative=relative)
        return merged
    merged, shrunk = _estimate(group.vectors, threshold, iterations, relative=relative)
    for vector, weight in zip(shrunk, group.weights, strict=True):
        merged += scale * weight * vector
    return merged


def _estimate(
    models: Tensor, threshold: float, iterations: int, *, relative: bool
) -> tuple[Tensor, Tensor]:
    """The base and the vectors ``[model, *shape]``, estimated alternately."""
    import torch

    base, shrunk = models.mean(0), torch.zeros_like(models)
    for turn in range(iterations):
        earlier, base = base, models.mean(0).sub_(shrunk.mean(0))
        if turn and bool(((base - earlier).abs() <= CONVERGED * base.abs().max()).all()):
            break
        for i, model in enumerate(models):
            shrunk[i] = soften(model - base, threshold, relative=relative)
    return base, shrunk
