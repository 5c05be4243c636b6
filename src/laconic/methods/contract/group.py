"""What a merging method is: a function of one tensor group; and its counterparts around it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self, TypeVar

from laconic.methods.contract.ranking import Limit, Scope, Ties, Trim, limit_of, within
from laconic.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from laconic.checkpoints.layout import Role
    from laconic.methods.contract.step_statistics import Measured

Reach = Literal["element", "row", "tensor", "model"]
#: Of which checkpoints a step reads statistics: of the base, of each model, or of all of them.
Whose = Literal["base", "models", "members"]
#: An adjustment also of what the recipe gives without it, measured against the base.
Result = Literal["merged"]
#: Statistics by kind, then one for each of those checkpoints, the base first.
Stats = Mapping[str, tuple["Measured", ...]]
#: The trims that a step asks for, from its parameters for a tensor and the number of elements.
Trims = Callable[[Mapping[str, Any], int], Sequence[Trim]]
Reaches = Callable[[Mapping[str, Any]], Reach]
MASK32: Final = (1 << 32) - 1


#: How many elements are drawn or summed at a time, so that wide types take little memory.
SLICE: Final = 1 << 20


#: How many elements are summed at a time; the kernels' `CHUNK`.
CHUNK: Final = 1 << 16


class Sums(NamedTuple):
    """What a step needs summed over a tensor before its blocks are computed.

    Attributes:
        parts: Gives the sums over the chunks of a group; it takes the group and those parameters
            that it names.
        only: The step asks where its parameters have these values; empty for always.
    """

    parts: Parts
    only: Mapping[str, Any] = MappingProxyType({})


class Setting(NamedTuple):
    """What a recipe gives one tensor beside the parameters.

    Attributes:
        weights: The models' weights.
        based: Whether there is a base.
        name: The tensor's name.
        shape: Its shape.
        stats: The calibration statistics that the step reads.
        layer: The layer that the tensor belongs to, as `TensorGroup` has it; so is `role`.
    """

    weights: tuple[float, ...]
    based: bool
    name: str = ""
    shape: tuple[int, ...] = ()
    stats: Stats = MappingProxyType({})
    layer: int | None = None
    role: Role = ""


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
    limits: Mapping[Trim, tuple[Limit, ...]] = field(default_factory=dict)
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

    def limit(self, i: int, trim: Trim) -> Limit:
        """Where a trim cuts model `i`: found by the engine, else by a sort of this group."""
        if trim in self.limits or trim.scope == "model":
            return self.limits[trim][i]
        return limit_of(self.vectors[i].abs(), trim)

    def magnitude(self, i: int, density: float, scope: Scope = "tensor") -> float:
        """The smallest |vector| of model `i` that remains where `density` of it is `kept`."""
        return self.limit(i, Trim(density, scope)).value

    def measured(self, kind: str) -> list[Tensor | None]:
        """This tensor's statistics of a kind, one for each checkpoint that they are asked of.

        They are of the whole tensor, though the group may be a block of it: float32, where the base
        is; None where the file has none.
        """
        own = [held.get(self.name) for held in self.stats[kind]]
        return [None if one is None else one.float().to(self.base.device) for one in own]

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


#: Sums over the chunks of a group, ``[sum, chunk]``.
Parts = Callable[..., "np.ndarray[Any, Any]"]


def vector_products(group: TensorGroup) -> np.ndarray[Any, Any]:
    """The inner products of a group's vectors with each other, for `Sums`."""
    from laconic.methods.contract.sums import products

    return products(list(group.vectors), group.chunk)


Transform = Callable[..., TensorGroup]
Method = Callable[..., "Tensor"]
Adjustment = Callable[..., "Tensor"]
#: Looks at a step's parameters for one tensor before anything is read: gives a sentence on what is
#: asked for in vain, or nothing, and raises a RecipeError for what cannot be meant.
Check = Callable[[Mapping[str, Any], Setting], str]
M = TypeVar("M", bound=Method)
T = TypeVar("T", bound=Transform)
A = TypeVar("A", bound=Adjustment)
METHODS: Registry[Method] = Registry("method", "laconic.methods")
TRANSFORMS: Registry[Transform] = Registry("transform", "laconic.methods")
ADJUSTMENTS: Registry[Adjustment] = Registry("adjustment", "laconic.methods")


