"""Merges on disk against a naive float64 reading of the methods' formulas, whatever they are of.

Nothing here comes from the package's arithmetic: thresholds are sorted, elections and means are
taken in float64 as the papers write them, and only DARE's random numbers are asked for, because a
mask is a draw and not a formula. What they are distributed like is tested on its own.
"""

from __future__ import annotations

import fnmatch
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from safetensors.torch import save_file

from laconic.calibration.record import KINDS, Calibration
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.merging.engine.options import Means
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS, TensorGroup
from tests.conftest import CONFIG

Array = NDArray[np.float64]
Params = Mapping[str, Any]
TYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
#: How far float32 may be from float64, as a fraction of the largest intermediate result.
SLACK: Final = 2.0**-19
LAYERS: Final = 3


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


def trim(works: list[Work], params: list[Params]) -> None:
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


def dare(works: list[Work], params: list[Params]) -> None:
    for work, wish in zip(works, params, strict=True):
        factor = 1 / wish["density"] if wish["rescale"] else 1.0
        density = float(np.float32(wish["density"]))
        work.vectors = [
            work.meet(v * (chances(work, i) < density) * factor) for i, v in enumerate(work.vectors)
        ]
        work.exact = work.exact and factor == 1


def sparsify(works: list[Work], params: list[Params]) -> None:
    for work, wish in zip(works, params, strict=True):
        for i, vector in enumerate(work.vectors):
            if wish["model"] not in (None, i):
                continue
            if wish["by"] == "chance":
                mask = chances(work, i) < float(np.float32(wish["density"]))
            else:
                masks = largest([vector], wish["density"], exactly=True)
                work.doubt(near_limit([work], [vector], masks, vector))
                mask = masks[0]
            held = vector * mask
            before, after = np.abs(vector).sum(), np.abs(held).sum()
            if wish["rescale"] and min(before, after) >= 1e-7:
                held = held * (before / after)
            elif wish["rescale"]:
                work.doubt(np.full(vector.shape, min(before, after) > 0.9e-7))
            work.vectors[i] = work.meet(held)
        work.exact = work.exact and not wish["rescale"]


def della(works: list[Work], params: list[Params]) -> None:
    for work, wish in zip(works, params, strict=True):
        density, epsilon = wish["density"], wish["epsilon"]
        for i, vector in enumerate(work.vectors):
            rows = np.abs(vector).reshape(-1, vector.shape[-1] if vector.ndim else 1)
            n = rows.shape[1]
            rank = rows.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
            chance = (
                density - epsilon + 2 * epsilon * rank / (n - 1) if n > 1 else density + 0 * rows
            )
            chance, numbers = chance.reshape(vector.shape), chances(work, i)
            work.doubt(np.abs(numbers - chance) < 1e-6)
            if not work.exact and rows.size:
                apart = np.abs(rows[:, :, None] - rows[:, None, :])
                near = (apart <= 2.0**-19 * rows[:, :, None]) & (apart > 0)
                work.doubt(near.any(2).reshape(vector.shape))
            held = vector * (numbers < chance)
            before, after = np.abs(vector).sum(), np.abs(held).sum()
            if wish["rescale"] == "probability":
                held = held / chance
            elif wish["rescale"] == "norm" and min(before, after) >= 1e-7:
                held = held * (before / after)
            work.vectors[i] = work.meet(held)
        work.exact = work.exact and wish["rescale"] == "none"


def breadcrumbs(works: list[Work], params: list[Params]) -> None:
    for work, wish in zip(works, params, strict=True):
        for i, vector in enumerate(work.vectors):
            keep = count_kept(vector.size, wish["density"])
            top = min(math.floor(vector.size * wish["outliers"] + 1e-9), vector.size - keep)
            order = np.argsort(-np.abs(vector).ravel(), kind="stable")
            masks = []
            for count in (top + keep, top):
                mask = np.zeros(vector.size, bool)
                mask[order[:count]] = True
                masks.append(mask.reshape(vector.shape))
                if 0 < count < vector.size:
                    work.doubt(near_limit([work], [vector], masks[-1:], vector))
            work.vectors[i] = vector * (masks[0] & ~masks[1])


def total(work: Work) -> Array:
    """The weighted sum of the vectors."""
    parts = [work.meet(w * v) for w, v in zip(work.weights, work.vectors, strict=True)]
    work.meet(sum((np.abs(part) for part in parts), np.zeros_like(work.base)))
    return sum(parts, np.zeros_like(work.base))


def average(work: Work, params: Params) -> Array:
    return work.base + work.meet(total(work) / sum(work.weights))


def task_arithmetic(work: Work, params: Params) -> Array:
    return work.base + work.meet(params["scale"] * total(work))


def weighted_sum(work: Work, params: Params) -> Array:
    weight = sum(work.weights)
    divisor = weight if params["normalise"] and abs(weight) >= 1e-8 else 1.0
    return work.base + work.meet(params["scale"] * total(work) / divisor)


