"""What a merging method is given, and the decorators that register it and its counterparts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar

from laconic.methods.contract.kernels.codes import CHUNK
from laconic.methods.contract.ranking import Scope, Ties, Trim, TrimLimit, limit_of, within
from laconic.methods.contract.traits import STATS, Parts, Stats, StepTraits, Sums
from laconic.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from laconic.checkpoints.layout import Role

MASK32: Final = (1 << 32) - 1
#: How many random numbers are drawn at a time, so that wide integers take little memory.
SLICE: Final = 1 << 20


@dataclass(frozen=True)
class TensorGroup:
    """One tensor of every checkpoint in a merge, as task vectors over the base.

    A step whose reach is ``element`` may be given a flat block of the tensor instead of the whole.

    Attributes:
        name: The tensor's name.
        base: The base's values, float32, ``shape``; zeros where the recipe has no base.
        vectors: Each model minus the base, float32, ``[model, *shape]``; without a base these are
            the models themselves.
        weights: The models' weights, in the recipe's order.
        seed: The recipe's seed.
        layer: The layer of the text model that the tensor belongs to; None outside of them.
        layers: How many layers the text models have.
        role: Whether the tensor is the embedding, or of the head.
        has_base: Whether the recipe names a base.
        offset: The number, within the tensor, of the first element here.
        size: How many elements the whole tensor has, where the group is a block of it; else 0.
        chunk: Sums over the tensor are taken over this many elements at a time.
        limits: For a step that trims: the limit of each model, as found by the engine beforehand.
        sums: For a step that asks for sums over the tensor: what the engine found beforehand.
        stats: For a step that reads calibration statistics: those it asks for.
        norms: For an adjustment that asks for `norms`: by layer, the squared Euclidean norm of what
            merging moved in it, before the adjustment.
    """

    name: str
    base: Tensor
    vectors: Tensor
    weights: tuple[float, ...]
    seed: int = 0
    layer: int | None = None
    layers: int = 0
    role: Role = ""
    has_base: bool = True
    offset: int = 0
    size: int = 0
    chunk: int = CHUNK
    limits: Mapping[Trim, tuple[TrimLimit, ...]] = field(default_factory=dict)
    sums: tuple[float, ...] | None = None
    stats: Stats = field(default_factory=dict)
    norms: Mapping[int, float] = field(default_factory=dict)

    @property
    def members(self) -> list[Tensor]:
        """The checkpoints' own values, the base first where there is one; each ``shape``."""
        models = list(self.base + self.vectors)
        return [self.base, *models] if self.has_base else models

    def weighted(self) -> Tensor:
        """The vectors times their weights, ``[model, *shape]``."""
        import torch

        weights = torch.tensor(self.weights, dtype=self.vectors.dtype, device=self.vectors.device)
        return self.vectors * weights.view(-1, *[1] * self.base.ndim)

    def trimmed(self, density: float, scope: Scope = "tensor", ties: Ties = "all") -> Self:
        """The group with only the largest entries of each vector, the others zero.

        Args:
            density: The fraction kept, in (0, 1].
            scope: Ranked over this tensor, or over all tensors of the model.
            ties: Of the entries at the limit keep ``all``, or ``exact``: the first ones in the
                order of the elements, so that no more than the fraction is kept.
        """
        import torch

        if density >= 1:
            return self
        trim = Trim(density, scope, ties)
        keep = [self.largest(i, trim) for i in range(len(self.vectors))]
        return replace(self, vectors=self.vectors * torch.stack(keep))

    def largest(self, i: int, trim: Trim) -> Tensor:
        """Which entries of model `i` a trim keeps, ``shape``."""
        return within(self.vectors[i].abs(), self.limit(i, trim), self.offset)

    def limit(self, i: int, trim: Trim) -> TrimLimit:
        """Where a trim cuts model `i`: found by the engine, else by a sort of this group."""
        if trim in self.limits or trim.scope == "model":
            return self.limits[trim][i]
        return limit_of(self.vectors[i].abs(), trim)

    def magnitude(self, i: int, density: float, scope: Scope = "tensor") -> float:
        """The smallest |vector| of model `i` that remains where `density` of it is `kept`."""
        return self.limit(i, Trim(density, scope)).value

    def measured(self, kind: str) -> list[Tensor | None]:
        """This tensor's statistics of a kind, one for each checkpoint that the step reads.

        They are of the whole tensor, though the group may be a block of it: float32, on the base's
        device; None where the file has none.
        """
        values = [statistics.get(self.name) for statistics in self.stats[kind]]
        return [None if v is None else v.float().to(self.base.device) for v in values]

    def total(self, parts: Parts, **params: Any) -> tuple[float, ...]:
        """Sums over the whole tensor: found by the engine, else over this group.

        Args:
            parts: Gives the sums over each chunk of a group, a row for each sum; see
                `laconic.methods.contract.sums`. They are added without error, so
                that no size of blocks matters.
            params: What it takes beside the group.
        """
        if self.sums is not None:
            return self.sums
        from laconic.methods.contract.sums import add

        return tuple(map(add, parts(self, **params)))

    @property
    def numel(self) -> int:
        """How many elements the whole tensor has."""
        return self.size or self.base.numel()

    def uniform(self, i: int, shape: Sequence[int] | None = None) -> Tensor:
        """Random numbers in [0, 1) for the elements of model `i`, float32.

        They are a function of (seed, tensor name, model, element) and of nothing else. A key of 64
        bits is made of the first three. The element's number goes through a 32-bit finaliser of
        three multiplications (Wellons' triple32), half of the key joining before the first and half
        before the second; where a tensor has more than 2**32 elements, the upper bits of the number
        join the second half. The upper 24 bits of the result are used.

        Args:
            i: The model.
            shape: The shape of the numbers; None for that of the tensor.
        """
        import torch

        shape = self.base.shape if shape is None else shape
        key, stop = random_key(self.seed, i, self.name), self.offset + math.prod(shape)
        numbers = torch.empty(math.prod(shape), dtype=torch.float32, device=self.base.device)
        for start in range(self.offset, stop, SLICE):
            n = torch.arange(start, min(start + SLICE, stop), device=numbers.device)
            x = (n & MASK32) ^ (key & MASK32)
            second = ((key >> 32) + (n >> 32) * 0x9E3779B9) & MASK32
            x = ((x ^ x >> 17) * 0xED5AD4BB) & MASK32
            x = ((x ^ x >> 11 ^ second) * 0xAC4C1B51) & MASK32
            x = ((x ^ x >> 15) * 0x31848BAB) & MASK32
            numbers[start - self.offset :][:SLICE] = (x ^ x >> 14) >> 8
        return (numbers * 2.0**-24).view(tuple(shape))


