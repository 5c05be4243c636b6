from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from laconic.errors import RecipeError
from laconic.merging.recipe import Model, Override, Recipe, StepSpec, set_value

if TYPE_CHECKING:
    from pathlib import Path

FULL = """
base: org/base
models:
  - {model: org/fast, weight: 0.3}
  - org/slow
system2: org/slow
method: ties
params: {density: 0.2, scale: 0.9}
before: [{dare: {density: 0.7}}, trim]
after: [{lines: {first: 0.4}}]
overrides: [{match: "*.mlp.*", params: {scale: 0.6}}, {layers: [0, 3], params: {scale: 0.1}}]
tokenizer: org/slow
dtype: bfloat16
seed: 7
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_recipe_reads_every_key(tmp_path: Path) -> None:
    recipe = Recipe.from_yaml(written(tmp_path, FULL))
    assert recipe.models == (Model("org/fast", 0.3), Model("org/slow"))
    assert recipe.before == (StepSpec("dare", {"density": 0.7}), StepSpec("trim"))
    assert recipe.after == (StepSpec("lines", {"first": 0.4}),)
    assert recipe.overrides[1] == Override({"scale": 0.1}, "*", (0, 3))
    assert (recipe.seed, recipe.dtype) == (7, "bfloat16")


def test_a_recipe_survives_the_way_through_yaml(tmp_path: Path) -> None:
    recipe = Recipe.from_yaml(written(tmp_path, FULL))
    again = Recipe.from_yaml(written(tmp_path, recipe.to_yaml()))
    assert again == recipe
    assert again.digest == recipe.digest


def test_recipes_that_differ_have_other_digests() -> None:
    one = Recipe(["a"], "ties", params={"density": 0.2})
    two = Recipe(["a"], "ties", params={"density": 0.3})
    assert one.digest != two.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: [a]\nmethod: ties\ndtpye: bfloat16", "no key 'dtpye'. Did you mean 'dtype'"),
        (
            "models: [a]\nmethod: ties\nmethod: slerp",
            "line 3, column 1: the key 'method' is written twice",
        ),
        ("models: [a]", "has no 'method'"),
        ("method: ties", "has no 'models'"),
        ("models: []\nmethod: ties", "models is empty"),
        ("models: a\nmethod: ties", "models must be a list"),
        ("models: [{model: a, wieght: 1}]\nmethod: ties", "model: NAME, weight: NUMBER"),
        ("models: [{model: a, weight: abc}]\nmethod: ties", "must be a number, got 'abc'"),
        ("models: [a]\nmethod: ties\ndtype: bf16", "Did you mean 'bfloat16'"),
        ("models: [a]\nmethod: ties\nseed: x", "seed must be a whole number"),
        ("models: [a]\nmethod: ties\nparams: [1]", "params must be names with values"),
        ("models: [a]\nmethod: ties\nbefore: [{a: {}, b: {}}]", "before: write a name or"),
        ("models: [a]\nmethod: ties\noverrides: [{mtch: x}]", "overrides: write"),
        ("models: [a]\nmethod: ties\noverrides: [{layers: 3}]", "layers must be"),
        ("- a\n- b", "holds no keys"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("[", r"\[")):
        Recipe.from_yaml(written(tmp_path, text))


MERGES = """
name: first
merge_method: linear
models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}]
---
merge_method: linear
models: [{model: first, parameters: {weight: 1}}, {model: c, parameters: {weight: 1}}]
"""


def test_a_file_of_several_merges_is_named_with_the_way_to_carry_them_out(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"2 YAML documents.*mergekit-multi.*first with -o NAME"):
        Recipe.from_yaml(written(tmp_path, MERGES))
    with pytest.raises(RecipeError, match=r"2 YAML documents, .* Write each to a file"):
        Recipe.from_yaml(written(tmp_path, "models: [a]\nmethod: ties\n---\nmodels: [b]\n"))


def test_one_document_between_its_marks_is_one_recipe(tmp_path: Path) -> None:
    text = "---\nmodels: [a]\nmethod: average\n---\n"
    assert Recipe.from_yaml(written(tmp_path, text)).method == "average"


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml cannot be read"):
        Recipe.from_yaml(tmp_path / "none.yaml")


def test_values_are_set_by_path() -> None:
    values: dict[str, Any] = {"models": ["a", "b"], "method": "ties", "before": ["dare"]}
    for key, value in {
        "density": 0.3,
        "params.scale": 0.5,
        "before.0.density": 0.9,
        "models.1.weight": 2.0,
        "seed": 4,
    }.items():
        set_value(values, key, value)
    recipe = Recipe.from_dict(values)
    assert recipe.params == {"density": 0.3, "scale": 0.5}
    assert recipe.before == (StepSpec("dare", {"density": 0.9}),)
    assert recipe.models[1].weight == 2.0
    assert recipe.seed == 4


@pytest.mark.parametrize("key", ["befor.0.density", "before.1.density", "before.x", "seed.1"])
def test_a_path_that_leads_nowhere_is_refused(key: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        set_value({"models": ["a"], "method": "ties", "before": ["dare"]}, key, 1)
