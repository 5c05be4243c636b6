"""Sparsification of one or all task vectors that can keep their L1 norm."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Le

from laconic.errors import RecipeError
from laconic.method import TensorGroup, kept, transform
from laconic.ranking import largest

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-7


@transform(reach="tensor", idle={"density": 1.0})
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
    if model is not None and not 0 <= model < len(group.vectors):
        raise RecipeError(f"sparsify.model: there is no model {model}; they count from 0.")
    vectors = group.vectors.clone()
    for i in range(len(vectors)) if model is None else (model,):
        vector = group.vectors[i]
        if by == "chance":
            held = vector * (group.uniform(i) < density)
        else:
            held = vector * largest(vector.abs(), kept(vector.numel(), density))
        before, after = _norm(vector), _norm(held)
        if rescale and min(before, after) >= TINY:
            held = held * (before / after)
        vectors[i] = held
    return replace(group, vectors=vectors)


def _norm(vector: Tensor) -> float:
    """The L1 norm, in an order that depends neither on threads nor on the device."""
    import numpy as np

    return float(vector.abs().cpu().numpy().sum(dtype=np.float64))