def vote(work: Work) -> tuple[list[Array], Array]:
    """The weighted vectors, and the elected sign; a vote that nearly ties is in doubt."""
    vectors = [w * v for w, v in zip(work.weights, work.vectors, strict=True)]
    votes, most = total(work), sum((np.abs(v) for v in vectors), np.zeros_like(work.base))
    # A single model's vote is its own sign, however small; so is that of models that agree.
    split = np.abs(votes) < most * (1 - 2.0**-20)
    work.doubt(split & (np.abs(votes) <= most * 2.0**-20) & (votes != 0))
    work.doubt(split & (votes == 0) & (len(vectors) > 2))
    return vectors, np.where(votes >= 0, 1.0, -1.0)


def ties(work: Work, params: Params) -> Array:
    vectors, sign = vote(work)
    chosen = [np.where(v * sign > 0, v, 0) for v in vectors]
    number = sum((v * sign > 0 for v in vectors), np.zeros(work.base.shape, int))
    mean = sum(chosen, np.zeros_like(work.base)) / np.maximum(number, 1)
    return work.base + work.meet(params["scale"] * mean)


def elect(work: Work, params: Params) -> Array:
    vectors, sign = vote(work)
    agree = [v * sign > 0 for v in vectors]
    summed = sum((np.where(a, v, 0) for a, v in zip(agree, vectors, strict=True)), 0 * work.base)
    if params["normalise"]:
        divisor = sum((w * a for w, a in zip(work.weights, agree, strict=True)), 0 * work.base)
        gross = sum(abs(w) * a for w, a in zip(work.weights, agree, strict=True))
        work.doubt((divisor != 0) & (np.abs(divisor) < 1e-5 * gross))
        work.doubt((divisor == 0) & (gross > 0))
        # Weights that nearly cancel make every error as much larger.
        cancel = np.maximum(gross / np.where(divisor == 0, 1, np.abs(divisor)), 1)
        summed = summed / np.where(divisor == 0, 1, divisor)
        work.meet(np.abs(summed * params["scale"]) * cancel)
    return work.base + work.meet(params["scale"] * summed)


def slerp(work: Work, params: Params) -> Array:
    members = [work.base + v for v in work.vectors]
    a, b = (work.base, *members) if work.based else members
    t, norms = params["t"], [math.sqrt((x * x).sum()) for x in (a, b)]
    lost = 1.0 if params["zeros"] == "line" else 0.0
    cosine = (a * b).sum() / norms[0] / norms[1] if min(norms) > 1e-8 else lost
    on_the_edge = abs(abs(cosine) - 0.9995) < 1e-6 or any(abs(n - 1e-8) < 1e-10 for n in norms)
    work.doubt(np.full(a.shape, on_the_edge))
    left, right = 1 - t, t
    if abs(cosine) <= 0.9995:
        angle = math.acos(cosine)
        left, right = (math.sin(share * angle) / math.sin(angle) for share in (1 - t, t))
        # Towards opposite vectors, the angle's own error counts as much more.
        work.meet((np.abs(left * a) + np.abs(right * b)) / math.sin(angle) ** 2)
    work.meet(np.abs(left * a) + np.abs(right * b))
    result: Array = left * a + right * b
    return result


def shrunk(work: Work, matrix: Array, mu: float, *, relative: bool) -> Array:
    """Every singular value less mu; a product's error is a share of the matrix's norm."""
    if not matrix.size or not mu:
        return matrix
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    limit = mu * s.max(-1, keepdims=True) if relative else mu
    work.meet(np.full(work.base.shape, float(s.max())))
    made: Array = (u * np.maximum(s - limit, 0)[..., None, :]) @ v
    return made


def lore(work: Work, params: Params) -> Array:
    inside = layer_of(work.name) is not None or params["embeddings"]
    mu = params["mu"] if work.base.ndim > 1 and inside else 0.0
    shrink = partial(shrunk, work, mu=mu, relative=params["relative"])
    if work.based:
        base, vectors = work.base, [shrink(v) for v in work.vectors]
    else:
        vectors = [np.zeros_like(v) for v in work.vectors]
        for _ in range(params["iterations"]):
            rests = [m - d for m, d in zip(work.vectors, vectors, strict=True)]
            base = sum(rests, np.zeros_like(work.base)) / len(rests)
            vectors = [shrink(m - base) for m in work.vectors]
    added = [work.meet(w * d) for w, d in zip(work.weights, vectors, strict=True)]
    return base + work.meet(params["scale"] * sum(added, np.zeros_like(base)))


def twin_svd(work: Work, params: Params) -> Array:
    moved = work.meet(params["scale"] * sum(map(work.meet, work.vectors), 0 * work.base))
    exclusive = np.zeros_like(work.base)
    for vector, weight in zip(work.vectors, work.weights, strict=True):
        rest = vector - moved
        if rest.ndim > 1 and weight:
            rank = params["rank"]
            if rank is None:
                rank = math.floor(min(rest.shape[-2:]) * params["density"] + 1e-9)
            rest = leading(work, rest, rank)
        exclusive = exclusive + work.meet(weight * rest)
    return work.base + work.meet(moved + exclusive)


def leading(work: Work, matrix: Array, rank: int) -> Array:
    """The largest singular triplets; in doubt where the next one is as large."""
    if not matrix.size:
        return matrix
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    if 0 < rank < s.shape[-1]:
        gap = (s[..., rank - 1] - s[..., rank]) / np.maximum(s[..., 0], 1e-30)
        close = (gap < 1e-2) & (s[..., rank] > 1e-6 * work.large.max())
        work.doubt(np.broadcast_to(close[..., None, None], matrix.shape))
    work.meet(np.full(matrix.shape, 100 * float(s.max())))
    made: Array = (u[..., :rank] * s[..., None, :rank]) @ v[..., :rank, :]
    return made


