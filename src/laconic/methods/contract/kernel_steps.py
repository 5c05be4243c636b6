"""How a plug-in says what the compiled kernels are to do for one tensor.

A plug-in that the kernels know declares ``kernel=FUNCTION`` in its decorator. The function takes a
`KernelContext`. A transform's returns vector steps, a method's a `Combination`, an adjustment's the
factor of what merging moved. Nothing here computes a tensor; that is in `kernels`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from laconic.methods.contract.kernels.codes import (
    DARE,
    ELECT,
    MEAN,
    OUTLIERS,
    PAIR,
    SCALE,
    SUM,
    TRIM,
    TRIM_EXACTLY,
    VOTE,
)
from laconic.methods.contract.ranking import EVERY

if TYPE_CHECKING:
    from laconic.checkpoints.layout import Role
    from laconic.methods.contract.ranking import Trim, TrimLimit

#: The kernel keeps an element where 24 random bits are below a number; this one keeps all.
KEEP_ALL: Final = 1 << 24


@dataclass(frozen=True)
class KernelContext:
    """One tensor, as a plug-in sees it when it says what the kernels are to do.

    Attributes:
        params: The step's parameters for the tensor.
        weights: The models' weights.
        size: How many elements the tensor has.
        limits: The limits of each trim that the step asks for, one a model.
        sums: The sums that the step asks for; None where it asks for none, or before they are
            known.
        layer: The layer of the text model that the tensor belongs to; None outside of them.
        layers: How many layers the text model has.
        role: Whether the tensor is the embedding, or of the head.
    """

    params: Mapping[str, Any]
    weights: tuple[float, ...]
    size: int
    limits: Mapping[Trim, tuple[TrimLimit, ...]]
    sums: tuple[float, ...] | None
    layer: int | None
    layers: int
    role: Role

    @property
    def known_sums(self) -> tuple[float, ...]:
        """The sums, where the step cannot do without them."""
        assert self.sums is not None, "the engine finds a step's sums before its blocks"
        return self.sums


class VectorStep(NamedTuple):
    """One operation on the task vectors, as the kernels take it; each list has a value a model.

    Attributes:
        kind: Which operation, one of `laconic.methods.contract.kernels.codes`.
        numbers: The factor of DARE and SCALE, or the smallest magnitude kept.
        lasts: The last element kept among those of just that magnitude.
        cuts: DARE's density in units of 2**-24.
    """

    kind: int
    numbers: Sequence[float]
    lasts: Sequence[int]
    cuts: Sequence[int]


@dataclass(frozen=True)
class Combination:
    """How the kernels combine the task vectors of a tensor.

    Attributes:
        mode: Which way, one of `laconic.methods.contract.kernels.codes`.
        weights: What each vector is multiplied by.
        numbers: The mode's own numbers.
    """

    mode: int
    weights: Sequence[float]
    numbers: Sequence[float]


def keep_largest(limits: Sequence[TrimLimit]) -> VectorStep:
    """Keep the entries from each model's limit on."""
    exact = any(limit.last != EVERY for limit in limits)
    values, lasts = zip(*limits, strict=True)
    return VectorStep(TRIM_EXACTLY if exact else TRIM, values, lasts, [0] * len(limits))


def drop_largest(limits: Sequence[TrimLimit]) -> VectorStep:
    """Drop the entries that `keep_largest` would keep."""
    values, lasts = zip(*limits, strict=True)
    return VectorStep(OUTLIERS, values, lasts, [0] * len(limits))


def keep_trimmed(context: KernelContext) -> list[VectorStep]:
    """Keep the largest entries, for each trim that the step asks for."""
    return [keep_largest(limits) for limits in context.limits.values()]


def keep_at_random(
    density: float, factor: float, models: int, only: int | None = None
) -> VectorStep:
    """Keep each entry with a probability, and multiply what is kept.

    Args:
        density: The probability.
        factor: What every model's kept entries are multiplied by.
        models: How many models there are.
        only: The one model whose entries are dropped; None for all.
    """
    import numpy as np

    cut = math.ceil(float(np.float32(density)) * KEEP_ALL)
    cuts = [cut if only in (None, i) else KEEP_ALL for i in range(models)]
    return VectorStep(DARE, [factor] * models, [EVERY] * models, cuts)


def multiply(factors: Sequence[float], models: int, only: int | None = None) -> VectorStep:
    """Multiply each model's vector by a factor.

    Args:
        factors: One for each model; where `only` is given, one for that model.
        models: How many models there are.
        only: The one model whose vector is multiplied; None for all.
    """
    if only is not None:
        factors = [factors[0] if i == only else 1.0 for i in range(models)]
    return VectorStep(SCALE, factors, [EVERY] * models, [0] * models)


def weighted_sum(weights: Sequence[float], scale: float) -> Combination:
    """``base + scale * sum_k w_k v_k``."""
    return Combination(SUM, weights, [scale])


def weighted_mean(weights: Sequence[float], scale: float, divisor: float) -> Combination:
    """``base + scale * sum_k w_k v_k / divisor``."""
    return Combination(MEAN, weights, [scale, divisor])


def mean_of_agreeing(weights: Sequence[float], scale: float) -> Combination:
    """TIES' vote: the mean of the weighted vectors whose sign is elected, over their number."""
    return Combination(VOTE, weights, [scale])


def sum_of_agreeing(weights: Sequence[float], scale: float, *, normalise: bool) -> Combination:
    """The sum of the weighted vectors whose sign is elected; or over the sum of their weights."""
    return Combination(ELECT, weights, [scale, float(normalise)])


def between_two(weights: Sequence[float], shares: tuple[float, float]) -> Combination:
    """``left * a + right * b`` of the two checkpoints themselves."""
    return Combination(PAIR, weights, shares)