def method(
    *,
    reach: Reach | Reaches = "element",
    base: Literal["needed", "optional"] = "needed",
    members: int | None = None,
    models: tuple[int, int | None] = (1, None),
    weighted: bool = True,
    normalises: bool = False,
    trims: bool | Trims = False,
    ranks: Callable[[TensorGroup], Tensor] | None = None,
    sums: Sums | None = None,
    idle: Mapping[str, Any] | None = None,
    check: Check | None = None,
    copies: int = 0,
    cost: str = "",
    stats: Mapping[str, Whose] | None = None,
    held: int = 0,
    still: Mapping[str, Any] | None = None,
    experimental: bool = False,
) -> Callable[[M], M]:
    """Register ``(group, *, ...) -> Tensor``: the merged tensor, float32, ``shape``.

    Args:
        reach: What one element of the result depends on, apart from what the group is asked for;
            or a function of the parameters that says so.
        base: Whether a recipe must name a base.
        members: How many checkpoints it takes, base included; None for any number of models.
        models: The fewest and the most models it takes, base not counted; None for any number.
        weighted: Whether it uses the models' weights.
        normalises: Whether only the proportions of the weights count; then the base cancels, too.
        trims: Whether it trims with its own ``density``, ``scope`` and ``ties``, the last two being
            optional: `group.trimmed`, `group.limit` or `group.magnitude`. Or the trims that it asks
            for, as a function of its parameters and the number of elements.
        ranks: What its trims rank, float32, ``[rank, *shape]``, none below 0; None for the
            magnitudes of the vectors.
        sums: What it asks for by `group.total`.
        idle: Parameters at which it gives back its first checkpoint; users are told.
        check: Looks at the parameters before anything is read.
        copies: Of a reach beyond ``element``: how many tensors in float32 it holds at its peak
            beside base, vectors and result, of which the engine knows.
        cost: What it costs beyond a pass over the weights, as users read it.
        stats: The kinds of calibration statistics it reads (`KINDS` in
            `laconic.calibration.record`), each with the checkpoints they are of; they come
            in `group.stats`, and a recipe names their files as its ``stats``.
        held: How many copies in float32 of one checkpoint's statistics of a tensor it holds.
        still: Parameters at which task vectors of zero give the base, where not all do.
        experimental: Whether its figures are not to be relied on.
    """

    def register(function: M) -> M:
        return METHODS.register(
            function,
            reach=reach,
            base=base,
            members=members,
            models=models,
            weighted=weighted,
            normalises=normalises,
            trims=trims,
            ranks=ranks,
            sums=sums,
            idle=idle or {},
            check=check,
            copies=copies,
            cost=cost,
            stats=stats or {},
            held=held,
            still=still or {},
            experimental=experimental,
        )

    return register


def transform(
    *,
    reach: Reach = "element",
    trims: bool | Trims = False,
    sums: Sums | None = None,
    idle: Mapping[str, Any] | None = None,
    check: Check | None = None,
    copies: int = 0,
    cost: str = "",
    stats: Mapping[str, Whose] | None = None,
    held: int = 0,
    experimental: bool = False,
) -> Callable[[T], T]:
    """Register ``(group, *, ...) -> TensorGroup``: the group with other vectors.

    Args:
        reach: What one element of the result depends on, apart from what the group is asked for.
        trims: As for `method`; so is `sums`.
        idle: Parameters at which it changes nothing; users are told.
        check: As for `method`; so are `copies`, `cost`, `stats`, `held` and `experimental`.
    """

    def register(function: T) -> T:
        return TRANSFORMS.register(
            function,
            reach=reach,
            trims=trims,
            ranks=None,
            sums=sums,
            idle=idle or {},
            check=check,
            copies=copies,
            cost=cost,
            stats=stats or {},
            held=held,
            experimental=experimental,
        )

    return register


def adjustment(
    *,
    reach: Reach = "element",
    idle: Mapping[str, Any] | None = None,
    check: Check | None = None,
    copies: int = 0,
    cost: str = "",
    stats: Mapping[str, Whose | Result] | None = None,
    held: int = 0,
    norms: bool = False,
    experimental: bool = False,
) -> Callable[[A], A]:
    """Register ``(group, merged, *, ...) -> Tensor``: adjust what a method made of the group.

    Args:
        reach: What one element of the result depends on.
        idle: Parameters at which it changes nothing; users are told.
        norms: Whether it asks for `group.norms`, for which everything is merged once more.
        check: As for `method`; so are `copies`, `cost`, `stats`, `held` and `experimental`.
    """

    def register(function: A) -> A:
        return ADJUSTMENTS.register(
            function,
            reach=reach,
            idle=idle or {},
            check=check,
            copies=copies,
            cost=cost,
            stats=stats or {},
            held=held,
            norms=norms,
            experimental=experimental,
        )

    return register