def sce(work: Work, params: Params) -> Array:
    vectors = np.stack(work.vectors)
    if params["density"] < 1:
        differ = (vectors != vectors[0]).any(0).ravel()
        spread = np.where(differ, vectors.var(0).ravel(), 0)
        count = math.floor(int(differ.sum()) * params["density"] + 1e-9)
        order = np.argsort(-spread, kind="stable")
        mask = np.zeros(spread.size, bool)
        mask[order[:count]] = True
        if 0 < count < spread.size:
            limit = spread[order[count - 1]]
            beside = np.abs(spread - limit) <= 1e-5 * limit
            columns = {tuple(c) for c in vectors.reshape(len(vectors), -1)[:, beside].T}
            work.doubt(np.full(work.base.shape, len(columns) > 1 and not mask[beside].all()))
        vectors = vectors * mask.reshape(work.base.shape)
    work.vectors = list(vectors)
    _, sign = vote(work)
    energy = (vectors.reshape(len(vectors), -1) ** 2).mean(1) if vectors.size else np.ones(1)
    gross = energy.sum()
    shares = energy / gross if gross > 0 else np.full(len(energy), 1 / len(energy))
    fused, divisor = np.zeros_like(work.base), np.zeros_like(work.base)
    for vector, share in zip(vectors, shares, strict=bool(vectors.size)):
        fused += share * np.where(vector * sign > 0, vector, 0)
        divisor += share * (vector * sign > 0)
    result = fused / np.maximum(divisor, 1e-6)
    return work.base + work.meet(params["scale"] * result)


def model_stock(work: Work, params: Params) -> Array:
    flat = [v.ravel() for v in work.vectors]
    norms = [math.sqrt(v @ v) for v in flat]
    pairs = [(i, j) for j in range(len(flat)) for i in range(j)]
    cosines = [
        flat[i] @ flat[j] / (norms[i] * norms[j]) if norms[i] and norms[j] else 0.0
        for i, j in pairs
    ]
    c, k = min(max(sum(cosines) / len(pairs), 0.0), 1.0), len(flat)
    mean = sum(map(work.meet, work.vectors), np.zeros_like(work.base)) / k
    return work.base + k * c / (1 + (k - 1) * c) * mean


def nuslerp(work: Work, params: Params) -> Array:
    first, second = work.weights
    t = second / (first + second) if abs(first + second) >= 1e-6 else 0.5
    work.doubt(np.full(work.base.shape, abs(abs(first + second) - 1e-6) < 1e-8))
    a, b = work.vectors
    axis = {"tensor": None, "row": -1, "column": -2}[params["along"]] if a.ndim > 1 else None
    aa, ab, bb = ((x * y).sum(axis, keepdims=True) for x, y in ((a, a), (a, b), (b, b)))
    near = (aa < 1e-16) | (bb < 1e-16)
    angle = np.arccos(np.clip(ab / np.where(near, 1, np.sqrt(aa * bb)), -1, 1))
    straight = near | (np.sin(angle) < 1e-8)
    # What is nearly parallel or opposite: the angle is what its rounding makes of it.
    work.doubt(np.broadcast_to(~near & (np.sin(angle) < 1e-3) & (ab < 0), a.shape))
    divisor = np.where(straight, 1, np.sin(angle))
    left = np.where(straight, 1 - t, np.sin((1 - t) * angle) / divisor)
    right = np.where(straight, t, np.sin(t * angle) / divisor)
    work.meet(np.abs(left * a) + np.abs(right * b))
    return work.base + left * a + right * b


def wudi(work: Work, params: Params) -> Array:
    """Adam in float64; where a slope is what rounding makes of it, each step is in doubt."""
    vectors = work.vectors
    merged = sum(map(work.meet, vectors), np.zeros_like(work.base))
    if merged.ndim < 2 or layer_of(work.name) is None:
        return work.base + work.meet(params["scale"] * merged / len(vectors))
    mean, square = np.zeros_like(merged), np.zeros_like(merged)
    for step in range(1, params["steps"] + 1):
        slope, gross = np.zeros_like(merged), np.zeros_like(merged)
        for v in vectors:
            norm = max(float((v * v).sum((-2, -1)).max(initial=0.0)), 1e-30)
            norms = np.maximum((v * v).sum((-2, -1), keepdims=True), 1e-30)
            product = v.swapaxes(-1, -2) @ v
            slope += 2 * (merged - v) @ product / norms
            gross += 2 * (np.abs(merged) + np.abs(v)) @ np.abs(product) / norms * (norm > 1e-30)
        noisy = (np.abs(slope) < 1e-3 * gross) | (np.abs(slope) < 1e-4)
        work.meet(np.where(noisy & (gross > 0), 4 * params["rate"] / SLACK, 0))
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        root = np.sqrt(square / (1 - 0.999**step)) + 1e-8
        merged = merged - params["rate"] * mean / (1 - 0.9**step) / root
    return work.base + work.meet(params["scale"] * work.meet(merged))


def shares(stats: Mapping[str, Array]) -> dict[int, float]:
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


