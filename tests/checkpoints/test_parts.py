"""Towers and multi-token prediction layers that a sibling lacks, and rotations that differ."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
)

from laconic.checkpoints.layout import kinds_of
from laconic.errors import CheckpointError, RecipeError
from laconic.inspection.inspect import inspect
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe, set_value
from tests.conftest import MakeCheckpoint, tensors

if TYPE_CHECKING:
    from pathlib import Path

FC, NORM = "mtp.fc.weight", "mtp.norm.weight"
#: As DeepSeek and GLM store them: one layer more than the config's depth.
AHEAD = ["model.layers.2.eh_proj.weight", "model.layers.2.enorm.weight",
         "model.layers.2.mlp.up_proj.weight"]  # fmt: skip


def recipe(base: Path, *models: Path, **kwargs: Any) -> Recipe:
    values = {"method": "task_arithmetic", "params": {"scale": 0.5}, **kwargs}
    return Recipe([str(m) for m in models], base=str(base), **values)


def with_mtp(seed: int, *names: str) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed + 99)
    return tensors(seed) | {name: torch.randn(8, 8, generator=draw).bfloat16() for name in names}


@pytest.mark.parametrize("names", [[FC, NORM], AHEAD], ids=["mtp", "layer past the last"])
@pytest.mark.parametrize("choice", [None, "base", "drop"])
def test_mtp_layers_that_system2_lacks_are_left_out_or_the_bases(
    choice: str | None, names: list[str], make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    held = with_mtp(0, *names)
    base = make_checkpoint("base", held, config={"num_nextn_predict_layers": 1})
    model = make_checkpoint("model", 1, config={"num_nextn_predict_layers": 1})
    merged = merge(recipe(base, model, mtp=choice), tmp_path / "out")
    kept = set(names) if choice == "base" else set()
    assert set(merged.specs) == set(tensors(1)) | kept
    assert merged.config["num_nextn_predict_layers"] == (1 if kept else 0)
    for name in kept:
        assert torch.equal(merged.read(name), held[name])
    notes = json.loads((tmp_path / "out" / "run.json").read_text())["notes"]
    (note,) = [note for note in notes if "multi-token prediction" in note]
    assert f"{len(names)} tensors" in note
    assert ("copied unmerged from" if kept else "left out") in note
    assert "mtp" in note


def test_mtp_layers_that_the_base_lacks_are_copied_from_system2(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    held = with_mtp(1, FC)
    base = make_checkpoint("base", 0)
    model = make_checkpoint("model", held, config={"mtp_num_hidden_layers": 1})
    merged = merge(recipe(base, model), tmp_path / "out")
    assert torch.equal(merged.read(FC), held[FC])
    assert merged.config["mtp_num_hidden_layers"] == 1
    assert plan(recipe(base, model)).describe()["copied_from_system2"] == []


def test_mtp_layers_that_all_have_are_merged_unless_the_recipe_says_otherwise(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    zero, one = with_mtp(0, FC), with_mtp(1, FC)
    base, model = make_checkpoint("base", zero), make_checkpoint("model", one)
    middle = (zero[FC].float() + 0.5 * (one[FC].float() - zero[FC].float())).bfloat16()
    for choice, wanted in ((None, middle), ("merge", middle), ("base", zero[FC])):
        merged = merge(recipe(base, model, mtp=choice), tmp_path / f"out-{choice}")
        assert torch.equal(merged.read(FC), wanted)
    assert FC not in merge(recipe(base, model, mtp="drop"), tmp_path / "out-drop").specs


def test_a_copied_part_is_stored_in_the_type_that_the_recipe_asks_for(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    held = with_mtp(0, FC)
    base, model = make_checkpoint("base", held), make_checkpoint("model", 1)
    merged = merge(recipe(base, model, mtp="base", dtype="float32"), tmp_path / "out")
    assert {spec.dtype for spec in merged.specs.values()} == {"F32"}
    assert torch.equal(merged.read(FC), held[FC].float())


def test_a_choice_that_cannot_be_carried_out_names_the_others(
    make_checkpoint: MakeCheckpoint,
) -> None:
    base, model = make_checkpoint("base", with_mtp(0, FC)), make_checkpoint("model", 1)
    for choice, said in (("system2", "model has no tensors of multi"), ("merge", "has none")):
        with pytest.raises(RecipeError, match=said) as caught:
            plan(recipe(base, model, mtp=choice))
        assert "merge, system2, base and drop" in str(caught.value)
    with pytest.raises(RecipeError, match="mtp: 'keep'"):
        recipe(base, model, mtp="keep")
    alone = Recipe([str(base), str(model)], "average", system2=str(model), mtp="base")
    with pytest.raises(RecipeError, match="the recipe has no base"):
        plan(alone)


def test_inspect_calls_siblings_what_a_merge_accepts(make_checkpoint: MakeCheckpoint) -> None:
    base, model = make_checkpoint("base", with_mtp(0, FC)), make_checkpoint("model", 1)
    found = inspect(base, [model])
    assert found.compatibility[0].fits
    assert any("multi-token prediction" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mtp.layers.0.mlp.up_proj.weight", "mtp"),
        ("model.mtp_layers.0.input_proj.weight", "mtp"),
        ("model.mtp_block.0.mlp.up_proj.weight", "mtp"),
        ("visual.blocks.3.attn.qkv.weight", "towers"),
        ("model.visual.merger.linear_fc1.weight", "towers"),
        ("vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight", "towers"),
        ("model.multi_modal_projector.linear_1.weight", "towers"),
        ("audio_tower.layers.0.fc1.weight", "towers"),
        ("model.connector.modality_projection.proj.weight", "towers"),
        ("qformer.encoder.layer.0.output.dense.weight", "towers"),
        ("mlp1.0.weight", "towers"),
        ("model.layers.0.mlp.up_proj.weight", None),
        ("model.layers.0.self_attn.vision_gate.weight", None),
        ("model.language_model.layers.0.mlp.up_proj.weight", None),
        ("language_model.lm_head.weight", None),
    ],
)
def test_parts_are_told_by_their_names(name: str, kind: str | None) -> None:
    assert kinds_of([name]).get(name) == kind


def gemma(folder: Path, seed: int) -> Path:
    """A tiny Gemma 3 with its vision tower, as transformers saves it."""
    torch.manual_seed(seed)
    text = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 40,
        "max_position_embeddings": 64, "sliding_window": 8,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
    }  # fmt: skip
    config = Gemma3Config(
        text_config=text,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=30,
        boi_token_index=31,
        eoi_token_index=32,
    )
    model: Any = Gemma3ForConditionalGeneration(config)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("choice", ["system2", "base", "drop"])
def test_a_model_with_a_tower_loads_and_computes_as_its_weights_say(
    choice: str, tmp_path: Path
) -> None:
    base, model = gemma(tmp_path / "base", 0), gemma(tmp_path / "model", 1)
    merged = merge(recipe(base, model, towers=choice), tmp_path / "out")
    loaded: Any
    if choice == "drop":
        loaded = AutoModelForCausalLM.from_pretrained(merged.folder)
        assert type(loaded).__name__ == "Gemma3ForCausalLM"
    else:
        loaded = AutoModelForImageTextToText.from_pretrained(merged.folder)
    whole: Any = AutoModelForImageTextToText.from_pretrained(base)
    other: Any = AutoModelForImageTextToText.from_pretrained(model)
    theirs = other.state_dict()
    with torch.no_grad():
        for name, value in whole.named_parameters():
            if "vision" not in name and "projector" not in name:
                value.add_(0.5 * (theirs[name] - value))
            elif choice == "system2":
                value.copy_(theirs[name])
        words = torch.arange(10).reshape(1, 10)
        assert torch.allclose(loaded(words).logits, whole(words).logits, atol=1e-5)
    if choice != "drop":
        kept = dict(loaded.state_dict())
        tower = [name for name in whole.state_dict() if "vision" in name]
        assert tower
        assert all(torch.equal(kept[n], whole.state_dict()[n]) for n in tower)


@pytest.mark.parametrize("inner", ["model.text_model", "model.words"])
def test_the_text_model_alone_is_written_where_its_class_finds_its_tensors(
    inner: str, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    base, model = gemma(tmp_path / "base", 0), gemma(tmp_path / "model", 1)
    for folder in (base, model):
        file = folder / "model.safetensors"
        held = load_file(file)
        moved = {n.replace("language_model.model", inner): held[n] for n in held}
        assert held.keys() != moved.keys()
        save_file(moved, file, metadata={"format": "pt"})
    asked = recipe(base, model, towers="drop")
    if inner == "model.words":
        with pytest.raises(RecipeError, match=r"Gemma3ForCausalLM would not find .*'model\.words"):
            plan(asked)
        return
    merged = merge(asked, tmp_path / "out")
    loader: Any = AutoModelForCausalLM
    _, told = loader.from_pretrained(merged.folder, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]


def test_a_tower_that_system2_lacks_comes_from_the_base(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base, model = gemma(tmp_path / "base", 0), gemma(tmp_path / "model", 1)
    file = model / "model.safetensors"
    held = {n: t for n, t in load_file(file).items() if kinds_of([n]).get(n) != "towers"}
    save_file(held, file, metadata={"format": "pt"})
    merged = merge(recipe(base, model), tmp_path / "out")
    own = load_file(base / "model.safetensors")
    towers = kinds_of(own)
    assert towers
    assert all(torch.equal(merged.read(name), own[name]) for name in towers)


YARN = {
    "max_position_embeddings": 128,
    "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64},
}


@pytest.mark.parametrize(("donor", "window"), [("base", 64), ("system2", 128)])
def test_a_rotation_that_differs_is_refused_unless_the_recipe_says_whose_counts(
    donor: str, window: int, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1, config=YARN)
    with pytest.raises(CheckpointError, match=r"rope_type is .*config: \{rope: NAME\}"):
        plan(recipe(base, model))
    with pytest.raises(CheckpointError, match="rotate positions differently"):
        plan(recipe(base, model, config="base"))
    values = recipe(base, model).to_dict()
    set_value(values, "config.rope", donor)
    planned = plan(Recipe.from_dict(values))
    assert Recipe.from_yaml(write(tmp_path, planned.recipe)) == planned.recipe
    assert planned.describe()["window"] == window
    assert any("rotate positions differently" in note for note in planned.notes)
    merged = merge(planned.recipe, tmp_path / "out")
    assert merged.window == window
    assert ("rope_scaling" in merged.config) is (donor == "system2")


def write(folder: Path, made: Recipe) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(made.to_yaml())
    return path


def test_config_takes_a_name_or_donors_by_name(make_checkpoint: MakeCheckpoint) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1, config=YARN)
    for config, said in (({"rop": "base"}, "Did you mean 'rope'"), ({"rope": 3}, "must be a name")):
        with pytest.raises(RecipeError, match=said):
            recipe(base, model, config=config)
    made = recipe(base, model, config={"from": "base", "rope": "system2"})
    assert plan(made).model_files.config["rope_scaling"] == YARN["rope_scaling"]
