"""mergekit's configurations become recipes, or one clear sentence."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from laconic.errors import RecipeError
from laconic.merging.mergekit.translate import is_mergekit, translate
from laconic.merging.recipe import Recipe


def read(text: str) -> dict[str, Any]:
    return translate(yaml.safe_load(text))


def said(text: str, part: str) -> bool:
    return any(part in note for note in read(text)["notes"])


TIES = "{merge_method: ties, base_model: o, models: [%s]%s}"
ONE = "{model: a, parameters: {weight: 0.7, density: 0.2}}"


def test_what_is_mergekits() -> None:
    assert is_mergekit({"merge_method": "ties"})
    assert is_mergekit({"base_model": "x", "merge_metod": "ties"})
    assert not is_mergekit({"models": ["a"], "method": "ties"})
    assert not is_mergekit({"models": ["a"], "dtype": "float32"})


def test_ties_of_one_model_is_our_ties_and_says_that_its_weight_cancels() -> None:
    recipe = read(TIES % (ONE, ""))
    assert (recipe["method"], recipe["models"]) == ("ties", ["a"])
    assert recipe["params"] == {"scale": 1.0, "density": 0.2}
    assert said(TIES % (ONE, ""), "weight 0.7 cancels")


def test_ties_not_normalised_keeps_its_weight() -> None:
    recipe = read(TIES % (ONE, ", parameters: {normalize: false, lambda: 0.9}"))
    assert recipe["method"] == "ties"
    assert recipe["models"] == [{"model": "a", "weight": 0.7}]
    assert recipe["params"] == {"scale": 0.9, "density": 0.2}


def test_ties_of_unequal_weights_divides_by_those_that_agree() -> None:
    other = "{model: b, parameters: {weight: 0.2, density: 0.4}}"
    recipe = read(TIES % (f"{ONE}, {other}", ""))
    assert recipe["method"] == "elect"
    assert recipe["params"] == {"scale": 1.0, "normalise": True}
    assert [step["sparsify"]["density"] for step in recipe["before"]] == [0.2, 0.4]
    assert [step["sparsify"]["model"] for step in recipe["before"]] == [0, 1]


def test_the_nearest_level_counts_and_in_it_the_first_filter() -> None:
    recipe = read(
        """
        merge_method: task_arithmetic
        base_model: o
        models:
          - model: o
          - model: a
            parameters: {weight: [{filter: mlp, value: 0.1}, {filter: q_proj, value: [0, 1]}]}
          - model: b
            parameters: {weight: "1e-1"}
        parameters: {weight: [{filter: norm, value: 2}, {value: 3}, {filter: mlp, value: 4}]}
        """
    )
    assert recipe["models"][0]["weight"] == [
        {"match": "*mlp*", "value": 0.1},
        {"match": "*q_proj*", "value": [0.0, 1.0]},
        {"match": "*norm*", "value": 2.0},
        {"value": 3.0},
    ]
    assert recipe["models"][1]["weight"] == 0.1


def test_slices_of_whole_models_are_models() -> None:
    recipe = read(
        """
        merge_method: slerp
        base_model: a
        slices:
          - sources: [{model: a, layer_range: [0, 28]}, {model: b, layer_range: [0, 28]}]
            parameters: {t: 0.4}
        parameters: {t: 0.9}
        """
    )
    assert (recipe["base"], recipe["models"], recipe["layers"]) == ("a", ["b"], 28)
    assert recipe["params"] == {"t": 0.4, "zeros": "circle"}


def test_a_translation_is_a_recipe_and_reads_like_one() -> None:
    config = yaml.safe_load(TIES % (ONE, ", dtype: bfloat16"))
    recipe = Recipe.from_dict(config)
    assert (recipe.base, recipe.method, recipe.dtype) == ("o", "ties", "bfloat16")
    assert recipe.system2 == "widest"
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("written", "dtype", "noted"),
    [
        ("dtype: float32, out_dtype: bfloat16", "bfloat16", False),
        ("dtype: torch.float16", "float16", True),
        ("out_dtype: float32", "float32", True),
    ],
)
def test_the_stored_type_is_mergekits_and_other_arithmetic_is_said(
    written: str, dtype: str, noted: bool
) -> None:
    text = TIES % (ONE, f", {written}")
    assert read(text)["dtype"] == dtype
    assert said(text, "mergekit would calculate in") is noted


@pytest.mark.parametrize(
    ("written", "tokenizer"),
    [
        ("tokenizer_source: base", "o"),
        ("tokenizer_source: a", "a"),
        ("tokenizer_source: union", "union"),
        ("tokenizer: {source: a}", "a"),
        ("tokenizer: {}", "union"),
    ],
)
def test_the_tokenizers_donor_is_mergekits_where_it_is_named(written: str, tokenizer: str) -> None:
    assert read(TIES % (ONE, f", {written}"))["tokenizer"] == tokenizer


def test_what_mergekit_ignores_is_said() -> None:
    extra = "{model: o, parameters: {weight: 1}}"
    text = TIES % (f"{extra}, {ONE}", ", name: x, parameters: {epsilon: 0.1, int8_mask: true}")
    assert said(text, "parameters: epsilon has no effect in ties")
    assert said(text, "parameters: int8_mask has no effect in ties")
    assert said(text, "models.0.parameters: the base's parameters have no effect")
    assert said(text, "name: has no effect")
    assert said(text, "mergekit takes base_model's")


ARITHMETIC = "{merge_method: task_arithmetic, base_model: o, models: [%s]%s}"


SLICES = "{merge_method: linear, slices: [{sources: [{model: a, layer_range: [%s]}]}%s]}"


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("{merge_method: arcee_fusion, models: [{model: a}]}", "ties comes nearest"),
        ("{merge_method: karcher, models: [{model: a}]}", "for two models slerp"),
        ("{merge_method: multislerp, models: [{model: a}]}", "for two models nuslerp"),
        ("{merge_method: nearswap, models: [{model: a}]}", "task_arithmetic comes nearest"),
        ("{merge_method: ram, models: [{model: a}]}", "ties comes nearest"),
        ("{merge_method: ramplus_tl, models: [{model: a}]}", "ties comes nearest"),
        ("{merge_method: passthrough, slices: [{}]}", "from the layers of others"),
        (TIES % (ONE, ", modules: {text: {}}"), "Write models:"),
        (SLICES % ("4, 8", ""), "give every source the range"),
        (SLICES % ("0, 8", ", {sources: []}"), "write models:"),
    ],
)
def test_what_only_mergekit_can_do_is_refused_with_two_ways_on(text: str, nearest: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(yaml.safe_load(text))
    assert nearest in str(caught.value)
    assert "let mergekit carry it out (mergekit-yaml FILE FOLDER)" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{merge_method: tise, models: [{model: a}]}", "no 'tise'. Did you mean 'ties'"),
        ("{merge_method: karcer, models: [{model: a}]}", "Did you mean 'karcher'"),
        ("{merge_method: della_linear, models: [{model: a}]}", "own: laconic show della."),
        ("{merge_metod: ties, base_model: o}", "no key 'merge_metod'. Did you mean 'merge_method'"),
        ("{base_model: o, models: [{model: a}]}", "merge_method: no 'None'"),
        (TIES % (ONE, ", dtpye: float32"), "no key 'dtpye'. Did you mean 'dtype'"),
        (TIES % (ONE, ", base_modle: x"), "no key 'base_modle'. Did you mean 'base_model'"),
        (TIES % (ONE, ", dtype: bf16"), "dtype 'bf16': Did you mean 'bfloat16'"),
        (TIES % (ONE, ", out_dtype: int64"), "out_dtype 'int64'"),
        (TIES % (ONE, ", modules: {text: {}}"), "modules: is not supported"),
        (TIES % (ONE, ", chat_template: chatml"), "chat_template 'chatml' is not supported"),
        (TIES % (ONE, ", tokenizer: {tokens: {x: {}}}"), "tokenizer.tokens is not supported"),
        (TIES % (ONE, ", tokenizer: {pad_to_multiple_of: 8}"), "tokenizer.pad_to_multiple_of is"),
        (TIES % (ONE, ", tokenizer: {sorce: a}"), "no key 'sorce'. Did you mean 'source'"),
        (TIES % (ONE, ", tokenizer: {}, tokenizer_source: a"), "not both"),
        (TIES % ("{model: a, parameters: {densty: 1}}", ""), "no 'densty'. Did you mean 'density'"),
        (TIES % ("{model: a, parameters: {wieght: 1}}", ""), "no 'wieght'. Did you mean 'weight'"),
        (TIES % ("{model: a, parameters: {density: 1}}", ""), "a has no weight"),
        (TIES % ("{model: a, paramters: {weight: 1}}", ""), "models.0 has no key 'paramters'"),
        (TIES % ("{model: a, parameters: [1]}", ""), "models.0: parameters must be names"),
        (TIES % ("{model: {path: a}}", ""), "models.0.model must be a folder or a Hub id"),
        (TIES % ("a", ""), "models.0 must be names with values, got 'a'"),
        (TIES % ("{model: o}", ""), "needs a model beside base_model o"),
        (TIES % (f"{ONE}, {ONE}", ""), "a is listed twice"),
        ("{merge_method: ties, models: [" + ONE + "]}", "ties needs base_model"),
        ("{merge_method: slerp, models: [{model: a}, {model: b}]}", "slerp needs base_model"),
        (
            "{merge_method: slerp, base_model: o, models: [{model: a}, {model: b}]}",
            "exactly 2 models, the base included; got 3",
        ),
        ("{merge_method: slerp, base_model: o, models: [{model: a}]}", "slerp has no t"),
        (
            "{merge_method: linear, base_model: o, models: [{model: a, parameters: {weight: 1}}]}",
            "base_model o has no weight",
        ),
        ("{merge_method: linear, models: [{model: a}], slices: [{}]}", "either models: or slices:"),
        ("{merge_method: linear}", "either models: or slices:"),
        ("{merge_method: linear, models: {a: 1}}", "models must be a list"),
        ("{merge_method: linear, slices: [{}, {}]}", "slices: 2 entries"),
        ("{merge_method: linear, slices: [{sources: [{model: a}]}]}", "layer_range must be a list"),
        (
            "{merge_method: linear, slices: [{sources: [{model: a, layer_range: [4, 8]}]}]}",
            "not those of whole models",
        ),
        (
            "{merge_method: linear, slices: [{sources: [{model: a, layer_range: [0, 8]}, "
            "{model: b, layer_range: [0, 9]}]}]}",
            "not those of whole models",
        ),
        (
            "{merge_method: linear, slices: [{residual_weight: 1, sources: []}]}",
            "slices.0 has no key 'residual_weight'",
        ),
        (
            ARITHMETIC % ("{model: a, parameters: {weight: abc}}", ""),
            "must be a number, or numbers",
        ),
        (ARITHMETIC % ("{model: a, parameters: {weight: .nan}}", ""), "must be a number, or"),
        (ARITHMETIC % ("{model: a, parameters: {weight: []}}", ""), "must be a number, or numbers"),
        (
            ARITHMETIC % ("{model: a, parameters: {weight: {value: 1}}}", ""),
            "must be a number, or numbers",
        ),
        (
            ARITHMETIC % ("{model: a, parameters: {weight: [{filter: mlp}]}}", ""),
            "write {filter: PART OF A NAME, value",
        ),
        (
            ARITHMETIC % ("{model: a, parameters: {weight: [{fliter: mlp, value: 1}]}}", ""),
            "no key 'fliter'. Did you mean 'filter'",
        ),
        (
            ARITHMETIC % ("{model: a, parameters: {weight: [{filter: '*.mlp.*', value: 1}]}}", ""),
            "parts of tensor names, not patterns",
        ),
        (
            ARITHMETIC
            % ("{model: a, parameters: {weight: 1}}", ", parameters: {normalize: maybe}"),
            "normalize must be true or false",
        ),
        (
            TIES % ("{model: a, parameters: {weight: 1, density: 80}}", ""),
            r"density of a must be in \(0, 1\], got 80",
        ),
        (
            TIES % ("{model: a, parameters: {weight: 1, density: [1, 0]}}", ""),
            r"density of a must be in \(0, 1\], got 0",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict(yaml.safe_load(text))