def sens(work: Work, params: Params) -> Array:
    (vector,), scale, layer = work.vectors, params["scale"], layer_of(work.name)
    own, other = 1.0, 1.0
    if layer is not None:
        first, second = (shares(s)[layer] for s in work.stats["sensitivity"])
        tilt = [(1 - scale) * first / params["temperature"], scale * second / params["temperature"]]
        own, other = 2 * softmax(tilt)
    if not params["rescale_base"]:
        own = 1.0
    return work.meet(own * work.base) + work.meet(other * scale * vector)


def sens_general(work: Work, params: Params) -> Array:
    count, layer = len(work.vectors), layer_of(work.name)
    split = np.full(count, 1 / count)
    if layer is not None:
        tau = np.array(params["alignment"] or [1.0] * count)
        sensitive = [shares(s)[layer] for s in work.stats["sensitivity"][1:]]
        split = softmax(list(np.array(sensitive) * tau / tau.sum() / params["temperature"]))
    parts = [
        work.meet(count * p * w * v)
        for p, w, v in zip(split, work.weights, work.vectors, strict=True)
    ]
    work.meet(sum(map(np.abs, parts), 0 * work.base))
    return work.base + work.meet(params["scale"] * sum(parts, 0 * work.base))


def fisher(work: Work, params: Params) -> Array:
    total, divisor = np.zeros_like(work.base), np.zeros_like(work.base)
    for v, w, s in zip(work.vectors, work.weights, work.stats["fisher"][1:], strict=True):
        norm = math.sqrt(sum(float((f * f).sum()) for f in s.values())) or 1.0
        matters = s[work.name] / (norm if params["balance"] else 1.0) + params["floor"]
        total += work.meet(w * matters * v) / max(1.0, sum(work.weights))
        divisor += w * matters / max(1.0, sum(work.weights))
    work.meet(np.max([np.abs(v) for v in work.vectors], axis=0))
    return work.base + total / divisor


def regmean(work: Work, params: Params) -> Array:
    """The formula itself, without the detour over the mean, and with the ridge."""
    weights = np.array(work.weights) / sum(work.weights)
    mean = sum((w * v for w, v in zip(weights, work.vectors, strict=True)), 0 * work.base)
    work.meet(np.max([np.abs(v) for v in work.vectors], axis=0))
    if work.name not in work.stats["gram"][0]:
        return work.base + mean
    columns = work.base.shape[1]
    left, right = np.zeros((columns, columns)), np.zeros((columns, len(work.base)))
    for w, v, s in zip(weights, work.vectors, work.stats["gram"][1:], strict=True):
        diagonal = np.diag(np.diag(s[work.name]))
        gram = params["off_diagonal"] * (s[work.name] - diagonal) + diagonal
        left, right = left + w * gram, right + w * gram @ v.T
    ridge = params["ridge"] * np.trace(left) / columns * np.eye(columns)
    work.meet(np.full(work.base.shape, 30 * max(np.abs(v).max() for v in work.vectors)))
    solved: Array = np.linalg.solve(left + ridge, right + ridge @ mean.T).T
    return work.base + solved


def aim(work: Work, merged: Array, params: Params) -> Array:
    activity = work.stats["activations"][0].get(work.name)
    if activity is None:
        return merged
    share = activity / (activity.max() or 1.0)
    return work.base + work.meet((merged - work.base) * (1 - share * (1 - params["omega"])))


def acm(work: Work, merged: Array, params: Params) -> Array:
    layer = layer_of(work.name)
    part = "embed" if "embed" in work.name else "norm" if layer is None else f"layer.{layer}"
    told = work.stats["mutual_information"][0][part]
    spread = 1 / (1 + np.exp(-params["sharpness"] * (told - told.max())))
    result: Array = work.base + (1 - spread.mean()) * (merged - work.base)
    return result


def fisher_layer(work: Work, merged: Array, params: Params) -> Array:
    layer, share = layer_of(work.name), (params["first"] + params["last"]) / 2
    logs = {}
    for number, norm in work.norms.items():
        own = {n: f for n, f in work.stats["fisher"][0].items() if layer_of(n) == number}
        size = sum(f.size for f in own.values())
        cost = norm * sum(float(f.sum()) for f in own.values()) / max(size, 1)
        if cost:
            logs[number] = math.log(cost)
    if layer in logs:
        spread = float(np.std(list(logs.values())))
        assume(spread > 0.05)
        z = (logs[layer] - float(np.mean(list(logs.values())))) / spread
        low, high = params["first"], params["last"]
        share = low + (high - low) / (1 + math.exp(params["sharpness"] * z))
    return work.base + work.meet(share * (merged - work.base))


def lines(work: Work, merged: Array, params: Params) -> Array:
    layer = layer_of(work.name)
    depth = layer / (LAYERS - 1) if layer is not None else float("embed" not in work.name)
    factor = (1 - depth) * params["first"] + depth * params["last"]
    return work.base + work.meet(factor * (merged - work.base))