def random_key(seed: int, i: int, name: str) -> int:
    """Where the random numbers of a tensor of model `i` start, 64 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{i}/{name}".encode()).digest()[:8], "little")


def vector_products(group: TensorGroup) -> np.ndarray[Any, Any]:
    """The inner products of a group's vectors with each other, for `VECTOR_PRODUCTS`."""
    from laconic.methods.contract.sums import products

    return products(list(group.vectors), group.chunk)


#: Asks for the inner products of the task vectors, by `group.total(vector_products)`.
VECTOR_PRODUCTS: Final = Sums(vector_products, kernel="vector_products")


Transform = Callable[..., TensorGroup]
Method = Callable[..., "Tensor"]
Adjustment = Callable[..., "Tensor"]
F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
METHODS: Registry[Method] = Registry("method", "laconic.methods")
TRANSFORMS: Registry[Transform] = Registry("transform", "laconic.methods")
ADJUSTMENTS: Registry[Adjustment] = Registry("adjustment", "laconic.methods")
#: The traits that only one family has.
OF_METHODS: Final = frozenset(
    {"base", "members", "models", "weighted", "normalises", "ranks", "zero_params"}
)
OF_ADJUSTMENTS: Final = frozenset({"norms"})


def _decorator(
    registry: Registry[Any], foreign: frozenset[str], declare: Callable[P, StepTraits]
) -> Callable[P, Callable[[F], F]]:
    """A decorator that takes the fields of `StepTraits` as keywords, but for those of others."""

    def decorate(*args: P.args, **traits: P.kwargs) -> Callable[[F], F]:
        if wrong := foreign.intersection(traits):
            raise TypeError(f"@{registry.family} has no {', '.join(sorted(wrong))}.")
        declared = declare(*args, **traits)
        extra = (STATS,) if declared.stats else ()

        def register(function: F) -> F:
            return registry.register(function, declared, extra_parameters=extra)

        return register

    return decorate


#: Registers ``(group, *, ...) -> Tensor``: the merged tensor, float32, ``shape``.
method = _decorator(METHODS, OF_ADJUSTMENTS, StepTraits)
#: Registers ``(group, *, ...) -> TensorGroup``: the group with other vectors.
transform = _decorator(TRANSFORMS, OF_METHODS | OF_ADJUSTMENTS, StepTraits)
#: Registers ``(group, merged, *, ...) -> Tensor``: what a method made of the group, adjusted.
adjustment = _decorator(ADJUSTMENTS, OF_METHODS | {"trims", "sums"}, StepTraits)
