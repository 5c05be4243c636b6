"""Rounding what was trained to the types that System 2 has, so that no update is lost on average.

A step of bfloat16 is 1/128 to 1/256 of a weight. A brief training, or one at a low rate, moves most
weights by less than half of it, and rounding to nearest then gives System 2 back. Here a value goes
to one of its two neighbours by chance, to the nearer one more often, so that its mean is right
(stochastic rounding; Gupta et al. 2015, arXiv 1502.02551). A weight that did not move stays.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from laconic.checkpoints.computed_tensors import float32, rounded, row_blocks, spool
from laconic.checkpoints.header import FLOATS, WIDTH
from laconic.checkpoints.layout import EMBED
from laconic.methods.contract.group import TensorGroup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from laconic.checkpoints.checkpoint import Checkpoint
    from laconic.checkpoints.header import TensorSpec
    from laconic.training.recipe import TrainRecipe

    Floats = NDArray[np.float32]

#: The standard deviation of the first weights, where a config does not say it.
SPREAD: Final = 0.02
#: Bits of the fraction of a type.
FRACTION: Final = {"BF16": 7, "F16": 10, "F32": 23}


@dataclass(frozen=True)
class Survival:
    """How much of an update is left in the delivered weights.

    The share that is left is the inner product of the trained and the delivered update, divided by
    the squared length of the trained update: 1 where nothing is lost.

    Attributes:
        dtype: The delivered type; several are joined by a comma.
        kept: The share that is left; None where nothing moved.
        nearest: The share that rounding to nearest would have left.
    """

    dtype: str
    kept: float | None
    nearest: float | None

    def to_dict(self) -> dict[str, Any]:
        """As run.json holds it."""
        return {**asdict(self), "rounding": "stochastic"}

    def to_text(self) -> str:
        """A sentence for people."""
        if self.kept is None or self.nearest is None:
            return f"Delivered in {self.dtype}: no weight has moved."
        return (
            f"Delivered in {self.dtype}, rounded stochastically: {self.kept:.1%} of the update is "
            f"kept (rounding to nearest would keep {self.nearest:.1%})."
        )


def stochastic(values: Floats, dtype: str, chance: Floats) -> NDArray[Any]:
    """Float32 values as a type stores them, each rounded up or down by chance.

    Args:
        values: Any shape.
        dtype: As safetensors headers write it: BF16, F16 or F32.
        chance: Random numbers in [0, 1), a multiple of 2**-24 each, of the same shape. The mean
            over them is the value itself, to 2**-16 of a step of bfloat16.
    """
    if dtype == "BF16":
        bits = np.ascontiguousarray(values).view(np.uint32)
        up = (bits + (chance * 65536).astype(np.uint32)) >> 16
        return np.where(np.isnan(values), 0x7FC0, up).astype(np.uint16)
    if dtype != "F16":
        return values
    near = rounded(values, dtype)
    other = np.nextafter(near, np.where(values > near, np.float16(np.inf), np.float16(-np.inf)))
    with np.errstate(invalid="ignore"):
        way = (values - near) / (other.astype(np.float32) - near)
    return np.where(chance < way, other, near)


def as_delivered(trained: Checkpoint, system2: Checkpoint, seed: int) -> Checkpoint:
    """A trained checkpoint in System 2's types.

    Args:
        trained: The checkpoint, with tensors in wider types.
        system2: Whose types are taken.
        seed: Of the random numbers, which are a function of it, the tensor's name and the element:
            one checkpoint differs from the next by what was trained between, not by chance.
    """
    specs = {
        name: replace(spec, dtype=dtype)
        for name, spec in trained.specs.items()
        if (dtype := _native(system2, name)) and spec.dtype in FLOATS
        if WIDTH[dtype] < WIDTH[spec.dtype]
    }

    @lru_cache(maxsize=4)
    def values(name: str) -> NDArray[Any]:
        spec = specs[name]
        blocks = (
            stochastic(piece, spec.dtype, _chances(seed, name, start, len(piece)))
            for start, piece in _pieces(trained, name)
        )
        return spool(spec, blocks)

    return trained.with_computed(specs.values(), values, mark=f"rounded stochastically {seed}")


def survival(system2: Checkpoint, trained: Checkpoint, delivered: Checkpoint) -> Survival:
    """How much of an update is left after rounding.

    Args:
        system2: The model before training.
        trained: The trained model in float32.
        delivered: The trained model, rounded.
    """
    moved = kept = nearest = 0.0
    dtypes: dict[str, None] = {}
    for name, spec in delivered.specs.items():
        if spec.dtype not in FLOATS or system2.specs.get(name, spec).shape != spec.shape:
            continue
        dtypes[FLOATS[spec.dtype]] = None
        if name not in system2.specs:
            continue
        pieces = (_pieces(one, name) for one in (system2, trained, delivered))
        for (_, before), (_, after), (_, left) in zip(*pieces, strict=True):
            update = (after - before).astype(np.float64)
            plain = float32(rounded(after, spec.dtype), spec.dtype)
            moved += float(update @ update)
            kept += float(update @ (left - before))
            nearest += float(update @ (plain - before))
    names = ", ".join(dtypes)
    return Survival(names, kept / moved, nearest / moved) if moved else Survival(names, None, None)


def outlook(recipe: TrainRecipe, system2: Checkpoint) -> dict[str, Any]:
    """Compare how far weights can move in a training with the step of the type they are stored in.

    AdamW moves a weight by about the learning rate in a step, at most, so the sum of the rates of
    all steps limits the movement. Of an adapter, factor B moves so, and factor A keeps its first
    values, uniform within one over the root of the width; `rank` products are added as a root mean
    square.

    Returns:
        The type; the movement; the step of the type at a weight of the model's own spread; a
        warning where the movement is below it, else nothing.
    """
    sizes: Counter[str] = Counter()
    for spec in system2.specs.values():
        sizes[spec.dtype] += math.prod(spec.shape) if spec.dtype in FLOATS else 0
    dtype = sizes.most_common(1)[0][0]
    spread = system2.config.get("initializer_range")
    weight = float(spread) if isinstance(spread, int | float) and spread > 0 else SPREAD
    step = 2.0 ** (math.floor(math.log2(weight)) - FRACTION[dtype])
    movement = math.fsum(rates(recipe))
    if lora := recipe.lora:
        width = int(system2.config.get("hidden_size") or 1)
        movement *= lora.alpha / lora.rank * math.sqrt(lora.rank / (3 * width))
    facts = {"dtype": FLOATS[dtype], "rounding": "stochastic", "movement": movement, "step": step}
    if dtype == "F32":
        return {**facts, "rounding": "none", "warning": ""}
    warning = (
        f"In {recipe.steps:,} steps at rate {recipe.rate:g} a weight moves by about {movement:.1e} "
        f"at most, less than a step of {FLOATS[dtype]} at a weight of {weight:g} ({step:.1e}). "
        "Rounding to nearest would undo most of the training; stochastic rounding keeps it on "
        "average, among noise. Take a higher rate or more steps."
    )
    return {**facts, "warning": warning if movement < step else ""}


def rates(recipe: TrainRecipe) -> Iterator[float]:
    """The learning rate of each step, as transformers' schedules have it."""
    for step in range(recipe.steps):
        if step < recipe.warmup:
            yield recipe.rate * step / recipe.warmup
            continue
        done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
        factors = {"linear": 1 - done, "cosine": 0.5 + 0.5 * math.cos(math.pi * done)}
        yield recipe.rate * factors.get(recipe.schedule, 1.0)