Before = Callable[[list[Work], list[Params]], None]
BEFORE: Final[dict[str, Before]] = {
    f.__name__: f for f in (dare, trim, sparsify, della, breadcrumbs)
}
METHOD: Final[dict[str, Callable[[Work, Params], Array]]] = {
    f.__name__: f
    for f in (
        *(average, task_arithmetic, weighted_sum, ties, elect, slerp),
        *(lore, twin_svd, sce, model_stock, nuslerp, wudi),
        *(sens, sens_general, fisher, regmean),
    )
}
AFTER: Final[dict[str, Callable[[Work, Array, Params], Array]]] = {
    "lines": lines,
    "aim": aim,
    "acm": acm,
    "fisher_layer": fisher_layer,
}


def test_every_plug_in_has_an_oracle() -> None:
    assert {plugin.name for plugin in METHODS.all()} == set(METHOD)
    assert {plugin.name for plugin in TRANSFORMS.all()} == set(BEFORE)
    assert {plugin.name for plugin in ADJUSTMENTS.all()} == set(AFTER)


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


def defaults(registry: Any, name: str) -> dict[str, Any]:
    return dict(registry.get(name).bind({}, where="test"))


def params_for(registry: Any, step: str, given: Params, name: str) -> Params:
    params = {**defaults(registry, step), **given}
    return {k: v if k == "alignment" else value_at(v, name) for k, v in params.items()}


@dataclass
class Case:
    """Checkpoints and a recipe for them, the base first."""

    held: list[dict[str, torch.Tensor]]
    based: bool
    weights: list[Any]
    recipe: dict[str, Any]
    block: int
    draw: int = 0


def expected(case: Case) -> dict[str, Work]:
    """The merge as the formulas say it; each tensor's result is left in its `base`."""
    members = [{n: t.double().numpy() for n, t in held.items()} for held in case.held]
    based, names = case.based, sorted(case.held[0], key=natural)
    stats = case_stats(case)
    works = []
    for name in names:
        values = [member[name] for member in members]
        base = values[0] if based else np.zeros_like(values[0])
        # The task vector is the float32 difference: its rounding moves what lies at a threshold.
        vectors = [(v - base).astype(np.float32).astype(float) for v in values[based:]]
        weights = [value_at(w, name) for w in case.weights[based:]]
        large = np.max([np.abs(v) for v in values], axis=0)
        unsure = np.zeros(base.shape, bool)
        work = Work(name, base, vectors, weights, based, 3, unsure=unsure, large=large)
        works.append(replace(work, stats=stats))
    recipe = case.recipe
    for step in recipe["before"]:
        ((name, params),) = step.items()
        BEFORE[name](works, [params_for(TRANSFORMS, name, params, w.name) for w in works])
    method = recipe["method"]
    wishes = [
        params_for(METHODS, method, {**recipe["params"], **override(recipe, work.name)}, work.name)
        for work in works
    ]
    if method == "ties":
        trim(works, wishes)
    merged = [w.meet(METHOD[method](w, wish)) for w, wish in zip(works, wishes, strict=True)]
    for step in recipe["after"]:
        ((name, params),) = step.items()
        norms = dict.fromkeys(range(LAYERS), 0.0)
        for work, result in zip(works, merged, strict=True):
            moved, layer = result - work.base, layer_of(work.name)
            if layer is not None:
                norms[layer] += float((moved * moved).sum())
            if name == "fisher_layer":
                # What is moved by less is what rounding makes of it, and its logarithm counts.
                assume(not moved.any() or np.abs(moved).max() > 1e-3 * work.large.max())
        for i, work in enumerate(works):
            work.norms = norms
            wish = params_for(ADJUSTMENTS, name, params, work.name)
            merged[i] = work.meet(AFTER[name](work, merged[i], wish))
    return {work.name: replace(work, base=m) for work, m in zip(works, merged, strict=True)}


def case_stats(case: Case) -> dict[str, list[dict[str, Array]]]:
    """Statistics of each checkpoint, the base's first; without a base there is a place for it."""
    draw = np.random.default_rng(case.draw)
    shapes = {name: tuple(t.shape) for name, t in sorted(case.held[0].items())}
    stats: dict[str, list[dict[str, Array]]] = {kind: [] for kind in KINDS}
    for _ in range(len(case.held) + (not case.based)):
        own: dict[str, dict[str, Array]] = {kind: {} for kind in KINDS}
        for name, shape in shapes.items():
            if shape and "embed" not in name:
                own["activations"][name] = draw.random(shape[-1:]) * (draw.random() > 0.1)
            if len(shape) == 2 and "embed" not in name and 0 not in shape:
                inputs = draw.normal(size=(12, shape[-1]))
                own["gram"][name] = inputs.T @ inputs / 12
            if layer_of(name) is not None:
                own["sensitivity"][name] = np.asarray(draw.random() * (draw.random() > 0.2))
            own["fisher"][name] = np.asarray(draw.random(shape) ** 4)
        parts = ["embed", "norm", "lm_head", *(f"layer.{i}" for i in range(LAYERS))]
        own["mutual_information"] = {part: 3 * draw.random(10) for part in parts}
        for kind, values in own.items():
            stats[kind].append({n: v.astype(np.float32).astype(float) for n, v in values.items()})
    return stats


