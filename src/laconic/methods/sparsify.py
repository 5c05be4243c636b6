"""Sparsification of one or all task vectors that can keep their L1 norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from laconic.errors import RecipeError
from laconic.methods.contract.group import TensorGroup, transform
from laconic.methods.contract.kernel_steps import (
    KernelContext,
    VectorStep,
    keep_at_random,
    keep_trimmed,
    multiply,
)
from laconic.methods.contract.ranking import Trim, kept
from laconic.methods.contract.sums import Array, magnitudes
from laconic.methods.contract.traits import Sums, TensorContext

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-7


def check(params: Mapping[str, Any], context: TensorContext) -> str:
    """Refuse a model that is not there."""
    model = params["model"]
    if model is not None and not 0 <= model < len(context.weights):
        raise RecipeError(f"sparsify.model: there is no model {model}; they count from 0.")
    return ""


def trims(params: Mapping[str, Any], n: int) -> list[Trim]:
    """The trim of a tensor of n entries, where it is one."""
    trim = _trim(n, params["density"], params["model"])
    return [trim] if params["by"] == "magnitude" and trim.keeps(n) < n else []


def norms(group: TensorGroup, *, density: float, by: str, model: int | None) -> Array:
    """The sums of magnitudes of the vectors, then those of what is kept of them."""
    kept_vectors = {i: _kept_entries(group, i, density, by, model) for i in _models(group, model)}
    return magnitudes(
        [*(group.vectors[i] for i in kept_vectors), *kept_vectors.values()], group.chunk
    )


def kernel(context: KernelContext) -> list[VectorStep]:
    """A draw or a trim, then the scale that restores the norm, once it is known."""
    params, models = context.params, len(context.weights)
    steps = keep_trimmed(context)
    if params["by"] == "chance":
        steps.append(keep_at_random(params["density"], 1.0, models, params["model"]))
    if context.sums is not None:
        steps.append(multiply(factors(context.sums), models, params["model"]))
    return steps


@transform(
    trims=trims,
    sums=Sums(norms, {"rescale": True}, kernel="magnitudes"),
    kernel=kernel,
    no_op_at={"density": 1.0},
    check=check,
)
def sparsify(
    group: TensorGroup,
    *,
    density: Annotated[float, Ge(0), Le(1)] = 0.2,
    by: Literal["magnitude", "chance"] = "magnitude",
    rescale: bool = False,
    model: int | None = None,
) -> TensorGroup:
    """Keep some entries of each task vector and, with `rescale`, restore its L1 norm.

    ``magnitude`` keeps the largest entries, of those at the threshold only as many as `density`
    allows (``trim`` keeps all of them): the first. ``chance`` keeps each entry with probability
    `density`, as ``dare`` does. `rescale` multiplies what is kept by
    ``sum |v| / sum |kept v|`` over the tensor (not where either is below 1e-7), where ``dare``
    divides by `density`; both expect the same.

    Args:
        density: The fraction of entries kept; by magnitude at least one is kept.
        by: Whether the largest entries are kept, or random ones.
        rescale: Whether the sum of magnitudes stays what it was.
        model: Which model's vector, counted from 0; null for all.

    Source: Yadav et al. 2023 (arXiv 2306.01708) and Yu et al. 2024 (arXiv 2311.03099); that the
    norm is matched is mergekit's.
    """
    vectors, models = group.vectors.clone(), _models(group, model)
    grown = [1.0] * len(models)
    if rescale:
        grown = factors(group.total(norms, density=density, by=by, model=model))
    for i, factor in zip(models, grown, strict=True):
        vectors[i] = _kept_entries(group, i, density, by, model) * factor
    return replace(group, vectors=vectors)


def factors(sums: Sequence[float]) -> list[float]:
    """What is kept of each vector is multiplied by these, from the sums of `norms`."""
    half = len(sums) // 2
    pairs = zip(sums[:half], sums[half:], strict=True)
    return [before / after if min(before, after) >= TINY else 1.0 for before, after in pairs]


def _models(group: TensorGroup, model: int | None) -> Sequence[int]:
    return range(len(group.vectors)) if model is None else (model,)


def _trim(n: int, density: float, model: int | None) -> Trim:
    return Trim(ties="exact", number=kept(n, density), model=model)


def _kept_entries(group: TensorGroup, i: int, density: float, by: str, model: int | None) -> Tensor:
    """What is kept of one vector."""
    if by == "chance":
        return group.vectors[i] * (group.uniform(i) < density)
    return group.vectors[i] * group.largest(i, _trim(group.numel, density, model))
