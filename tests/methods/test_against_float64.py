"""Methods against a naive float64 reading of their definitions, on whatever hypothesis invents."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from laconic.methods.contract.group import METHODS, TensorGroup
from laconic.methods.contract.ranking import kept

Array = NDArray[np.float64]
SHAPES = st.sampled_from([(1,), (5,), (4, 6), (2, 3, 4)])
VALUES = st.floats(-2, 2, width=32, allow_subnormal=False)


@st.composite
def groups(draw: st.DrawFn, models: tuple[int, int] = (1, 3)) -> TensorGroup:
    shape = draw(SHAPES)
    count = draw(st.integers(*models))
    held = draw(arrays.arrays(np.float32, (count + 1, *shape), elements=VALUES))
    weights = draw(st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0]), min_size=count, max_size=count))
    values = torch.from_numpy(held)
    return TensorGroup("x.0.weight", values[0], values[1:] - values[0], tuple(weights))


def run(name: str, group: TensorGroup, **params: Any) -> Array:
    plugin = METHODS.get(name)
    merged = plugin.function(group, **plugin.bind(params, where="test"))
    return np.asarray(merged, np.float64)


def parts(group: TensorGroup) -> tuple[Array, Array, Array]:
    weights = np.array(group.weights).reshape(-1, *[1] * group.base.ndim)
    return np.asarray(group.base, np.float64), np.asarray(group.vectors, np.float64), weights


def same(actual: Array, expected: Array) -> bool:
    return bool(np.allclose(actual, expected, rtol=1e-5, atol=1e-5))


@given(groups(), st.floats(-1, 2, width=32))
def test_task_arithmetic_is_its_formula(group: TensorGroup, scale: float) -> None:
    base, vectors, weights = parts(group)
    expected = base + scale * (weights * vectors).sum(0)
    assert same(run("task_arithmetic", group, scale=scale), expected)


@given(groups())
def test_average_is_its_formula(group: TensorGroup) -> None:
    base, vectors, weights = parts(group)
    assert same(run("average", group), ((base + vectors) * weights).sum(0) / weights.sum())


@given(groups(), st.sampled_from([0.1, 0.2, 0.5, 0.9, 1.0]), st.sampled_from([0.0, 0.5, 1.0]))
def test_ties_is_its_formula_element_by_element(
    group: TensorGroup, density: float, scale: float
) -> None:
    base, vectors, weights = parts(group)
    flat, expected = vectors.reshape(len(vectors), -1), base.flatten()
    limits = [np.sort(np.abs(v))[::-1][kept(v.size, density) - 1] for v in flat]
    for e in range(flat.shape[1]):
        held = [
            w * v[e] if abs(v[e]) >= limit else 0.0
            for v, w, limit in zip(flat, weights.flatten(), limits, strict=True)
        ]
        # The sum of the vote is taken in float32, as the merge does: near zero its sign is a draw.
        vote = float(torch.tensor(held, dtype=torch.float32).sum())
        agree = [h for h in held if (h > 0 if vote >= 0 else h < 0)]
        if agree:
            expected[e] += scale * sum(agree) / len(agree)
    assert same(run("ties", group, density=density, scale=scale), expected.reshape(base.shape))


@given(groups(models=(1, 1)), st.floats(0, 1, width=32))
def test_slerp_ends_at_its_ends_and_stays_between_their_norms(group: TensorGroup, t: float) -> None:
    base, vectors, _ = parts(group)
    assert same(run("slerp", group, t=0.0), base)
    assert same(run("slerp", group, t=1.0), base + vectors[0])
    a, b = np.linalg.norm(base), np.linalg.norm(base + vectors[0])
    assert np.linalg.norm(run("slerp", group, t=t)) <= a + b + 1e-5


@given(groups(models=(2, 3)), st.randoms(use_true_random=False))
def test_the_order_of_the_models_does_not_matter(group: TensorGroup, rng: Any) -> None:
    order = list(range(len(group.weights)))
    rng.shuffle(order)
    turned = TensorGroup(
        group.name, group.base, group.vectors[order], tuple(group.weights[i] for i in order)
    )
    for name in ("average", "task_arithmetic"):
        assert same(run(name, group), run(name, turned))


@given(groups())
def test_scale_zero_is_the_base_bit_for_bit(group: TensorGroup) -> None:
    for name in ("task_arithmetic", "ties"):
        assert np.array_equal(run(name, group, scale=0.0), np.asarray(group.base, np.float64))