def write_stats(case: Case, folders: list[str], recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe with its steps' statistics, in files beside the folders."""
    stats = case_stats(case)
    marks = [open_checkpoint(folder).fingerprint for folder in folders]

    def named(plugin: Any, first: Recipe | None = None) -> dict[str, Any]:
        paths: list[Path] = []
        if plugin.traits["stats"]:
            assume(len(set(marks)) == len(marks))
        for kind, whose in plugin.traits["stats"].items():
            everyone = range(len(folders))
            wanted = {"models": everyone[case.based :], "members": everyone}.get(whose, (0,))
            for i in wanted:
                tensors = stats[kind][i + (not case.based)]
                paths.append(Path(folders[i]).with_name(f"{plugin.name}-{i}.safetensors"))
                Calibration(
                    kind=kind,
                    model=marks[i],
                    model_name=folders[i],
                    data="digest",
                    data_name="data",
                    samples=12,
                    tokens=99,
                    tensors={n: torch.tensor(v, dtype=torch.float32) for n, v in tensors.items()},
                    against=marks[0] if first else None,
                    against_name=folders[0] if first else None,
                    settings={"merge": plan(first).digest} if first else {},
                ).write(paths[-1])
        return {"stats": list(map(str, paths))} if paths else {}

    made = {**recipe, "after": []}
    made["params"] = {**recipe["params"], **named(METHODS.get(recipe["method"]))}
    for step in recipe["after"]:
        ((name, params),) = step.items()
        files = named(ADJUSTMENTS.get(name), Recipe(**made) if name == "acm" else None)
        made["after"] = [*made["after"], {name: {**params, **files}}]
    return made


def natural(name: str) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdigit() else part for part in name.split("."))


def override(recipe: Mapping[str, Any], name: str) -> dict[str, Any]:
    for entry in recipe["overrides"]:
        layer, (first, last) = layer_of(name), entry.get("layers", (0, LAYERS))
        inside = "layers" not in entry or (layer is not None and first <= layer <= last)
        if inside and fnmatch.fnmatchcase(name, entry["match"]):
            return dict(entry["params"])
    return {}


VALUES: Final = st.one_of(
    st.floats(-4, 4, width=32, allow_subnormal=False),
    st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1e-4]),
)
SHAPES: Final = st.sampled_from([(), (1,), (7,), (12,), (3, 4), (5, 2), (2, 1, 3), (0, 4)])
DENSITIES: Final = st.sampled_from([0.1, 0.29, 0.5, 0.8, 1.0])
SCALES: Final = st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.5, -0.4])
WEIGHTS: Final = st.sampled_from([1.0, 0.3, 2.0, 0.0, -0.5])
RANKED: Final = {
    "scope": st.sampled_from(["tensor", "model"]),
    "ties": st.sampled_from(["all", "exact"]),
}
#: The values that each parameter of each plug-in is given.
DRAWN: Final[dict[str, dict[str, st.SearchStrategy[Any]]]] = {
    "dare": {"density": DENSITIES, "rescale": st.booleans()},
    "trim": {"density": DENSITIES, **RANKED},
    "sparsify": {
        "density": DENSITIES,
        "by": st.sampled_from(["magnitude", "chance"]),
        "rescale": st.booleans(),
        "model": st.sampled_from([None, 0]),
    },
    "average": {},
    "task_arithmetic": {"scale": SCALES},
    "weighted_sum": {"scale": SCALES, "normalise": st.booleans()},
    "ties": {"density": DENSITIES, "scale": SCALES, **RANKED},
    "elect": {"scale": SCALES, "normalise": st.booleans()},
    "slerp": {
        "t": st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
        "zeros": st.sampled_from(["line", "circle"]),
    },
    "lines": {"first": SCALES, "last": SCALES},
    "della": {
        "density": st.sampled_from([0.3, 0.5, 0.8]),
        "epsilon": st.sampled_from([0.0, 0.1, 0.2]),
        "rescale": st.sampled_from(["probability", "norm", "none"]),
    },
    "breadcrumbs": {"density": DENSITIES, "outliers": st.sampled_from([0.0, 0.01, 0.2, 0.9])},
    "lore": {
        "mu": st.sampled_from([0.0, 0.01, 0.5, 3.0]),
        "relative": st.booleans(),
        "scale": SCALES,
        "iterations": st.sampled_from([1, 3]),
        "embeddings": st.booleans(),
    },
    "twin_svd": {
        "scale": SCALES,
        "density": st.sampled_from([0.0, 0.5, 0.8, 1.0]),
        "rank": st.sampled_from([None, 0, 1, 2]),
    },
    "sce": {"density": DENSITIES, "scale": SCALES},
    "model_stock": {},
    "nuslerp": {"along": st.sampled_from(["tensor", "row", "column"])},
    "sens": {
        "scale": SCALES,
        "temperature": st.sampled_from([0.5, 3.0]),
        "rescale_base": st.booleans(),
    },
    "sens_general": {
        "scale": SCALES,
        "temperature": st.sampled_from([0.5, 1.0]),
        "alignment": st.none(),
    },
    "fisher": {"floor": st.sampled_from([1e-6, 0.1]), "balance": st.booleans()},
    "regmean": {
        "off_diagonal": st.sampled_from([0.0, 0.5, 0.9, 1.0]),
        "ridge": st.sampled_from([1e-6, 0.1]),
    },
    "aim": {"omega": st.sampled_from([0.0, 0.2, 0.4, 1.0])},
    "acm": {"sharpness": st.sampled_from([0.7, 1.2, -1.8])},
    "fisher_layer": {"first": SCALES, "last": SCALES, "sharpness": st.sampled_from([0.5, 2.0])},
    "wudi": {
        "steps": st.sampled_from([0, 1, 3]),
        "rate": st.sampled_from([1e-5, 1e-4]),
        "scale": SCALES,
    },
}