def outlook_text(facts: Mapping[str, Any]) -> str:
    """The facts of `outlook` for people."""
    if facts["rounding"] == "none":
        return f"delivery: in {facts['dtype']}, not rounded"
    return (
        f"delivery: in {facts['dtype']}, rounded stochastically by the recipe's seed; dev and the "
        "held-out problems see the rounded weights"
    )


def _native(system2: Checkpoint, name: str) -> str:
    """System 2's type of a tensor; a head that it ties has its embedding's."""
    spec: TensorSpec | None = system2.specs.get(name) or system2.specs.get(EMBED)
    return spec.dtype if spec and spec.dtype in FLOATS else ""


def _pieces(checkpoint: Checkpoint, name: str) -> Iterator[tuple[int, Floats]]:
    """A tensor's values in order, flat, with the number of the first of each piece."""
    spec = checkpoint.specs[name]
    stored = checkpoint.stored(name).reshape(-1)
    for part in row_blocks(stored.shape):
        yield part.start, float32(stored[part], spec.dtype)


def _chances(seed: int, name: str, start: int, count: int) -> Floats:
    """The random numbers of some elements of a tensor, in [0, 1)."""
    import torch

    empty = torch.empty(count)
    group = TensorGroup(name, empty, empty[None], (1.0,), seed=seed, offset=start)
    drawn: Floats = group.uniform(0).numpy()
    return drawn
