"""Each method against numbers worked out by hand (METHODS, section 17)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from laconic.errors import RecipeError
from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TRANSFORMS, TensorGroup
from laconic.methods.contract.traits import TensorContext

D1 = [0.5, -0.2, 0.1, -0.05, 0, 0.3, -0.4, 0.02, 0.15, -0.25]
D2 = [-0.6, -0.1, 0.2, 0, 0.05, 0.3, 0.4, -0.01, -0.15, 0.05]


def group(
    *vectors: Sequence[Any],
    base: Sequence[Any] | None = None,
    weights: Sequence[float] | None = None,
    **kwargs: Any,
) -> TensorGroup:
    held = torch.tensor(vectors, dtype=torch.float32)
    zero = torch.zeros(held.shape[1:])
    return TensorGroup(
        name="model.layers.0.mlp.up_proj.weight",
        base=zero if base is None else torch.tensor(base),
        vectors=held,
        weights=tuple(weights or [1.0] * len(vectors)),
        has_base=base is not None,
        **kwargs,
    )


def merged(name: str, g: TensorGroup, **params: Any) -> Tensor:
    plugin = METHODS.get(name)
    result: Tensor = plugin.function(g, **plugin.bind(params, where="test"))
    return result


def near(actual: Tensor, expected: Sequence[Any], tolerance: float = 1e-6) -> bool:
    wanted = torch.tensor(expected, dtype=torch.float32)
    return torch.allclose(actual, wanted, rtol=0, atol=tolerance)


def test_ties_with_one_vector_keeps_its_largest_entries() -> None:
    kept = [0.5, 0, 0, 0, 0, 0, -0.4, 0, 0, 0]
    assert near(merged("ties", group(D1), density=0.2), kept)


def test_density_keeps_what_the_papers_trim_ratio_of_0_8_keeps() -> None:
    # The script of Wu et al. keeps n - int(n k) + 1 entries: 3 of 10 at k = 0.8 (case G1).
    kept = [0.5, 0, 0, 0, 0, 0.3, -0.4, 0, 0, 0]
    assert near(merged("ties", group(D1), density=0.3), kept)


def test_ties_elects_signs_and_averages_what_agrees() -> None:
    # Case G2: a trim ratio of 0.5 keeps 6 of 10.
    expected = [-0.6, -0.15, 0.2, 0, 0, 0.3, 0.4, 0, 0.15, -0.25]
    assert near(merged("ties", group(D1, D2), density=0.6), expected)


def test_ties_keeps_every_entry_at_the_threshold() -> None:
    assert near(merged("ties", group([1.0, -1.0, 1.0, 0.5]), density=0.25), [1, -1, 1, 0])


def test_ties_keeps_at_least_one_entry_of_a_small_tensor() -> None:
    assert near(merged("ties", group([1.0, 2.0, 3.0]), density=0.2), [0, 0, 3])


def test_ties_of_zero_vectors_is_the_base() -> None:
    assert near(merged("ties", group([0.0, 0.0], base=[1.0, 2.0])), [1, 2])


def test_a_weight_in_ties_does_not_cancel() -> None:
    once = merged("ties", group(D1, weights=[0.7]), density=0.2)
    assert near(once, [0.35, 0, 0, 0, 0, 0, -0.28, 0, 0, 0])


def test_task_arithmetic_adds_the_scaled_sum() -> None:
    g = group([1.0, 2.0], [3.0, -1.0], base=[10.0, 20.0], weights=[1.0, 0.5])
    assert near(merged("task_arithmetic", g, scale=0.5), [10 + 0.5 * 2.5, 20 + 0.5 * 1.5])


def test_average_normalises_its_weights() -> None:
    assert near(merged("average", group([1.0, 0.0], [0.0, 1.0], weights=[3.0, 1.0])), [0.75, 0.25])


def test_average_of_base_and_model_is_task_arithmetic_at_a_half() -> None:
    g = group([0.0, 0.0], [2.0, -4.0], base=[1.0, 1.0])
    one = group([2.0, -4.0], base=[1.0, 1.0])
    assert torch.equal(merged("average", g), merged("task_arithmetic", one, scale=0.5))


def test_average_refuses_weights_that_sum_to_zero() -> None:
    with pytest.raises(RecipeError, match="sum to 0"):
        merged("average", group([1.0], [2.0], weights=[1.0, -1.0]))


def test_slerp_follows_the_great_circle() -> None:
    # Case G3: t = 0.3 between (1, 0, 0) and (0, 2, 0).
    g = group([1.0, 0, 0], [0, 2.0, 0])
    assert near(merged("slerp", g, t=0.3), [0.891007, 0.907981, 0])


def test_slerp_counts_the_base_as_its_first_end() -> None:
    g = group([-1.0, 2.0, 0], base=[1.0, 0, 0])
    assert near(merged("slerp", g, t=0.3), [0.891007, 0.907981, 0])


@pytest.mark.parametrize("other", [[1.0, 1e-4], [0.0, 0.0], [-1.0, 0.0]])
def test_slerp_goes_straight_between_parallel_and_zero_tensors(other: list[float]) -> None:
    expected = [0.75 + 0.25 * other[0], 0.25 * other[1]]
    assert near(merged("slerp", group([1.0, 0.0], other), t=0.25), expected)


@pytest.mark.parametrize("first", [[0.0, 0.0], [1e-9, 0.0]])
def test_slerp_from_zeros_on_the_circle_is_a_quarter_turn(first: list[float]) -> None:
    # mergekit's numbers: sin(0.3 pi / 2) = 0.4539905 of the other, where the line has 0.3.
    assert near(merged("slerp", group(first, [2.0, -4.0]), t=0.3), [0.6, -1.2])
    turned = merged("slerp", group(first, [2.0, -4.0]), t=0.3, zeros="circle")
    assert near(turned, [0.907981, -1.815962])
    assert near(merged("slerp", group([0.0], [0.0]), t=0.3, zeros="circle"), [0.0])


def test_slerp_of_small_tensors_follows_the_circle_as_large_ones_do() -> None:
    g = group([1e-5, 0, 0], [0, 2e-5, 0])
    assert near(merged("slerp", g, t=0.3) * 1e5, [0.891007, 0.907981, 0])


def test_dare_rescales_what_it_keeps_and_drops_the_rest() -> None:
    plugin = TRANSFORMS.get("dare")
    g = group([1.0] * 20_000)
    vectors = plugin.function(g, density=0.7, rescale=True).vectors
    share = float((vectors != 0).float().mean())
    # Four standard errors of a share of 0.7 among 20,000.
    assert share == pytest.approx(0.7, abs=0.013)
    assert sorted(set(vectors.flatten().tolist())) == pytest.approx([0.0, 1 / 0.7])


def test_dare_at_density_1_changes_nothing() -> None:
    g = group(D1)
    assert torch.equal(TRANSFORMS.get("dare").function(g, density=1.0).vectors, g.vectors)


def test_trim_then_average_is_ties_for_one_model() -> None:
    g = group(D1, base=[1.0] * 10)
    trimmed = TRANSFORMS.get("trim").function(g, density=0.3)
    assert torch.equal(merged("average", trimmed), merged("ties", g, density=0.3))


def test_lines_scales_with_depth() -> None:
    base, moved = [1.0], torch.tensor([3.0])
    lines = ADJUSTMENTS.get("lines").function
    depths = [
        float(lines(group([2.0], base=base, layer=layer, layers=3), moved, first=0.0, last=1.0))
        for layer in range(3)
    ]
    assert depths == [1.0, 2.0, 3.0]


def test_random_numbers_depend_on_seed_name_model_and_element_only() -> None:
    g = group([0.0] * 1000, [0.0] * 1000)
    other = TensorGroup("x", g.base, g.vectors, g.weights)
    again = group([0.0] * 1000, [0.0] * 1000)
    assert torch.equal(g.uniform(0), again.uniform(0))
    assert not torch.equal(g.uniform(0), g.uniform(1))
    assert not torch.equal(g.uniform(0), other.uniform(0))
    assert not torch.equal(g.uniform(0), group([0.0] * 1000, seed=1).uniform(0))


def test_random_numbers_are_uniform() -> None:
    numbers = group([0.0] * 100_000).uniform(0)
    assert 0 <= float(numbers.min()) < 1e-3
    assert 1 - 1e-3 < float(numbers.max()) < 1
    counts = torch.histc(numbers, 20, 0, 1)
    # Chi-squared with 19 degrees of freedom: 43.8 is passed once in 1,000.
    assert float(((counts - 5000) ** 2 / 5000).sum()) < 43.8
    neighbours = torch.corrcoef(torch.stack([numbers[1:], numbers[:-1]]))[0, 1]
    assert abs(float(neighbours)) < 4 / 100_000**0.5


def test_random_numbers_of_models_seeds_and_distances_are_independent() -> None:
    z = torch.stack([(group([0.0] * 65_536, seed=s).uniform(0) - 0.5) * 12**0.5 for s in range(60)])
    between = (z @ z.T / 256)[*torch.triu_indices(60, 60, offset=1)]
    assert 0.9 < float(between.std()) < 1.1
    assert float(between.abs().max()) < 5
    for distance in (1, 2, 3, 8, 64, 512, 4096):
        along = (z[:, distance:] * z[:, :-distance]).mean(dim=1) * (65_536 - distance) ** 0.5
        assert 0.7 < float(along.std()) < 1.35
        assert abs(float(along.mean())) < 4 / 60**0.5


def test_elect_sums_what_agrees_and_divides_by_its_weights() -> None:
    g = group([1.0, -2.0, 0.0], [3.0, 1.0, 0.0], base=[10.0] * 3, weights=[0.5, 0.25])
    assert near(merged("elect", g), [11.25, 9, 10])
    assert near(merged("elect", g, normalise=True, scale=2.0), [10 + 2 * 1.25 / 0.75, 6, 10])


def test_elect_of_one_model_normalised_loses_its_weight() -> None:
    g = group([1.0, -2.0], base=[0.0, 0.0], weights=[-0.3])
    assert near(merged("elect", g, normalise=True), [1, -2])


def test_elect_divides_by_nothing_where_the_weights_that_agree_cancel() -> None:
    assert near(merged("elect", group([1.0], [-1.0], weights=[1, -1]), normalise=True), [2])


def test_weighted_sum_divides_only_if_asked() -> None:
    g = group([1.0], [3.0], base=[10.0], weights=[0.5, 1.5])
    assert near(merged("weighted_sum", g, scale=0.5), [12.5])
    assert near(merged("weighted_sum", g, normalise=True), [12.5])
    still = group([1.0], [3.0], base=[10.0], weights=[1.0, -1.0])
    assert near(merged("weighted_sum", still, normalise=True), [8])


def sparsified(g: TensorGroup, **params: Any) -> Tensor:
    plugin = TRANSFORMS.get("sparsify")
    vectors: Tensor = plugin.function(g, **plugin.bind(params, where="test")).vectors
    return vectors


def test_sparsify_keeps_as_many_as_density_says_the_first_of_equals() -> None:
    g = group([1.0, -2.0, 2.0, 2.0, 0.5], [5.0, 4.0, 3.0, 2.0, 1.0])
    vectors = sparsified(g, density=0.4)
    assert vectors.tolist() == [[0, -2, 2, 0, 0], [5, 4, 0, 0, 0]]
    assert sparsified(g, density=0.4, model=1)[0].tolist() == g.vectors[0].tolist()


@pytest.mark.parametrize("by", ["magnitude", "chance"])
def test_sparsify_with_rescale_keeps_the_sum_of_magnitudes(by: str) -> None:
    g = group(D1, D2)
    vectors = sparsified(g, density=0.5, by=by, rescale=True)
    assert near(vectors.abs().sum(1), g.vectors.abs().sum(1).tolist(), 1e-5)
    assert 0 < int((vectors == 0).sum()) < vectors.numel()


def test_sparsify_by_chance_keeps_what_dare_keeps() -> None:
    g = group(D1, D2)
    dare = TRANSFORMS.get("dare").function(g, density=0.6, rescale=False).vectors
    assert torch.equal(sparsified(g, density=0.6, by="chance"), dare)
    assert not sparsified(g, density=0.0, by="chance").any()


def test_sparsify_refuses_a_model_that_is_not_there() -> None:
    check = TRANSFORMS.get("sparsify").traits.check
    assert check({"model": 1}, TensorContext((1.0, 1.0), True)) == ""
    with pytest.raises(RecipeError, match="no model 2"):
        check({"model": 2}, TensorContext((1.0, 1.0), True))