def test_every_parameter_is_drawn() -> None:
    for registry in (METHODS, TRANSFORMS, ADJUSTMENTS):
        for plugin in registry.all():
            assert set(defaults(registry, plugin.name)) == set(DRAWN[plugin.name])


def some(draw: st.DrawFn, drawn: st.SearchStrategy[Any]) -> Any:
    """A value; where it is a number, sometimes one that varies by layer or by name."""
    value = draw(drawn)
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    kind = draw(st.sampled_from(["plain", "plain", "plain", "gradient", "globs"]))
    if kind == "gradient":
        return [value, *draw(st.lists(drawn, min_size=1, max_size=3))]
    if kind == "globs":
        return [{"match": "*.1.*", "value": draw(drawn)}, {"value": value}]
    return value


def some_of(draw: st.DrawFn, name: str, *, varying: bool = True) -> dict[str, Any]:
    """Some of a plug-in's parameters."""
    return {
        key: some(draw, drawn) if varying else draw(drawn)
        for key, drawn in DRAWN[name].items()
        if draw(st.booleans())
    }


@st.composite
def cases(draw: st.DrawFn, method: str) -> Case:
    based = METHODS.get(method).traits["base"] == "needed" or draw(st.booleans())
    least, most = METHODS.get(method).traits["models"]
    count = 2 if method == "slerp" else draw(st.integers(least, most or 3)) + based
    shapes = {f"model.layers.{i}.w": draw(SHAPES) for i in range(LAYERS)}
    shapes |= {"model.embed_tokens.weight": (5, 2), "model.norm.weight": draw(SHAPES)}
    held: list[dict[str, torch.Tensor]] = []
    for _ in range(count):
        types = draw(st.sampled_from([*TYPES, "mixed"]))
        held.append({})
        for name, shape in shapes.items():
            dtype = draw(st.sampled_from(sorted(TYPES))) if types == "mixed" else types
            values = draw(arrays.arrays(np.float32, shape, elements=VALUES))
            held[-1][name] = torch.from_numpy(np.asarray(values)).to(TYPES[dtype])
    weighted = METHODS.get(method).traits["weighted"]
    weights = [some(draw, WEIGHTS) if weighted else 1.0 for _ in range(count)]
    if method in {"fisher", "regmean"}:
        weights = [draw(st.sampled_from([1.0, 0.3, 2.0])) for _ in range(count)]
    if method == "average":
        names = list(shapes)
        assume(all(abs(sum(value_at(w, n) for w in weights[based:])) > 0.05 for n in names))
    steps = draw(st.lists(st.sampled_from(sorted(BEFORE)), max_size=2)) if based else []
    params = some_of(draw, method)
    if method == "wudi":
        # In 300 steps the signs of slopes that are rounding alone would add up.
        params.setdefault("steps", 2)
    if method == "sens_general" and draw(st.booleans()):
        params["alignment"] = [1.0 + i for i in range(count - based)]
    overrides: list[dict[str, Any]] = []
    if draw(st.booleans()) and DRAWN[method]:
        overrides.append({"match": "*.w", "params": some_of(draw, method, varying=False)})
        if draw(st.booleans()):
            overrides[0]["layers"] = [1, 2]
    adjust = st.sampled_from(sorted(AFTER))
    after = draw(st.lists(adjust, max_size=2, unique=True)) if based and draw(st.booleans()) else []
    recipe = {
        "method": method,
        "params": params,
        "before": [{name: some_of(draw, name)} for name in steps],
        "after": [{name: some_of(draw, name)} for name in after],
        "overrides": overrides,
        "dtype": draw(st.sampled_from([None, *sorted(TYPES)])),
    }
    return Case(held, based, weights, recipe, draw(st.integers(1, 20)), draw(st.integers(0, 9)))


def save(folder: Path, held: Mapping[str, torch.Tensor]) -> str:
    folder.mkdir()
    save_file(dict(held), folder / "model.safetensors")
    config = {k: v for k, v in CONFIG.items() if k != "vocab_size"}
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": LAYERS}))
    return str(folder)


def run(case: Case) -> dict[str, torch.Tensor]:
    """The same merge by the package, on real folders."""
    with tempfile.TemporaryDirectory() as parent:
        folders = [save(Path(parent) / f"m{i}", held) for i, held in enumerate(case.held)]
        named = [{"model": f, "weight": w} for f, w in zip(folders, case.weights, strict=True)][
            case.based :
        ]
        donors = {"models": named, "base": folders[0] if case.based else None}
        said = {**case.recipe, **donors, "system2": folders[-1], "seed": 3}
        recipe = Recipe(**write_stats(case, folders, said))
        means = Means(threads=2, block=case.block)
        merged = merge(recipe, Path(parent) / "out", means=means, shard_bytes=200)
        return {name: merged.read(name).clone() for name in merged.specs}


def rounded(values: Array, dtype: torch.dtype) -> Array:
    made: Array = torch.from_numpy(np.asarray(values)).float().to(dtype).double().numpy()
    return made


