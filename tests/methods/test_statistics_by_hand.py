"""Steps that read calibration statistics, against numbers worked out by hand (METHODS, 17)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from laconic.errors import CalibrationError, RecipeError
from laconic.methods.acm import coefficient, part_of
from laconic.methods.contract.group import ADJUSTMENTS, METHODS, TensorGroup
from laconic.methods.contract.step_statistics import StepStatistics
from laconic.methods.contract.traits import Stats, TensorContext
from laconic.methods.fisher_layer import by_layer, scores
from tests.methods.test_by_hand import group, merged, near

if TYPE_CHECKING:
    from laconic.checkpoints.layout import Role

NAME = "model.layers.0.mlp.up_proj.weight"
OTHER = "model.layers.1.mlp.up_proj.weight"


def stats(kind: str, *models: Mapping[str, Any]) -> Stats:
    held = [{n: torch.tensor(v) for n, v in m.items()} for m in models]
    return {kind: tuple(StepStatistics(one, dict.fromkeys(one, 1)) for one in held)}


def adjusted(name: str, g: TensorGroup, result: Tensor, **params: Any) -> Tensor:
    plugin = ADJUSTMENTS.get(name)
    made: Tensor = plugin.function(g, result, **plugin.bind(params, where="test"))
    return made


def checked(registry: Any, name: str, setting: TensorContext, **params: Any) -> str:
    plugin = registry.get(name)
    said: str = plugin.traits.check(plugin.bind(params, where="test"), setting)
    return said


W0 = [[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]]
MOVED = [[0.2, -0.4, 0.6], [1.0, 1.0, 1.0]]


def test_aim_relaxes_the_columns_that_active_channels_read() -> None:
    # Case G4.
    g = group(MOVED, base=W0)
    g = replace(g, stats=stats("activations", {NAME: [2.0, 1.0, 4.0]}))
    made = adjusted("aim", g, g.base + g.vectors[0], omega=0.4)
    assert near(made, [[1.14, 1.66, 3.24], [0.7, -0.15, 1.4]])


def test_aim_of_a_block_is_the_block_of_aim() -> None:
    g = group(MOVED, base=W0, layer=0)
    g = replace(g, stats=stats("activations", {NAME: [2.0, 1.0, 4.0]}))
    whole = adjusted("aim", g, g.base + g.vectors[0]).flatten()
    part = replace(g, base=g.base.flatten()[1:5], vectors=g.vectors.flatten(1)[:, 1:5], offset=1)
    assert torch.equal(adjusted("aim", part, part.base + part.vectors[0]), whole[1:5])


def test_aim_scales_a_norm_entry_by_entry() -> None:
    g = group([1.0, 1.0], base=[0.0, 0.0])
    g = replace(g, stats=stats("activations", {NAME: [1.0, 0.0]}))
    assert near(adjusted("aim", g, g.vectors[0], omega=0.25), [0.25, 1.0])


@pytest.mark.parametrize("held", [{}, {NAME: [0.0, 0.0]}])
def test_aim_leaves_what_was_never_used_as_merged(held: dict[str, Any]) -> None:
    g = replace(group([1.0, 2.0], base=[5.0, 5.0]), stats=stats("activations", held))
    assert near(adjusted("aim", g, g.base + g.vectors[0], omega=0.0), [6.0, 7.0])


@pytest.mark.parametrize(
    ("name", "role", "said"),
    [
        ("model.layers.0.mlp.experts.3.up_proj.weight", "", "never saw used"),
        ("embed_out.weight", "head", "never saw used"),
        ("model.layers.0.self_attn.q_proj.bias", "", ""),
        ("transformer.wte.weight", "embedding", ""),
    ],
)
def test_aim_tells_of_weights_without_activations(name: str, role: Role, said: str) -> None:
    setting = TensorContext((1.0,), True, name, (4, 4), stats("activations", {}), role=role)
    assert (said in checked(ADJUSTMENTS, "aim", setting)) if said else True
    assert bool(checked(ADJUSTMENTS, "aim", setting)) == bool(said)


def test_aim_refuses_statistics_without_a_dense_weight() -> None:
    setting = TensorContext((1.0,), True, NAME, (4, 4), stats("activations", {}))
    with pytest.raises(CalibrationError, match=f"hold nothing of '{NAME}'"):
        checked(ADJUSTMENTS, "aim", setting)


SENSITIVE = stats("sensitivity", {NAME: 0.6, OTHER: 0.8}, {NAME: 0.8, OTHER: 0.6})


def test_sens_weighs_base_and_vector_by_their_sensitivity() -> None:
    # Case G5: coefficients (.905285, .95503) and (1.094715, 1.04497).
    g = group([0.5], base=[1.0], layer=0, stats=SENSITIVE)
    params = {"scale": 0.7, "temperature": 2.0}
    assert near(merged("sens", g, **params), [1.288435])
    fixed = merged("sens", g, **params, rescale_base=False)
    assert near(fixed, [1 + 1.094715 * 0.35])
    second = replace(g, layer=1)
    assert near(merged("sens", second, **params), [0.95503 + 1.04497 * 0.35])


def test_sens_outside_of_the_layers_is_task_arithmetic() -> None:
    g = group([0.5], base=[1.0], stats=SENSITIVE)
    assert near(merged("sens", g, scale=0.4), [1.2])


def test_sens_of_no_sensitivity_is_task_arithmetic() -> None:
    zero = stats("sensitivity", {NAME: 0.0}, {NAME: 0.0})
    g = group([0.5], base=[1.0], layer=0, stats=zero)
    assert near(merged("sens", g, scale=0.4), [1.2])
    assert "task_arithmetic" in checked(
        METHODS, "sens", TensorContext((1.0,), True, NAME, (1,), zero)
    )


@pytest.mark.parametrize("name", ["sens", "sens_general"])
def test_sensitivities_of_another_number_of_layers_are_refused(name: str) -> None:
    short = StepStatistics({NAME: torch.tensor(1.0)}, {NAME: 1, OTHER: 1})
    setting = TensorContext((1.0,), True, NAME, (1,), {"sensitivity": (short, short)})
    with pytest.raises(CalibrationError, match="are of 1 layers, and the checkpoint has 2"):
        checked(METHODS, name, setting)


def test_sens_general_gives_the_more_sensitive_model_the_larger_share() -> None:
    g = group([1.0], [0.0], base=[0.0], layer=0, stats=SENSITIVE)
    share = 1 / (1 + math.exp((0.8 - 0.6) / 2))
    assert near(merged("sens_general", g, scale=1.5), [1.5 * 2 * share])
    tilted = 1 / (1 + math.exp((0.8 * 0.25 - 0.6 * 0.75) / 0.5))
    made = merged("sens_general", g, alignment=[3.0, 1.0], temperature=0.5)
    assert near(made, [2 * tilted])


def test_sens_general_refuses_alignments_of_other_models() -> None:
    setting = TensorContext((1.0, 1.0), True, NAME, (1,), SENSITIVE)
    with pytest.raises(RecipeError, match="a number for each of the 2 models"):
        checked(METHODS, "sens_general", setting, alignment=[1.0])


def test_fisher_weighs_each_entry() -> None:
    # Case G13.
    held = stats("fisher", {NAME: [4.0, 1.0]}, {NAME: [1.0, 1.0]})
    g = group([1.0, 1.0], [0.0, 3.0], stats=held)
    assert near(merged("fisher", g), [0.8, 2.0])
    balanced = merged("fisher", g, balance=True)
    first, second = 4 / math.sqrt(17), 1 / math.sqrt(2)
    assert near(balanced[:1], [first / (first + second)], 1e-5)


def test_fisher_of_numbers_a_tensor_is_a_mean_with_one_weight() -> None:
    held = stats("fisher", {NAME: 3.0}, {NAME: 1.0})
    g = group([1.0, 0.0], [0.0, 1.0], weights=[1.0, 1.0], stats=held)
    assert near(merged("fisher", g), [0.75, 0.25])


def test_fisher_refuses_files_that_lack_a_tensor_or_mix_two_forms() -> None:
    lacking = TensorContext((1.0,), True, OTHER, (2,), stats("fisher", {NAME: [1.0, 1.0]}))
    with pytest.raises(CalibrationError, match=f"nothing of '{OTHER}'"):
        checked(METHODS, "fisher", lacking)
    mixed = stats("fisher", {NAME: [1.0, 1.0]}, {NAME: 1.0})
    with pytest.raises(CalibrationError, match="as one number"):
        checked(METHODS, "fisher", TensorContext((1.0, 1.0), True, NAME, (2,), mixed))


GRAMS = stats("gram", {NAME: [[2.0, 1.0], [1.0, 2.0]]}, {NAME: [[1.0, 0.0], [0.0, 3.0]]})


@pytest.mark.parametrize(
    ("factor", "expected"), [(1.0, [0.428571, 0.714286]), (0.9, [0.457364, 0.697674])]
)
def test_regmean_solves_for_the_nearest_outputs(factor: float, expected: list[float]) -> None:
    # Case G12.
    g = group([[1.0, 0.0]], [[0.0, 1.0]], stats=GRAMS)
    assert near(merged("regmean", g, off_diagonal=factor, ridge=0.0), [expected])
    assert near(merged("regmean", g, off_diagonal=factor), [expected], 2e-6)


def test_regmean_takes_the_mean_where_nothing_was_measured() -> None:
    held = stats("gram", {}, {})
    g = group([[1.0, 0.0]], [[0.0, 1.0]], weights=[3.0, 1.0], stats=held)
    assert near(merged("regmean", g), [[0.75, 0.25]])
    vector = group([1.0, 0.0], [0.0, 1.0], stats=GRAMS)
    assert near(merged("regmean", vector), [0.5, 0.5])
    said = checked(METHODS, "regmean", TensorContext((1.0, 1.0), True, NAME, (2, 2), held))
    assert said == "regmean takes the mean of matrices without statistics"


def test_regmean_gives_inputs_that_were_never_active_the_mean() -> None:
    dead = {NAME: [[1.0, 0.0], [0.0, 0.0]]}
    g = group([[1.0, 2.0]], [[3.0, 4.0]], stats=stats("gram", dead, dead))
    assert near(merged("regmean", g), [[2.0, 3.0]], 1e-5)
    silent = {NAME: [[0.0, 0.0], [0.0, 0.0]]}
    still = replace(g, stats=stats("gram", silent, silent))
    assert near(merged("regmean", still), [[2.0, 3.0]])


def test_regmean_names_the_matrix_that_cannot_be_solved() -> None:
    same = {NAME: [[1.0, 1.0], [1.0, 1.0]]}
    g = group([[1.0, 2.0]], [[3.0, 5.0]], stats=stats("gram", same, same))
    with pytest.raises(RecipeError, match=f"'{NAME}' are singular"):
        merged("regmean", g, off_diagonal=1.0, ridge=0.0)
    assert bool(torch.isfinite(merged("regmean", g)).all())


@pytest.mark.parametrize("name", ["fisher", "regmean"])
def test_negative_weights_are_refused_where_they_have_no_meaning(name: str) -> None:
    kind = {"fisher": "fisher", "regmean": "gram"}[name]
    setting = TensorContext((1.0, -0.5), True, NAME, (2, 2), stats(kind, {}, {}))
    with pytest.raises(RecipeError, match="a weight is negative"):
        checked(METHODS, name, setting)


def test_acm_keeps_the_share_of_its_layer() -> None:
    # Case G15: .656791 of mutual information 2, 3, 4.
    assert coefficient(torch.tensor([2.0, 3.0, 4.0]), 0.7) == pytest.approx(0.656791, abs=1e-6)
    held = stats("mutual_information", {"layer.1": [2.0, 3.0, 4.0], "norm": [1.0]})
    g = group([2.0], base=[1.0], stats=held)
    inside = replace(g, name=OTHER, layer=1)
    assert near(adjusted("acm", inside, torch.tensor([3.0])), [1 + 2 * 0.656791])
    assert near(adjusted("acm", replace(g, layer=None), torch.tensor([3.0])), [2.0])


@pytest.mark.parametrize(
    ("layer", "role", "part"),
    [
        (None, "embedding", "embed"),
        (12, "", "layer.12"),
        (None, "", "norm"),
        (None, "head", "lm_head"),
    ],
)
def test_acm_finds_the_part_of_a_tensor(layer: int | None, role: Role, part: str) -> None:
    def setting(held: dict[str, list[float]]) -> TensorContext:
        told = stats("mutual_information", held)
        return TensorContext((1.0,), True, NAME, (1,), told, layer, role)

    full = setting({part: [1.0, 2.0]})
    assert part_of(full) == part
    assert checked(ADJUSTMENTS, "acm", full) == ""
    assert "one sample" in checked(ADJUSTMENTS, "acm", setting({part: [1.0]}))
    none = setting({})
    with pytest.raises(CalibrationError, match=f"nothing of '{part}'"):
        checked(ADJUSTMENTS, "acm", none)


def test_fisher_layer_keeps_less_where_moving_costs_more() -> None:
    held = StepStatistics(
        {NAME: torch.tensor([2.0, 4.0]), OTHER: torch.tensor(1.0)}, {NAME: 2, OTHER: 5}
    )
    assert held.once(by_layer) == {0: 3.0, 1: 1.0}
    assert scores({0: 3.0, 1: 1.0}, {0: 3.0, 1: 1.0}) == pytest.approx({0: 1.0, 1: -1.0})
    assert scores({0: 3.0, 1: 0.0}, {0: 1.0, 1: 1.0}) == {0: 0.0}
    g = group([2.0], base=[1.0], layer=0, stats={"fisher": (held,)}, norms={0: 3.0, 1: 1.0})
    made = adjusted("fisher_layer", g, torch.tensor([3.0]), first=0.2, last=1.0, sharpness=2.0)
    assert near(made, [1 + 2 * (0.2 + 0.8 / (1 + math.exp(2.0)))])
    outside = adjusted("fisher_layer", replace(g, layer=None), torch.tensor([3.0]), first=0.2)
    assert near(outside, [1 + 2 * 0.6])


def test_a_tied_heads_statistics_are_those_of_the_embedding() -> None:
    own = {"model.embed_tokens.weight": torch.ones(2)}
    assert "lm_head.weight" in StepStatistics(own, tied=True)
    assert "lm_head.weight" not in StepStatistics(own)
    assert torch.equal(StepStatistics(own, tied=True)["lm_head.weight"], torch.ones(2))
