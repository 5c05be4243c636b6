"""Numbers that differ from tensor to tensor, alone and in a merge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from laconic.errors import RecipeError
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Model, Recipe
from laconic.merging.varying import PARTS, ValueRule, Varying, matches, varying
from tests.conftest import MakeCheckpoint, tensors

if TYPE_CHECKING:
    from pathlib import Path

EMBED, NORM = "model.embed_tokens.weight", "model.norm.weight"
UP = "model.layers.{}.mlp.up_proj.weight"
QUERY = "model.layers.{}.self_attn.q_proj.weight"


def test_a_gradient_runs_in_straight_lines_over_the_layers() -> None:
    rule = ValueRule((0.0, 1.0, 0.5))
    assert [rule.at(layer, 5) for layer in range(5)] == [0.0, 0.5, 1.0, 0.75, 0.5]


def test_a_gradient_has_its_first_value_outside_the_layers_and_its_last_in_an_only_layer() -> None:
    rule = ValueRule((0.25, 1.0))
    assert rule.at(None, 5) == 0.25
    assert rule.at(0, 1) == 1.0


def test_the_first_rule_that_fits_counts() -> None:
    value = varying([{"match": "*.mlp.*", "value": 0.3}, {"value": [0, 1]}], "weight")
    assert value.at(UP.format(1), 1, 3) == 0.3
    assert value.at(QUERY.format(1), 1, 3) == 0.5


@pytest.mark.parametrize(
    "plain",
    [[0.0, 0.5, 1.0], [{"value": 0.5}], [{"match": "*.mlp.*", "value": [0.0, 1.0]}, {"value": 2}]],
)
def test_what_varies_survives_the_way_through_a_recipe(plain: list[Any]) -> None:
    assert varying(plain, "weight").plain() == plain
    recipe = Recipe([{"model": "a", "weight": plain}], "average", params={"scale": plain})
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_a_weight_varies_by_tensor_and_layer(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    weight = [{"match": "*.mlp.*", "value": 0.0}, {"value": [0.25, 0.75]}]
    recipe = Recipe(
        [{"model": str(make_checkpoint("model", 1)), "weight": weight}],
        "task_arithmetic",
        base=str(make_checkpoint("base", 0)),
        params={"scale": [{"match": "*norm*", "value": 2.0}, {"value": 1.0}]},
    )
    merged = merge(recipe, tmp_path / "out")
    zero, one = tensors(0), tensors(1)
    shares = {UP.format(0): 0.0, UP.format(1): 0.0, QUERY.format(0): 0.25, QUERY.format(1): 0.75}
    for name, share in {**shares, EMBED: 0.25, NORM: 0.5}.items():
        expected = zero[name].float() + share * (one[name].float() - zero[name].float())
        assert torch.equal(merged.read(name), expected.bfloat16()), name


def test_a_transforms_and_an_adjustments_parameter_vary(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    everything = [{"match": "*mlp*", "value": 1.0}, {"value": 0.1}]
    recipe = Recipe(
        [str(model)],
        "task_arithmetic",
        base=str(base),
        params={"scale": 1.0},
        before=[{"trim": {"density": everything}}],
        after=[{"lines": {"first": [{"match": "*0*", "value": 0.0}, {"value": 1.0}], "last": 1.0}}],
    )
    merged = merge(recipe, tmp_path / "out")
    assert torch.equal(merged.read(UP.format(0)), tensors(0)[UP.format(0)])
    assert torch.equal(merged.read(UP.format(1)), tensors(1)[UP.format(1)])
    moved = merged.read(QUERY.format(1)) != tensors(0)[QUERY.format(1)]
    assert 0 < int(moved.sum()) < 20


def test_a_rule_that_matches_nothing_is_an_error(make_checkpoint: MakeCheckpoint) -> None:
    weight = [{"match": "*.mpl.*", "value": 0.5}, {"value": 1.0}]
    model = {"model": str(make_checkpoint("model", 1)), "weight": weight}
    with pytest.raises(RecipeError, match=r"weight of .*model: no tensor matches '\*\.mpl\.\*'"):
        plan(Recipe([model], "average"))


def test_a_tensor_without_a_rule_is_an_error(make_checkpoint: MakeCheckpoint) -> None:
    model = {"model": str(make_checkpoint("model", 1)), "weight": [{"match": "*mlp*", "value": 1}]}
    with pytest.raises(RecipeError, match=r"no entry fits 'model\.embed_tokens\.weight'"):
        plan(Recipe([model], "average"))


def test_a_rule_for_an_absent_head_and_a_shadowed_rule_are_notes(
    make_checkpoint: MakeCheckpoint,
) -> None:
    weight = [
        {"match": "lm_head*", "value": 0.5},
        {"match": "*mlp*", "value": 0.5},
        {"match": "*up_proj*", "value": 0.9},
        {"value": 1.0},
    ]
    notes = plan(
        Recipe([{"model": str(make_checkpoint("m", 1)), "weight": weight}], "average")
    ).notes
    assert any("'lm_head*' matches only what the result has not" in note for note in notes)
    assert any("'*up_proj*' has no effect" in note for note in notes)


def test_every_number_of_a_gradient_is_checked(make_checkpoint: MakeCheckpoint) -> None:
    recipe = Recipe(
        [str(make_checkpoint("model", 1))],
        "ties",
        base=str(make_checkpoint("base", 0)),
        params={"density": [0.2, 1.5]},
    )
    with pytest.raises(RecipeError, match=r"ties.density must be a number in \(0, 1\], got 1.5"):
        plan(recipe)


@pytest.mark.parametrize(
    "value", [[], [0.5, "x"], [{"match": "*"}], [{"match": 3, "value": 1}], [{"value": {}}], [True]]
)
def test_lists_that_cannot_be_meant_are_errors(value: list[Any]) -> None:
    with pytest.raises(RecipeError, match="weight"):
        varying(value, "weight")


def test_a_recipe_for_other_layers_is_refused(make_checkpoint: MakeCheckpoint) -> None:
    model = str(make_checkpoint("model", 1))
    assert plan(Recipe([model], "average", layers=2)).system2.layers == 2
    with pytest.raises(RecipeError, match=r"speaks of 3 layers, but .*model has 2"):
        plan(Recipe([model], "average", layers=3))


def test_widest_takes_the_first_of_the_largest_window(make_checkpoint: MakeCheckpoint) -> None:
    wide = make_checkpoint("wide", 0, config={"max_position_embeddings": 999})
    models = [str(make_checkpoint(name, 1)) for name in ("a", "b")]
    assert plan(Recipe(models, "average", system2="widest")).system2.name == models[0]
    recipe = Recipe(models, "task_arithmetic", base=str(wide), system2="widest")
    assert plan(recipe).system2.folder == wide


def test_a_model_keeps_its_varying_weight() -> None:
    weight = Varying((ValueRule((0.0, 1.0)),))
    assert Recipe([{"model": "a", "weight": [0, 1]}], "average").models == (Model("a", weight),)


@pytest.mark.parametrize("weight", [[{"value": "x"}], [{"value": True}], [0.1, float("nan")]])
def test_a_varying_weight_is_made_of_numbers(weight: list[Any]) -> None:
    with pytest.raises(RecipeError, match="weight of a"):
        Recipe([{"model": "a", "weight": weight}], "average")


PARTS_OF = {
    "model.layers.3.self_attn.q_proj.weight": {"attention"},
    "model.layers.3.self_attn.q_proj.bias": {"attention", "bias"},
    "model.layers.3.self_attn.q_norm.weight": {"attention", "norm"},
    "model.layers.3.linear_attn.in_proj.weight": {"attention"},
    "model.layers.3.mlp.down_proj.weight": {"ffn"},
    "model.layers.3.mlp.experts.7.up_proj.weight": {"ffn"},
    "model.layers.3.block_sparse_moe.gate.weight": {"ffn"},
    "model.layers.3.input_layernorm.weight": {"norm"},
    "model.norm.weight": {"norm"},
    "model.embed_tokens.weight": {"embedding"},
    "gpt_neox.embed_in.weight": {"embedding"},
    "lm_head.weight": {"head"},
    "language_model.lm_head.weight": {"head"},
    "embed_out.weight": {"head"},
    "output.weight": {"head"},
}


@pytest.mark.parametrize("name", PARTS_OF)
def test_parts_of_a_model_have_names_of_their_own(name: str) -> None:
    assert {part for part in PARTS if matches(part, name)} == PARTS_OF[name]
    assert matches("*", name)


def test_modules_and_layers_may_each_go_their_own_part_of_the_way(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    """Interpolation by module and by depth: FFN, attention, and only the last layers."""
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    recipe = Recipe(
        [str(model)],
        "task_arithmetic",
        base=str(base),
        params={"scale": 0.25},
        overrides=[
            {"match": "ffn", "layers": [1, 1], "params": {"scale": 1.0}},
            {"match": "ffn", "params": {"scale": 0.5}},
            {"match": "attention", "params": {"scale": 0.0}},
        ],
        dtype="float32",
    )
    merged = merge(recipe, tmp_path / "out")
    one, two = tensors(0), tensors(1)
    wanted = {UP.format(1): 1.0, UP.format(0): 0.5, QUERY.format(0): 0.0, EMBED: 0.25, NORM: 0.25}
    for name, scale in wanted.items():
        start, end = one[name].float(), two[name].float()
        torch.testing.assert_close(merged.read(name), start + scale * (end - start))
    listed = [
        *({"match": "ffn", "value": [0.5, 1.0]}, {"match": "attention", "value": 0.0}),
        {"value": 0.25},
    ]
    same = Recipe(
        [str(model)], "task_arithmetic", base=str(base), params={"scale": listed}, dtype="float32"
    )
    other = merge(same, tmp_path / "other")
    assert all(torch.equal(other.read(name), merged.read(name)) for name in merged.specs)


def test_a_part_that_is_not_there_is_refused_with_the_names_of_parts(
    make_checkpoint: MakeCheckpoint,
) -> None:
    base, models = str(make_checkpoint("base", 0)), [str(make_checkpoint("m", 1))]
    params = {"scale": [{"match": "atention", "value": 0.1}, {"value": 0.2}]}
    with pytest.raises(RecipeError, match=r"no tensor matches 'atention'.*parts have names.*ffn"):
        plan(Recipe(models, "task_arithmetic", base=base, params=params))
    override = {"match": "atention", "params": {"scale": 0.1}}
    with pytest.raises(RecipeError, match=r"no tensor matches 'atention'.*parts have names.*ffn"):
        plan(Recipe(models, "task_arithmetic", base=base, overrides=[override]))