#: An example with a larger share of doubtful elements is drawn anew: equal entries beside one
#: threshold are all in doubt at once, and a few such examples would be the whole count.
DOUBTFUL: Final = 0.1
#: The most elements left out where it is not 1 %: rows that point nearly opposite ways have no
#: circle between them that float32 could tell.
LEFT_OUT: Final = {"nuslerp": 0.02}


@pytest.mark.parametrize("method", sorted(METHOD))
def test_a_merge_is_what_its_formulas_say(method: str) -> None:
    """Every stored number lies where one rounding can put it.

    A chain is at most a few dozen float32 operations, each wrong by at most 2**-24 of the largest
    number that the element's arithmetic meets (`Work.large`); 2**-19 of that is allowed. Rounding
    to the stored type never turns two numbers round, so the stored one must lie between the
    roundings of the two ends of that interval, whatever the type. Where a step is no continuous
    function (a vote that nearly ties, an entry beside a threshold that an earlier step has rounded,
    SLERP's switch to the straight line), the element is left out; few may be, and few examples may
    be in doubt as a whole.
    """
    seen = {"all": 0, "unsure": 0, "examples": 0, "doubtful": 0}

    @settings(max_examples=60)
    @given(cases(method))
    def check(case: Case) -> None:
        with np.errstate(over="ignore"):
            wanted = expected(case)
        assume(all(np.all(work.large < 6e4) for work in wanted.values()))
        unsure = np.concatenate([work.unsure.ravel() for work in wanted.values()])
        seen["examples"] += 1
        seen["doubtful"] += unsure.mean() > DOUBTFUL
        assume(unsure.mean() <= DOUBTFUL)
        found = run(case)
        assert set(found) == set(wanted)
        for name, work in wanted.items():
            assert tuple(found[name].shape) == work.base.shape
            dtype = (
                TYPES[case.recipe["dtype"]] if case.recipe["dtype"] else case.held[-1][name].dtype
            )
            assert found[name].dtype == dtype
            slack = SLACK * work.large + 1e-37
            lowest, highest = (rounded(work.base + s, dtype) for s in (-slack, slack))
            values = found[name].double().numpy()
            right = (lowest <= values) & (values <= highest) | work.unsure
            assert right.all(), (name, values[~right], work.base[~right], slack[~right])
        seen["all"] += unsure.size
        seen["unsure"] += int(unsure.sum())

    check()
    assert seen["all"] > 500
    assert seen["unsure"] <= LEFT_OUT.get(method, 0.01) * seen["all"], seen
    assert seen["doubtful"] <= seen["examples"] / 5, seen


def test_random_numbers_of_tensors_models_and_seeds_are_uniform_and_unrelated() -> None:
    """DARE's masks: 2**18 numbers a draw, each statistic within five of its standard errors."""
    n = 1 << 18
    draws = []
    for seed, name in ((0, "a"), (1, "a"), (0, "b")):
        group = TensorGroup(name, torch.zeros(n), torch.zeros(2, n), (1.0, 1.0), seed=seed)
        draws += [group.uniform(i).double().numpy() for i in range(2)]
    for u in draws:
        assert 0 <= u.min() < u.max() < 1
        counts = np.histogram(u, bins=256, range=(0, 1))[0]
        chi2 = ((counts - n / 256) ** 2 / (n / 256)).sum()
        assert abs(chi2 - 255) < 5 * math.sqrt(2 * 255)
        for lag in (1, 2, 64):
            assert abs(np.corrcoef(u[:-lag], u[lag:])[0, 1]) < 5 / math.sqrt(n)
        for density in (0.1, 0.5, 0.9):
            error = math.sqrt(density * (1 - density) / n)
            assert abs((u < density).mean() - density) < 5 * error
    for i, u in enumerate(draws):
        for v in draws[:i]:
            assert abs(np.corrcoef(u, v)[0, 1]) < 5 / math.sqrt(n)


@pytest.mark.parametrize("rescale", [True, False])
def test_dare_keeps_its_share_of_entries_and_their_sum(rescale: bool) -> None:
    """The kept share, and the mean of what is kept, within five standard errors."""
    n, density = 300_000, 0.7
    base = {"model.layers.0.w": torch.zeros(n)}
    model = {"model.layers.0.w": torch.linspace(0.5, 1.5, n)}
    step = {"dare": {"density": density, "rescale": rescale}}
    recipe: dict[str, Any] = {"method": "task_arithmetic", "params": {"scale": 1.0}}
    recipe |= {"before": [step], "after": [], "overrides": [], "dtype": None}
    case = Case([base, model], based=True, weights=[1.0, 1.0], recipe=recipe, block=1 << 16)
    for held in case.held:
        held |= {f"model.layers.{i}.w": torch.zeros(1) for i in (1, 2)}
    merged = run(case)["model.layers.0.w"].double().numpy()
    kept, error = merged != 0, math.sqrt(density * (1 - density) / n)
    assert abs(kept.mean() - density) < 5 * error
    factor = 1 / density if rescale else 1.0
    values = model["model.layers.0.w"].double().numpy()
    assert np.allclose(merged[kept], factor * values[kept], rtol=1e-6)
    spread = float(np.sqrt((values**2).mean()))
    assert abs(merged.mean() - factor * density * values.mean()) < 5 * factor * error * spread
