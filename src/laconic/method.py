"""What a merging method is: a function of one tensor group; and its counterparts around it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from laconic.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Reach = Literal["element", "row", "tensor", "model"]
Scope = Literal["tensor", "model"]
MASK64: Final = (1 << 64) - 1


@dataclass(frozen=True)
class TensorGroup:
    """One tensor of every checkpoint in a merge, as task vectors over the base.

    Attributes:
        name: The tensor's name.
        base: The base's values, float32, ``shape``; zeros where the recipe has no base.
        vectors: Each model minus the base, float32, ``[model, *shape]``; without a base these are
            the models themselves.
        weights: The models' weights, in the recipe's order.
        seed: The recipe's seed.
        layer: The layer the tensor belongs to; None for embeddings, final norm and head.
        layers: How many layers the models have.
        has_base: Whether the recipe names a base.
        limits: For a step that trims over the whole model: per density, the smallest |vector|
            kept of each model, as found by the engine beforehand.
        stats: Calibration statistics, by model.
    """

    name: str
    base: Tensor
    vectors: Tensor
    weights: tuple[float, ...]
    seed: int = 0
    layer: int | None = None
    layers: int = 0
    has_base: bool = True
    limits: Mapping[float, tuple[float, ...]] = field(default_factory=dict)
    stats: Mapping[str, Any] = field(default_factory=dict)

    @property
    def members(self) -> list[Tensor]:
        """The checkpoints' own values, the base first where there is one; each ``shape``."""
        models = list(self.base + self.vectors)
        return [self.base, *models] if self.has_base else models

    def weighted(self) -> Tensor:
        """The vectors times their weights, ``[model, *shape]``."""
        import torch

        weights = torch.tensor(self.weights, dtype=self.vectors.dtype)
        return self.vectors * weights.view(-1, *[1] * self.base.ndim)

    def magnitude(self, i: int, density: float, scope: Scope = "tensor") -> float:
        """The k-th largest |vector| of model `i`: what remains when `density` of it is kept.

        k is ``density * n``, rounded down, and at least 1. Keeping every element at or above it
        keeps all elements that are tied there.

        Args:
            i: Which model.
            density: The fraction kept, in (0, 1].
            scope: Over this tensor, or over all tensors of the model.
        """
        if scope == "model":
            return self.limits[density][i]
        import numpy as np

        values = self.vectors[i].abs().flatten().numpy()
        k = kept(values.size, density)
        return float(np.partition(values, values.size - k)[values.size - k])

    def uniform(self, i: int) -> Tensor:
        """Random numbers in [0, 1) for the elements of model `i`, float32, ``shape``.

        They are a function of (seed, tensor name, model, element) and of nothing else: the
        element's number, plus a key made of the others, goes through the SplitMix64 finaliser
        (Steele, Lea and Flood 2014), of which the upper 24 bits are used.
        """
        import torch

        key = hashlib.sha256(f"{self.seed}/{i}/{self.name}".encode()).digest()
        x = torch.arange(self.base.numel(), dtype=torch.int64)
        x = x * _signed(0x9E3779B97F4A7C15) + _signed(int.from_bytes(key[:8], "little"))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            x = (x ^ _shifted(x, shift)) * _signed(factor)
        x = x ^ _shifted(x, 31)
        return (_shifted(x, 40).to(torch.float32) * 2.0**-24).view(self.base.shape)


def kept(n: int, density: float) -> int:
    """How many of n elements a density keeps: rounded down, at least one.

    A hair is added first, so that 100 * 0.29 counts as 29.
    """
    return max(1, math.floor(n * density + 1e-9))


def _signed(value: int) -> int:
    """The 64-bit pattern of `value`, read as a signed number."""
    value &= MASK64
    return value - (1 << 64) if value >> 63 else value


def _shifted(x: Tensor, by: int) -> Tensor:
    """A logical right shift of signed 64-bit integers."""
    return (x >> by) & ((1 << (64 - by)) - 1)


Transform = Callable[..., TensorGroup]
Method = Callable[..., "Tensor"]
Adjustment = Callable[..., "Tensor"]
M = TypeVar("M", bound=Method)
T = TypeVar("T", bound=Transform)
A = TypeVar("A", bound=Adjustment)
METHODS: Registry[Method] = Registry("method", "laconic.methods")
TRANSFORMS: Registry[Transform] = Registry("transform", "laconic.methods")
ADJUSTMENTS: Registry[Adjustment] = Registry("adjustment", "laconic.methods")


def method(
    *,
    reach: Reach = "element",
    base: Literal["needed", "optional"] = "needed",
    members: int | None = None,
    weighted: bool = True,
    normalises: bool = False,
    trims: bool = False,
    idle: Mapping[str, Any] | None = None,
) -> Callable[[M], M]:
    """Register ``(group, *, ...) -> Tensor``: the merged tensor, float32, ``shape``.

    Args:
        reach: What one element of the result depends on.
        base: Whether a recipe must name a base.
        members: How many checkpoints it takes, base included; None for any number of models.
        weighted: Whether it uses the models' weights.
        normalises: Whether only the proportions of the weights count; then the base cancels, too.
        trims: Whether it asks for `group.magnitude` with its own ``density`` and ``scope``.
        idle: Parameters at which it gives back its first checkpoint; users are told.
    """

    def register(function: M) -> M:
        return METHODS.register(
            function,
            reach=reach,
            base=base,
            members=members,
            weighted=weighted,
            normalises=normalises,
            trims=trims,
            idle=idle or {},
        )

    return register


def transform(
    *, reach: Reach = "element", trims: bool = False, idle: Mapping[str, Any] | None = None
) -> Callable[[T], T]:
    """Register ``(group, *, ...) -> TensorGroup``: the group with other vectors.

    Args:
        reach: What one element of the result depends on.
        trims: Whether it asks for `group.magnitude` with its own ``density`` and ``scope``.
        idle: Parameters at which it changes nothing; users are told.
    """

    def register(function: T) -> T:
        return TRANSFORMS.register(function, reach=reach, trims=trims, idle=idle or {})

    return register


def adjustment(
    *, reach: Reach = "element", idle: Mapping[str, Any] | None = None
) -> Callable[[A], A]:
    """Register ``(group, merged, *, ...) -> Tensor``: the merged tensor, adjusted.

    The group is the one the method saw.

    Args:
        reach: What one element of the result depends on.
        idle: Parameters at which it changes nothing; users are told.
    """

    def register(function: A) -> A:
        return ADJUSTMENTS.register(function, reach=reach, idle=idle or {})

    return register
