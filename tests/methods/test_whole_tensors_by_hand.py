"""Methods that see whole tensors, against numbers worked out by hand (METHODS, section 17)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from laconic.errors import RecipeError
from laconic.merging.describe import describe_step
from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS, TensorGroup
from laconic.methods.contract.low_rank import soften, truncate
from laconic.methods.contract.ranking import Trim, limit_of, within
from laconic.methods.contract.traits import TensorContext
from laconic.methods.della import probabilities
from laconic.methods.wudi import pull
from tests.methods.test_by_hand import D1, D2, group, merged, near

HEAD = "lm_head.weight"


def matrices(*values: Any, **kwargs: Any) -> TensorGroup:
    """Task vectors over a base of zeros, in a layer."""
    shape = torch.tensor(values[0]).shape
    return group(*values, base=torch.zeros(shape).tolist(), **{"layer": 0, **kwargs})


def transformed(name: str, g: TensorGroup, **params: Any) -> Tensor:
    plugin = TRANSFORMS.get(name)
    vectors: Tensor = plugin.function(g, **plugin.bind(params, where="test")).vectors
    return vectors


def close(actual: Tensor, expected: Any, tolerance: float = 1e-6) -> bool:
    wanted = torch.tensor(expected, dtype=torch.float32)
    return torch.allclose(actual, wanted, rtol=0, atol=tolerance)


def diag(*values: float) -> list[list[float]]:
    rows: list[list[float]] = torch.diag(torch.tensor(values)).tolist()
    return rows


def test_shrinking_takes_mu_from_each_singular_value() -> None:
    # Case G6.
    g = matrices([[3.0, 0], [0, 1], [0, 0]])
    assert close(merged("lore", g, mu=0.5), [[2.5, 0], [0, 0.5], [0, 0]])


@pytest.mark.parametrize("iterations", [1, 20])
@pytest.mark.parametrize(
    ("weights", "expected"),
    [((1.0, 1.0), (0.0, 0.3)), ((1.0, 0.0), (0.9, 0.4)), ((0.0, 1.0), (-0.9, 0.2))],
)
def test_lore_of_two_models_shrinks_half_their_difference(
    weights: tuple[float, ...], expected: tuple[float, ...], iterations: int
) -> None:
    # Case G7: the estimated base is diag(0, 0.3), the vectors are diag(0.9, 0.1) and its negative.
    g = group(diag(1, 0.5), diag(-1, 0.1), weights=weights, layer=0)
    assert close(merged("lore", g, mu=0.1, iterations=iterations), diag(*expected))


def test_lore_of_three_models_meets_its_own_fixed_point() -> None:
    draw = torch.Generator().manual_seed(1)
    models = torch.randn(3, 4, 5, generator=draw)
    g = TensorGroup("w", torch.zeros(4, 5), models, (1.0, 0.0, 0.0), layer=0, has_base=False)
    one, base = (merged("lore", g, mu=0.7, scale=s, iterations=500) for s in (1.0, 0.0))
    vectors = torch.stack([soften(model - base, 0.7) for model in models])
    assert close(one, (base + vectors[0]).tolist(), 1e-4)
    assert close(base, (models - vectors).mean(0).tolist(), 1e-4)
    assert not close(base, models.mean(0).tolist(), 1e-2)


def test_lore_with_a_relative_mu_shrinks_by_a_share_of_the_largest() -> None:
    g = matrices([[3.0, 0], [0, 1.0]], weights=[0.5])
    assert close(merged("lore", g, mu=0.5, relative=True, scale=2.0), [[1.5, 0], [0, 0]])


def test_lore_leaves_vectors_and_what_is_outside_the_layers_unshrunk() -> None:
    assert close(merged("lore", group([3.0, -1.0], base=[1.0, 1.0], layer=0), mu=9.0), [4, 0])
    head = matrices([[3.0, 0], [0, 1.0]], layer=None)
    assert close(merged("lore", head, mu=0.5), [[3, 0], [0, 1]])
    assert close(merged("lore", head, mu=0.5, embeddings=True), [[2.5, 0], [0, 0.5]])


def test_twin_svd_keeps_the_largest_singular_triplets() -> None:
    # Case G8.
    g = matrices([[2.0, 1], [1, 2], [0, 1]])
    expected = [[1.372104, 1.554295], [1.430261, 1.620174], [0.496139, 0.562017]]
    assert close(merged("twin_svd", g, scale=0.0, rank=1), expected, 1e-6)
    assert close(merged("twin_svd", g, scale=0.0, density=0.5), expected, 1e-6)


def test_twin_svd_of_one_model_is_task_arithmetic_and_a_refill() -> None:
    draw = torch.Generator().manual_seed(0)
    base, vector = torch.randn(2, 6, 9, generator=draw)
    g = TensorGroup("w", base, vector[None], (0.8,), layer=0)
    u, s, v = torch.linalg.svd(vector, full_matrices=False)
    refill = (u[:, :2] * s[:2]) @ v[:2]
    expected = base + 0.3 * vector + 0.8 * 0.7 * refill
    assert torch.allclose(merged("twin_svd", g, scale=0.3, rank=2), expected, atol=1e-6)
    full = merged("twin_svd", g, scale=0.3, density=1.0)
    assert torch.allclose(full, base + (0.3 + 0.8 * 0.7) * vector, atol=1e-6)
    assert torch.allclose(merged("twin_svd", g, scale=0.3, density=0.0), base + 0.3 * vector)


def test_twin_svd_takes_a_vector_as_it_is() -> None:
    g = group([2.0, -4.0], base=[1.0, 1.0])
    assert close(merged("twin_svd", g, scale=0.3, density=0.1), [3, -3])


def test_della_keeps_with_probabilities_that_grow_with_rank() -> None:
    # Case G9.
    row = torch.tensor([0.1, -0.5, 0.3, 0.2])
    expected = [0.3, 0.7, 0.566667, 0.433333]
    assert near(probabilities(row, 0.5, 0.2), expected)
    assert close(probabilities(torch.stack([row, row.flip(0)]), 0.5, 0.2)[1], expected[::-1])
    assert near(probabilities(torch.tensor([[2.0], [0.0]]), 0.5, 0.2).flatten(), [0.5, 0.5])
    assert float(probabilities(torch.tensor(3.0), 0.5, 0.2)) == 0.5


def test_della_keeps_and_rescales_so_that_expectations_stay() -> None:
    g = matrices([[1.0, 2.0, 3.0]] * 20_000)
    vectors = transformed("della", g, density=0.5, epsilon=0.2)[0]
    kept = (vectors != 0).float().mean(0)
    # Four standard errors of a share among 20,000.
    assert near(kept, [0.3, 0.5, 0.7], 0.015)
    assert near(vectors.mean(0), [1, 2, 3], 0.1)
    assert set(vectors[:, 1].tolist()) == {0.0, 4.0}
    plain = transformed("della", g, density=0.5, epsilon=0.2, rescale="none")[0]
    assert torch.equal(plain != 0, vectors != 0)
    assert set(plain[:, 2].tolist()) == {0.0, 3.0}
    norm = transformed("della", g, density=0.5, epsilon=0.2, rescale="norm")[0]
    assert float(norm.abs().double().sum()) == pytest.approx(120_000, rel=1e-6)


def test_breadcrumbs_keeps_the_middle() -> None:
    # Case G10.
    expected = [0, -0.2, 0, 0, 0, 0.3, -0.4, 0, 0.15, -0.25]
    assert near(transformed("breadcrumbs", group(D1), density=0.5, outliers=0.1)[0], expected)


def test_breadcrumbs_never_empties_a_small_tensor() -> None:
    few = group([3.0, 1.0, 2.0])
    assert near(transformed("breadcrumbs", few, density=0.34, outliers=0.01)[0], [3, 0, 0])
    assert near(transformed("breadcrumbs", few, density=0.9, outliers=0.9)[0], [0, 1, 2])
    assert near(transformed("breadcrumbs", few, density=1.0, outliers=0.9)[0], [3, 1, 2])


def test_sce_weighs_by_energy_and_erases_the_minority() -> None:
    # Case G11: the weights are 0.481252 and 0.518748.
    expected = [-0.6, -0.148125, 0.151875, -0.05, 0.05, 0.3, 0.4, 0.02, 0.15, -0.25]
    assert near(merged("sce", group(D1, D2, base=[0.0] * 10)), expected)


def test_sce_selects_what_varies_most_among_what_varies() -> None:
    g = group([1.0, 5.0, 2.0, 0.0], [3.0, 5.0, 2.5, 1.0], base=[0.0] * 4)
    # Variances 1, 0, 1/16, 1/4: of three that differ two thirds stay.
    energy = [(1 + 0) / 4, (9 + 1) / 4]
    first, second = (e / sum(energy) for e in energy)
    expected = [first * 1 + second * 3, 0, 0, 1]
    assert near(merged("sce", g, density=0.67), expected)
    assert near(merged("sce", g, density=0.67, scale=0.5), [e / 2 for e in expected])


def test_sce_weighs_small_vectors_as_large_ones() -> None:
    g = group([1e-4, 0.0], [3e-4, 0.0], base=[0.0] * 2)
    assert near(merged("sce", g), [0.1 * 1e-4 + 0.9 * 3e-4, 0], 1e-9)
    still = group([0.0, 0.0], [0.0, 0.0], base=[1.0, 2.0])
    assert near(merged("sce", still), [1, 2])


def test_model_stock_goes_as_far_as_the_models_agree() -> None:
    # Case G17: t = 0.75.
    g = group([1.0, 0.0], [0.6, 0.8], base=[0.0, 0.0])
    assert near(merged("model_stock", g), [0.6, 0.3])
    assert near(merged("model_stock", group([2.0], [4.0], base=[1.0])), [4])


def test_model_stock_of_vectors_that_disagree_or_vanish_is_the_base() -> None:
    assert near(merged("model_stock", group([1.0, 0], [-0.6, 0.8], base=[5.0, 5])), [5, 5])
    assert near(merged("model_stock", group([1.0, 0], [0.0, 0.0], base=[5.0, 5])), [5, 5])


def test_wudi_starts_from_the_interference_of_the_sum() -> None:
    # Case G14: the interference at the summed vectors.
    vectors = torch.tensor([diag(1, 2), [[0.0, 1], [1, 0]]])
    total = vectors.sum(0)
    losses = [(pull(total - v, v) * (total - v)).sum() for v in vectors]
    assert float(sum(losses)) == pytest.approx(3.5)


def test_wudi_is_adam_on_the_interference() -> None:
    draw = torch.Generator().manual_seed(0)
    for shape in ((4, 6), (6, 4), (2, 3, 4)):
        vectors = torch.randn(2, *shape, generator=draw)
        expected = vectors.sum(0).requires_grad_()
        adam = torch.optim.Adam([expected], lr=0.01)
        for _ in range(40):
            rests = [((expected - v) @ v.mT).square().sum((-2, -1)) for v in vectors]
            norms = [v.square().sum((-2, -1)) for v in vectors]
            loss = torch.stack([r / n for r, n in zip(rests, norms, strict=True)]).sum()
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
            adam.step()
        g = TensorGroup("w", torch.zeros(shape), vectors, (1.0, 1.0), layer=0)
        found = merged("wudi", g, steps=40, rate=0.01)
        assert torch.allclose(found, expected.detach(), atol=2e-5)
        assert not torch.allclose(found, vectors.sum(0), atol=0.1)


def test_wudi_takes_the_mean_of_what_is_no_matrix_of_a_layer() -> None:
    assert near(merged("wudi", group([1.0, 2], [3.0, 6], base=[1.0, 1], layer=0)), [3, 5])
    head = matrices(diag(1, 1), diag(3, 3), layer=None)
    assert close(merged("wudi", head, scale=0.5), diag(1, 1))


def test_wudi_of_one_model_or_of_no_vector_stays_where_it_starts() -> None:
    assert close(merged("wudi", matrices(diag(1, 2))), diag(1, 2))
    assert close(merged("wudi", matrices(diag(0, 0), diag(0, 0))), diag(0, 0))


def test_nuslerp_goes_by_the_weights_along_the_great_circle() -> None:
    # Case G3 by weights: t = 0.3.
    g = group([1.0, 0, 0], [0, 2.0, 0], weights=[0.7, 0.3])
    assert near(merged("nuslerp", g), [0.891007, 0.907981, 0])
    over = group([1.0, 0, 0], [0, 2.0, 0], weights=[7, 3], base=[1.0, 1, 1])
    assert near(merged("nuslerp", over), [1.891007, 1.907981, 1])


def test_nuslerp_along_rows_and_columns_gives_each_its_own_angle() -> None:
    one, two = [[1.0, 0, 0], [1.0, 1, 1]], [[0.0, 2, 0], [2.0, 2, 2]]
    rows = merged("nuslerp", group(one, two, weights=[0.7, 0.3]), along="row")
    assert close(rows, [[0.891007, 0.907981, 0], [1.3, 1.3, 1.3]])
    turned = [torch.tensor(m).mT.tolist() for m in (one, two)]
    columns = merged("nuslerp", group(*turned, weights=[0.7, 0.3]), along="column")
    assert torch.equal(columns, rows.mT)
    vectors = group([1.0, 0, 0], [0, 2.0, 0], weights=[0.7, 0.3])
    assert torch.equal(merged("nuslerp", vectors, along="column"), merged("nuslerp", vectors))


@pytest.mark.parametrize("other", [[2.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
def test_nuslerp_goes_straight_between_parallel_opposite_and_zero_tensors(
    other: Sequence[float],
) -> None:
    g = group([1.0, 0.0], other, weights=[3.0, 1.0])
    assert near(merged("nuslerp", g), [0.75 + 0.25 * other[0], 0])
    halfway = group([1.0, 0.0], other, weights=[1.0, -1.0])
    assert near(merged("nuslerp", halfway), [0.5 + 0.5 * other[0], 0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none here")
@pytest.mark.parametrize("name", ["lore", "twin_svd", "sce", "model_stock", "nuslerp", "wudi"])
@pytest.mark.parametrize("step", [None, "della", "breadcrumbs"])
def test_a_gpu_gives_what_the_cpu_gives_nearly(name: str, step: str | None) -> None:
    draw = torch.Generator().manual_seed(0)
    base, *vectors = torch.randn(3, 80, 120, generator=draw)
    results = []
    for device in ("cpu", "cuda"):
        held = torch.stack(vectors).to(device)
        g = TensorGroup("w", base.to(device), held, (1.0, 0.5), layer=0)
        g = TRANSFORMS.get(step).function(g) if step else g
        found = merged(name, g)
        assert found.device.type == device
        results.append(found.cpu())
    assert torch.allclose(results[0], results[1], rtol=0, atol=1e-3)


def test_lines_is_its_formula_for_every_layer() -> None:
    # alpha + beta (l - 1) / (L - 1), l from 1.
    lines = ADJUSTMENTS.get("lines").function
    alpha, beta, layers = 0.4, 0.9, 7
    for layer in range(layers):
        g = group([2.0], base=[1.0], layer=layer, layers=layers)
        found = float(lines(g, torch.tensor([3.0]), first=alpha, last=alpha + beta))
        assert found == pytest.approx(1 + 2 * (alpha + beta * layer / (layers - 1)))


def singular(values: Tensor, rows: int, columns: int) -> Tensor:
    """A random matrix of these singular values."""
    draw = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(rows, len(values), generator=draw)).Q
    v = torch.linalg.qr(torch.randn(columns, len(values), generator=draw)).Q
    matrix: Tensor = (u * values) @ v.mT
    return matrix


def uniform(rows: int, columns: int) -> Tensor:
    g = TensorGroup("w", torch.zeros(1), torch.zeros(1, 1), (1.0,))
    return g.uniform(0, (rows, columns)) - 0.5


@pytest.mark.parametrize("shape", [(160, 300), (300, 160)])
@pytest.mark.parametrize("kind", ["flat", "steep", "noise"])
def test_a_sketch_is_within_two_percent_of_the_best_of_its_rank(
    shape: tuple[int, int], kind: str
) -> None:
    values = {"flat": torch.ones(160), "steep": torch.logspace(0, -3, 160)}
    draw = torch.Generator().manual_seed(1)
    matrix = (
        torch.randn(*shape, generator=draw) if kind == "noise" else singular(values[kind], *shape)
    )
    rank = 16
    best = float(torch.linalg.svdvals(matrix)[rank:].square().sum()) ** 0.5
    found = truncate(matrix, rank, uniform)
    assert float((matrix - found).norm()) <= 1.02 * best
    assert int(torch.linalg.matrix_rank(found, rtol=1e-4)) == rank
    assert torch.equal(found, truncate(matrix, rank, uniform))


def test_a_rank_too_large_for_a_sketch_is_found_exactly() -> None:
    matrix = torch.randn(3, 20, 30, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    best = (u[..., :12] * s[:, None, :12]) @ v[:, :12]
    assert torch.allclose(truncate(matrix, 12, uniform), best, atol=1e-5)
    assert torch.equal(truncate(matrix, 20, uniform), matrix)
    assert not truncate(matrix, 0, uniform).any()


def test_shrinking_keeps_small_singular_values_exact() -> None:
    values = torch.tensor([5.0, 1.0, 1e-3, 1e-4])
    found = soften(singular(values, 6, 9), 5e-4)
    expected = singular((values - 5e-4).clamp(min=0), 6, 9)
    assert torch.allclose(found, expected, atol=2e-6)
    assert not soften(found, 100.0).any()
    assert not soften(torch.zeros(3, 4), 0.1).any()
    assert soften(torch.zeros(0, 4), 0.1).shape == (0, 4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_matrix_that_is_not_finite_has_no_approximation(bad: float) -> None:
    matrix = torch.ones(40, 50)
    matrix[3, 4] = bad
    assert truncate(matrix, 2, uniform).isnan().all()
    assert soften(matrix, 0.1).isnan().all()


def test_a_sketch_that_overflows_is_no_crash() -> None:
    matrix = torch.full((50, 60), 3e38)
    assert not truncate(matrix, 2, uniform).isfinite().all()


@pytest.mark.parametrize(
    ("trim", "expected"),
    [
        (Trim(number=2, ties="exact"), [[False, True], [True, False]]),
        (Trim(number=2), [[False, True], [True, True]]),
        (Trim(number=4, ties="exact"), [[True, True], [True, True]]),
        (Trim(number=0, ties="exact"), [[False, False], [False, False]]),
        (Trim(0.5, ties="exact"), [[False, True], [True, False]]),
        (Trim(0.4, ties="exact", nonzero=True), [[False, True], [False, False]]),
        (Trim(0.3, ties="exact", nonzero=True), [[False, False], [False, False]]),
    ],
)
def test_a_trim_keeps_as_many_as_it_says(trim: Trim, expected: list[list[bool]]) -> None:
    sizes = torch.tensor([[0.0, 2.0], [2.0, 2.0]])
    assert within(sizes, limit_of(sizes, trim)).tolist() == expected


def test_random_numbers_of_another_shape_are_the_same_stream() -> None:
    g = TensorGroup("w", torch.zeros(4, 5), torch.zeros(1, 4, 5), (1.0,), seed=7)
    assert torch.equal(g.uniform(0, (2, 3)).flatten(), g.uniform(0).flatten()[:6])


def test_random_numbers_do_not_depend_on_how_many_are_drawn_at_a_time() -> None:
    n = (1 << 20) + 3
    whole = TensorGroup("w", torch.zeros(n), torch.zeros(1, n), (1.0,))
    tail = TensorGroup("w", torch.zeros(5), torch.zeros(1, 5), (1.0,), offset=n - 5)
    assert torch.equal(whole.uniform(0)[-5:], tail.uniform(0))


def said(name: str, weights: tuple[float, ...], based: bool = True, **params: Any) -> str:
    plugin = METHODS.get(name)
    check = plugin.traits.check
    text: str = check(plugin.bind(params, where="test"), TensorContext(weights, based))
    return text


def test_methods_say_what_one_model_leaves_of_them() -> None:
    assert "gives back the base" in said("sce", (1.0,), density=0.5)
    assert "is task_arithmetic" in said("sce", (1.0,))
    assert "is task_arithmetic" in said("wudi", (1.0,))
    assert "gives that model back" in said("lore", (1.0,), based=False)
    assert "their mean" in said("lore", (1.0, 1.0), based=False)
    assert "their mean" in said("lore", (0.25,) * 4, based=False)


def test_methods_say_nothing_where_they_are_themselves() -> None:
    assert said("sce", (1.0, 1.0), density=0.5) == said("wudi", (1.0, 1.0)) == ""
    assert said("lore", (1.0,)) == said("lore", (1.0, 0.5), based=False) == ""
    assert said("lore", (1.0,) * 4, based=False) == ""


@pytest.mark.parametrize(("density", "epsilon"), [(0.9, 0.15), (0.1, 0.15), (0.15, 0.15)])
def test_della_refuses_probabilities_beyond_0_and_1(density: float, epsilon: float) -> None:
    check = TRANSFORMS.get("della").traits.check
    with pytest.raises(RecipeError, match="must lie in"):
        check({"density": density, "epsilon": epsilon}, TensorContext((1.0,), True))
    assert check({"density": 0.85, "epsilon": 0.15}, TensorContext((1.0,), True)) == ""


def test_needs_and_cost_are_said_in_sentences() -> None:
    assert describe_step(METHODS.get("slerp"))[0].startswith(
        "Takes exactly 2 checkpoints, base included"
    )
    assert describe_step(METHODS.get("model_stock"))[0].startswith(
        "Takes at least 2 models and a base"
    )
    assert describe_step(METHODS.get("nuslerp"))[0].startswith(
        "Takes exactly 2 models, with a base or"
    )
    assert describe_step(METHODS.get("ties"))[1].endswith("after passes to find thresholds.")
    assert describe_step(METHODS.get("sce"))[1].endswith(
        "find thresholds and sums over the tensor."
    )
    assert describe_step(METHODS.get("twin_svd"))[2].startswith("Costs one truncated SVD")
    assert describe_step(METHODS.get("lore"))[1] == "Takes whole tensors, one at a time."
