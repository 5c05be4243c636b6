"""What the float64 references of the plug-ins share.

Nothing here comes from the package's arithmetic: thresholds are sorted, elections and means are
taken in float64 as the papers write them, and only DARE's random numbers are asked for, because a
mask is a draw and not a formula.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from laconic.methods.contract.group import TensorGroup

Array = NDArray[np.float64]
Params = Mapping[str, Any]
#: How far float32 may be from float64, as a fraction of the largest intermediate result.
SLACK: Final = 2.0**-19
#: How many layers the checkpoints of the tests have.
LAYERS: Final = 3
DENSITIES: Final = st.sampled_from([0.1, 0.29, 0.5, 0.8, 1.0])
SCALES: Final = st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.5, -0.4])
RANKED: Final = {
    "scope": st.sampled_from(["tensor", "model"]),
    "ties": st.sampled_from(["all", "exact"]),
}


@dataclass
class Work:
    """One tensor on its way through the oracle.

    Attributes:
        name: The tensor.
        base: Its values in the base; zeros without one.
        vectors: Each model minus the base.
        weights: The models' weights.
        based: Whether there is a base.
        seed: The recipe's seed.
        exact: Whether the vectors are still numbers that float32 holds.
        stats: Each checkpoint's statistics by kind, the base's first.
        norms: What the steps so far have moved in each layer, squared and summed.
        unsure: Where a comparison is too close to call in float32: any outcome is right.
        large: The largest magnitude that an element's arithmetic meets.
    """

    name: str
    base: Array
    vectors: list[Array]
    weights: list[float]
    based: bool
    seed: int
    exact: bool = True
    unsure: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    stats: Mapping[str, list[dict[str, Array]]] = field(default_factory=dict)
    norms: Mapping[int, float] = field(default_factory=dict)
    large: Array = field(default_factory=lambda: np.zeros(0))

    def meet(self, values: Array) -> Array:
        """Remember how large an intermediate result is."""
        self.large = np.maximum(self.large, np.abs(values))
        return values

    def doubt(self, where: NDArray[np.bool_]) -> None:
        self.unsure = self.unsure | where


def count_kept(n: int, density: float) -> int:
    return max(1, math.floor(n * density + 1e-9))


def largest(vectors: list[Array], density: float, *, exactly: bool) -> list[NDArray[np.bool_]]:
    """Which entries are kept, ranked over all of these tensors together by a stable sort."""
    sizes = np.concatenate([np.abs(v).ravel() for v in vectors])
    kept = np.zeros(len(sizes), bool)
    if len(sizes):
        k = count_kept(len(sizes), density)
        order = np.argsort(-sizes, kind="stable")
        kept[order[:k]] = True
        if not exactly:
            kept |= sizes >= sizes[order[k - 1]]
    ends = np.cumsum([v.size for v in vectors])[:-1]
    return [part.reshape(v.shape) for part, v in zip(np.split(kept, ends), vectors, strict=True)]


def keep_largest(works: list[Work], params: list[Params]) -> None:
    """Keep the largest of each tensor, or of all tensors that ask for the same over the model."""
    for i in range(len(works[0].vectors)):
        before = [w.vectors[i] for w in works]
        for number, (work, wish) in enumerate(zip(works, params, strict=True)):
            if wish["density"] >= 1:
                continue
            pool = list(range(len(works))) if wish["scope"] == "model" else [number]
            vectors = [before[j] for j in pool]
            masks = largest(vectors, wish["density"], exactly=wish["ties"] == "exact")
            work.vectors[i] = before[number] * masks[pool.index(number)]
            work.doubt(near_limit(works, vectors, masks, before[number]))


def near_limit(
    works: list[Work], vectors: list[Array], masks: list[NDArray[np.bool_]], vector: Array
) -> NDArray[np.bool_]:
    """Where float32 may rank otherwise: beside the limit, once a step has rounded the vectors."""
    if any(work.unsure.any() for work in works):
        return np.ones(vector.shape, bool)
    kept = [np.abs(v[m]).min() for v, m in zip(vectors, masks, strict=True) if m.any()]
    limit = min(kept, default=0.0)
    sizes = np.concatenate([np.abs(v).ravel() for v in vectors])
    beside = np.abs(sizes - limit) <= 2.0**-20 * limit
    if all(work.exact for work in works) or (sizes[beside] == limit).all():
        return np.zeros(vector.shape, bool)
    near: NDArray[np.bool_] = np.abs(np.abs(vector) - limit) <= 2.0**-20 * limit
    return near


def chances(work: Work, i: int) -> Array:
    """The random numbers of a tensor of model `i`: the one thing asked of the package."""
    zeros = torch.zeros(work.base.shape)
    group = TensorGroup(work.name, zeros, zeros[None], (1.0,), seed=work.seed)
    numbers: Array = group.uniform(i).double().numpy()
    return numbers


def total(work: Work) -> Array:
    """The weighted sum of the vectors."""
    parts = [work.meet(w * v) for w, v in zip(work.weights, work.vectors, strict=True)]
    work.meet(sum((np.abs(part) for part in parts), np.zeros_like(work.base)))
    return sum(parts, np.zeros_like(work.base))


def vote(work: Work) -> tuple[list[Array], Array]:
    """The weighted vectors, and the elected sign; a vote that nearly ties is in doubt."""
    vectors = [w * v for w, v in zip(work.weights, work.vectors, strict=True)]
    votes, most = total(work), sum((np.abs(v) for v in vectors), np.zeros_like(work.base))
    # A single model's vote is its own sign, however small; so is that of models that agree.
    split = np.abs(votes) < most * (1 - 2.0**-20)
    work.doubt(split & (np.abs(votes) <= most * 2.0**-20) & (votes != 0))
    work.doubt(split & (votes == 0) & (len(vectors) > 2))
    return vectors, np.where(votes >= 0, 1.0, -1.0)


def layer_of(name: str) -> int | None:
    return int(name.split(".")[2]) if name.startswith("model.layers.") else None


def value_at(value: Any, name: str) -> Any:
    """A recipe's value for one tensor: itself, along a gradient, or by the first glob that fits."""
    if isinstance(value, list) and isinstance(value[0], dict):
        fits = (e for e in value if fnmatch.fnmatchcase(name, e.get("match", "*")))
        return value_at(next(fits)["value"], name)
    if isinstance(value, list):
        layer = layer_of(name) or 0
        return float(np.interp(layer / (LAYERS - 1), np.linspace(0, 1, len(value)), value))
    return value


def sensitivity_shares(stats: Mapping[str, Array]) -> dict[int, float]:
    """Each layer's sensitivity over the norm of all layers'."""
    sums = {
        layer: sum(float(v.sum()) for n, v in stats.items() if layer_of(n) == layer)
        for layer in range(LAYERS)
    }
    norm = math.sqrt(sum(s * s for s in sums.values())) or 1.0
    return {layer: s / norm for layer, s in sums.items()}


def softmax(values: list[float]) -> Array:
    powers = np.exp(np.array(values) - max(values))
    made: Array = powers / powers.sum()
    return made
