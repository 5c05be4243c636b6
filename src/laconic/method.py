"""What a merging method is: a function of one tensor group; and its counterparts around it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self, TypeVar

from laconic.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from laconic.layout import Role
    from laconic.measured import Measured

Reach = Literal["element", "row", "tensor", "model"]
Scope = Literal["tensor", "model"]
Ties = Literal["all", "exact"]
#: Of which checkpoints a step reads statistics: of the base, of each model, or of all of them.
Whose = Literal["base", "models", "members"]
#: An adjustment also of what the recipe gives without it, measured against the base.
Result = Literal["merged"]
#: Statistics by kind, then one for each of those checkpoints, the base first.
Stats = Mapping[str, tuple["Measured", ...]]
MASK32: Final = (1 << 32) - 1


class Limit(NamedTuple):
    """Where a trim cuts one model's entries.

    Attributes:
        value: The smallest |vector| kept.
        last: The number, within the tensor, of the last element kept among those at `value`.
    """

    value: float
    last: int


class Trim(NamedTuple):
    """What a step asks for when it trims: the fraction kept, ranked over what, and its tie rule."""

    density: float
    scope: Scope = "tensor"
    ties: Ties = "all"


#: A limit's `last` where every element at its value is kept.
EVERY: Final = (1 << 63) - 1
#: How many elements are drawn or summed at a time, so that wide types take little memory.
SLICE: Final = 1 << 20


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
        limits: For a step that trims: the limit of each model, as found by the engine beforehand.
        inner: For a method that asks for `products`: what the engine found beforehand.
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
    limits: Mapping[Trim, tuple[Limit, ...]] = field(default_factory=dict)
    inner: tuple[float, float, float] | None = None
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
        keep = []
        for i, vector in enumerate(self.vectors):
            limit, size = self.limit(i, Trim(density, scope, ties)), vector.abs()
            if limit.last == EVERY:
                keep.append(size >= limit.value)
                continue
            number = torch.arange(size.numel(), device=size.device).view(size.shape) + self.offset
            keep.append((size > limit.value) | ((size == limit.value) & (number <= limit.last)))
        return replace(self, vectors=self.vectors * torch.stack(keep))

    def limit(self, i: int, trim: Trim) -> Limit:
        """Where a trim cuts model `i`: found by the engine, else by a sort of this group."""
        if trim in self.limits or trim.scope == "model":
            return self.limits[trim][i]
        size = self.vectors[i].abs().flatten()
        k = kept(size.numel(), trim.density)
        value = size.sort(descending=True).values[k - 1]
        if trim.ties == "all":
            return Limit(float(value), EVERY)
        spare = k - int((size > value).sum())
        return Limit(float(value), int((size == value).nonzero()[spare - 1]))

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

    def products(self) -> tuple[float, float, float]:
        """The inner products a·a, a·b and b·b of two members, over the whole tensor, in float64.

        Products are exact; their sums are taken in a fixed order within chunks of the tensor, and
        the chunks' sums are added without error, so that they depend on no block size.
        """
        if self.inner is not None:
            return self.inner
        from laconic import kernels

        a, b = (member.flatten().cpu().numpy() for member in self.members)
        starts = range(0, len(a), kernels.CHUNK)
        sums = [kernels.products(*(x[s : s + kernels.CHUNK] for x in (a, b))) for s in starts]
        aa, ab, bb = (math.fsum(column) for column in zip(*sums, strict=True))
        return aa, ab, bb

    def inner_products(self) -> Tensor:
        """The inner products of the vectors, ``[model, model]``, float64, where the vectors are."""
        flat = self.vectors.reshape(len(self.vectors), self.base.numel())
        total = flat.new_zeros(len(flat), len(flat)).double()
        for start in range(0, flat.shape[1], SLICE):
            part = flat[:, start : start + SLICE].double()
            total += part @ part.T
        return total

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


def kept(n: int, density: float) -> int:
    """How many of n elements a density keeps: rounded down, at least one; 100 * 0.29 is 29."""
    return max(1, math.floor(n * density + 1e-9))


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
    reach: Reach = "element",
    base: Literal["needed", "optional"] = "needed",
    members: int | None = None,
    models: tuple[int, int | None] = (1, None),
    weighted: bool = True,
    normalises: bool = False,
    trims: bool = False,
    products: bool = False,
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
        reach: What one element of the result depends on, apart from what the group is asked for.
        base: Whether a recipe must name a base.
        members: How many checkpoints it takes, base included; None for any number of models.
        models: The fewest and the most models it takes, base not counted; None for any number.
        weighted: Whether it uses the models' weights.
        normalises: Whether only the proportions of the weights count; then the base cancels, too.
        trims: Whether it trims with its own ``density``, ``scope`` and ``ties``, the last two being
            optional: `group.trimmed`, `group.limit` or `group.magnitude`.
        products: Whether it asks for `group.products`.
        idle: Parameters at which it gives back its first checkpoint; users are told.
        check: Looks at the parameters before anything is read.
        copies: Of a reach beyond ``element``: how many tensors in float32 it holds at its peak
            beside base, vectors and result, of which the engine knows.
        cost: What it costs beyond a pass over the weights, as users read it.
        stats: The kinds of calibration statistics it reads (`laconic.calibration.KINDS`), each with
            the checkpoints they are of; they come in `group.stats`, and a recipe names their files
            as its ``stats``.
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
            products=products,
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
    trims: bool = False,
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
        trims: As for `method`.
        idle: Parameters at which it changes nothing; users are told.
        check: As for `method`; so are `copies`, `cost`, `stats`, `held` and `experimental`.
    """

    def register(function: T) -> T:
        return TRANSFORMS.register(
            function,
            reach=reach,
            trims=trims,
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
