"""DELLA: drop entries of the task vectors at random, small ones more often, rescale the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from laconic.errors import RecipeError
from laconic.methods.contract.group import TensorGroup, transform
from laconic.methods.contract.sums import Array, magnitudes
from laconic.methods.contract.traits import Sums, TensorContext

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-7
#: How many entries are ranked at a time, in whole rows.
SLICE = 1 << 20


def check(params: Mapping[str, Any], _: TensorContext) -> str:
    """Refuse probabilities outside of (0, 1]."""
    density, epsilon = params["density"], params["epsilon"]
    if density - epsilon <= 0 or density + epsilon > 1 + 1e-9:
        raise RecipeError(
            f"della: entries are kept with a probability of density - epsilon to density + epsilon,"
            f" which must lie in (0, 1]; got {density - epsilon:g} to {density + epsilon:g}. "
            f"With density {density:g}, epsilon can be "
            + (f"at most {1 - density:g}." if density > 0.5 else f"less than {density:g}.")
        )
    return ""


def norms(group: TensorGroup, *, density: float, epsilon: float) -> Array:
    """The sums of magnitudes of the vectors, then those of what is kept of them."""
    kept = [
        vector * (group.uniform(i) < probabilities(vector, density, epsilon))
        for i, vector in enumerate(group.vectors)
    ]
    return magnitudes([*group.vectors, *kept], group.chunk)


@transform(
    reach="row",
    sums=Sums(norms, {"rescale": "norm"}),
    no_op_at={"density": 1.0, "epsilon": 0.0},
    check=check,
)
def della(
    group: TensorGroup,
    *,
    density: Annotated[float, Gt(0), Le(1)] = 0.7,
    epsilon: Annotated[float, Ge(0), Lt(0.5)] = 0.15,
    rescale: Literal["probability", "norm", "none"] = "probability",
) -> TensorGroup:
    """Keep each entry with a probability that grows with its rank by magnitude in its row.

    In a row of n entries, ranked from the smallest |entry| (r = 1) to the largest (r = n), entry r
    is kept with probability ``p_r = (density - epsilon) + 2 epsilon (r - 1) / (n - 1)`` and then
    divided by p_r, so that every entry's expectation is unchanged. Equal entries rank in their
    order; a row of one entry is kept with probability `density`; a vector (norm, bias) is one row.
    Put it before ``task_arithmetic`` for DELLA without election, before ``elect`` or ``ties`` at
    density 1 for DELLA.

    Args:
        density: The mean probability that an entry is kept (1 minus the drop rate p).
        epsilon: How far the probabilities of the smallest and largest entry lie from it.
        rescale: What kept entries are multiplied by: 1 / p_r; or mergekit's way, one factor for the
            tensor that restores its sum of magnitudes; or nothing.

    Source: Deep et al. 2024 (arXiv 2406.11617), MagPrune; the ranking within rows is mergekit's.
    """
    import torch

    vectors, count = torch.empty_like(group.vectors), len(group.vectors)
    sums = group.total(norms, density=density, epsilon=epsilon) if rescale == "norm" else ()
    for i, vector in enumerate(group.vectors):
        chance = probabilities(vector, density, epsilon)
        kept = vector * (group.uniform(i) < chance)
        if rescale == "probability":
            kept /= chance
        elif rescale == "norm":
            before, after = sums[i], sums[count + i]
            kept *= before / after if min(before, after) >= TINY else 1.0
        vectors[i] = kept
    return replace(group, vectors=vectors)


def probabilities(vector: Tensor, density: float, epsilon: float) -> Tensor:
    """The probability with which each entry is kept, float32, of the vector's shape."""
    import torch

    rows = vector.view(-1, vector.shape[-1] if vector.ndim else 1)
    n, chance = rows.shape[1], torch.full_like(rows, density)
    if n > 1:
        step = max(1, SLICE // n)
        for start in range(0, len(rows), step):
            order = rows[start : start + step].abs().argsort(dim=1, stable=True)
            places = torch.arange(n, device=order.device).expand_as(order)
            rank = torch.empty_like(order).scatter_(1, order, places)
            chance[start : start + step] = (density - epsilon) + 2 * epsilon * rank / (n - 1)
    return chance.view(vector.shape)
