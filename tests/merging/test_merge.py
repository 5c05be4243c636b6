"""Merging real folders: what comes out, and what is refused before anything does."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from laconic.checkpoints.checkpoint import Checkpoint
from laconic.errors import CheckpointError, LaconicError, RecipeError
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from tests.conftest import MakeCheckpoint, tensors

if TYPE_CHECKING:
    from pathlib import Path

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
UP = "model.layers.0.mlp.up_proj.weight"


def recipe(base: Path, *models: Path, **kwargs: Any) -> Recipe:
    values = {"method": "task_arithmetic", "params": {"scale": 0.5}, **kwargs}
    return Recipe([str(m) for m in models], base=str(base), **values)


def test_a_merge_equals_the_formula_rounded_once(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    merged = merge(recipe(base, model), tmp_path / "out")
    zero, one = tensors(0), tensors(1)
    for name, tensor in load_file(merged.folder / "model.safetensors").items():
        exact = zero[name].float() + 0.5 * (one[name].float() - zero[name].float())
        assert torch.equal(tensor, exact.bfloat16())


def test_shards_and_their_size_change_no_value(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    whole = recipe(make_checkpoint("base", 0), make_checkpoint("model", 1))
    split = recipe(make_checkpoint("base3", 0, shards=3), make_checkpoint("model2", 1, shards=2))
    one = merge(whole, tmp_path / "one")
    many = merge(split, tmp_path / "many", shard_bytes=200)
    assert len(list(many.folder.glob("*.safetensors"))) > 3
    assert one.specs == many.specs
    for name in one.specs:
        assert torch.equal(one.read(name), many.read(name))


def test_everything_but_the_weights_comes_from_system2(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base = make_checkpoint("base", 0, config={"max_position_embeddings": 16})
    model = make_checkpoint("model", 1, config={"max_position_embeddings": 4096})
    merged = merge(recipe(base, model), tmp_path / "out")
    assert merged.window == 4096
    for file in ("generation_config.json", "chat_template.jinja", "tokenizer.json"):
        assert (merged.folder / file).read_bytes() == (model / file).read_bytes()
    record = json.loads((merged.folder / "run.json").read_text())
    assert record["kind"] == "merge"
    assert any("context window is 16" in note for note in record["notes"])
    card = (merged.folder / "README.md").read_text()
    assert "base_model_relation: merge" in card
    assert "method: task_arithmetic" in card


def test_the_widest_model_gives_the_config_and_a_draw_is_an_error(
    make_checkpoint: MakeCheckpoint,
) -> None:
    base, short = make_checkpoint("base", 0), make_checkpoint("short", 1)
    long = make_checkpoint("long", 2, config={"max_position_embeddings": 999})
    assert plan(recipe(base, short, long)).system2.folder == long
    same = make_checkpoint("same", 3)
    with pytest.raises(RecipeError, match="Which model is System 2"):
        plan(recipe(base, short, same))
    assert plan(recipe(base, short, same, system2=str(same))).system2.folder == same


def test_a_tied_base_stands_in_for_its_head(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base = make_checkpoint("base", 0)
    own = tensors(1) | {HEAD: torch.full((12, 8), 0.5, dtype=torch.bfloat16)}
    model = make_checkpoint("model", own, config={"tie_word_embeddings": False})
    merged = merge(recipe(base, model), tmp_path / "out")
    expected = 0.5 * (tensors(0)[EMBED].float() + 0.5)
    assert torch.equal(merged.read(HEAD), expected.bfloat16())
    assert merged.config["tie_word_embeddings"] is False


def test_an_untied_base_gives_a_tied_system2_a_head(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    own = tensors(0) | {HEAD: torch.full((12, 8), 0.5, dtype=torch.bfloat16)}
    base = make_checkpoint("base", own, config={"tie_word_embeddings": False})
    merged = merge(recipe(base, make_checkpoint("model", 1)), tmp_path / "out")
    assert merged.config["tie_word_embeddings"] is False
    assert torch.equal(merged.read(HEAD), (0.5 * (tensors(1)[EMBED].float() + 0.5)).bfloat16())


def test_tied_parents_make_a_tied_child(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    merged = merge(recipe(make_checkpoint("a", 0), make_checkpoint("b", 1)), tmp_path / "out")
    assert merged.tied
    assert HEAD not in merged.specs


def test_dtype_is_system2s_unless_the_recipe_says_otherwise(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = make_checkpoint("a", tensors(0, torch.float32)), make_checkpoint("b", 1)
    assert {s.dtype for s in plan(recipe(base, model)).specs} == {"BF16"}
    merged = merge(recipe(base, model, dtype="float32"), tmp_path / "out")
    assert {s.dtype for s in merged.specs.values()} == {"F32"}
    assert merged.config["dtype"] == "float32"


def test_ties_over_the_whole_model_ranks_all_tensors_together(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    zero = {name: torch.zeros_like(t) for name, t in tensors(0).items()}
    base, model = make_checkpoint("base", zero), make_checkpoint("model", 1)
    params = {"density": 0.3, "scope": "model"}
    merged = merge(recipe(base, model, method="ties", params=params), tmp_path / "out")
    everything = torch.cat([t.float().abs().flatten() for t in tensors(1).values()])
    limit = everything.sort(descending=True).values[int(len(everything) * 0.3) - 1]
    for name, tensor in tensors(1).items():
        expected = torch.where(tensor.float().abs() >= limit, tensor, torch.zeros_like(tensor))
        assert torch.equal(merged.read(name), expected)


def test_overrides_change_the_parameters_of_what_they_match(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    overrides = [
        {"match": "*.mlp.*", "layers": [0, 0], "params": {"scale": 0.0}},
        {"match": "*.mlp.*", "params": {"scale": 1.0}},
    ]
    merged = merge(recipe(base, model, overrides=overrides), tmp_path / "out")
    assert torch.equal(merged.read(UP), tensors(0)[UP])
    other = UP.replace("layers.0", "layers.1")
    assert torch.equal(merged.read(other), tensors(1)[other])


def test_an_override_that_matches_nothing_is_an_error(make_checkpoint: MakeCheckpoint) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    overrides = [{"match": "*.mpl.*", "params": {"scale": 0.0}}]
    with pytest.raises(RecipeError, match=r"no tensor matches '\*\.mpl\.\*'"):
        plan(recipe(base, model, overrides=overrides))


def test_buffers_are_copied_from_system2(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    name = "model.rotary_emb.inv_freq"
    base = make_checkpoint("base", tensors(0) | {name: torch.tensor([1.0, 2.0])})
    model = make_checkpoint("model", tensors(1) | {name: torch.tensor([3.0, 4.0])})
    merged = merge(recipe(base, model), tmp_path / "out")
    assert merged.read(name).tolist() == [3.0, 4.0]


def test_a_model_that_equals_the_base_is_reported(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, twin = make_checkpoint("base", 0), make_checkpoint("twin", 0)
    merged = merge(recipe(base, twin), tmp_path / "out")
    notes = json.loads((merged.folder / "run.json").read_text())["notes"]
    assert any("twin equals the base in every tensor" in note for note in notes)


def test_token_ids_of_other_strings_are_reported(make_checkpoint: MakeCheckpoint) -> None:
    words = {f"w{i}": i for i in range(12)}
    words.pop("w5")
    base = make_checkpoint("base", 0)
    model = make_checkpoint("model", 1, vocabulary={**words, "<think>": 5})
    notes = plan(recipe(base, model)).notes
    assert any("1 token ids stand for different strings" in note for note in notes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_input_leaves_no_output(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, value: float
) -> None:
    broken = tensors(1)
    broken[UP][3, 2] = value
    base, model = make_checkpoint("base", 0), make_checkpoint("model", broken)
    with pytest.raises(CheckpointError, match=rf"'{UP}' of .*model holds NaN or Inf"):
        merge(recipe(base, model), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "model"]


def test_a_value_that_its_type_cannot_hold_leaves_no_output(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    wanted = recipe(base, model, params={"scale": 1e9}, dtype="float16")
    with pytest.raises(CheckpointError, match="do not fit float16"):
        merge(wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def damage(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    held = load_file(weights)
    match how:
        case "missing tensor":
            held.pop(UP)
        case "extra tensor":
            held["model.layers.0.extra.weight"] = torch.zeros(2)
        case "other shape":
            held[UP] = torch.zeros(4, 4, dtype=torch.bfloat16)
        case "quantised":
            held[UP] = held[UP].to(torch.float8_e4m3fn)
    save_file(held, weights)
    match how:
        case "truncated":
            os.truncate(weights, weights.stat().st_size - 1)
        case "no weights":
            weights.unlink()
        case "pickle only":
            weights.rename(folder / "pytorch_model.bin")
        case "not safetensors":
            weights.write_bytes(b"garbage" * 10)
        case "no config":
            (folder / "config.json").unlink()
        case "broken config":
            (folder / "config.json").write_text("{")
        case "stale index":
            (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b"}}')
        case "other depth":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
        case "other rope":
            config = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps({**config, "rope_theta": 1e6}))


@pytest.mark.parametrize("broken", ["base", "model"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing tensor", f"'{UP}'"),
        ("extra tensor", "extra.weight"),
        ("other shape", r"is \[\d+, \d\] in .* and \[\d+, \d\] in"),
        ("quantised", r"is quantised: .* \(F8_E4M3\)"),
        ("truncated", "its header needs"),
        ("no weights", "holds no weights"),
        ("pickle only", "save_pretrained"),
        ("not safetensors", "no safetensors header"),
        ("no config", "no config.json"),
        ("broken config", "is not JSON"),
        ("stale index", "two saves lie over each other"),
        ("other depth", "num_hidden_layers is"),
        ("other rope", "rotate positions differently"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_is_written(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, broken: str, how: str, message: str
) -> None:
    folders = {name: make_checkpoint(name, i) for i, name in enumerate(("base", "model"))}
    damage(folders[broken], how)
    with pytest.raises(CheckpointError, match=message):
        merge(recipe(folders["base"], folders["model"]), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "model"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "tise"}, "No method 'tise'. Did you mean 'ties'"),
        ({"params": {"scael": 1.0}}, "has no 'scael'. Did you mean 'scale'"),
        ({"method": "ties", "params": {"density": 80}}, r"a number in \(0, 1\], got 80"),
        ({"method": "ties", "params": {"density": "0.2"}}, "got '0.2'"),
        ({"method": "ties", "params": {"scope": "world"}}, "'tensor' or 'model'"),
        ({"before": ["dear"]}, "No transform 'dear'. Did you mean 'dare'"),
        ({"after": [{"lines": {"frist": 1}}]}, "Did you mean 'first'"),
        ({"base": None}, "needs a base"),
        ({"method": "slerp", "params": {"t": 2}}, r"in \[0, 1\], got 2"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(
    make_checkpoint: MakeCheckpoint, change: Mapping[str, Any], message: str
) -> None:
    values = recipe(make_checkpoint("base", 0), make_checkpoint("model", 1)).to_dict()
    with pytest.raises(RecipeError, match=message):
        plan(Recipe.from_dict({k: v for k, v in {**values, **change}.items() if v is not None}))


def test_slerp_takes_two_checkpoints_and_no_weights(make_checkpoint: MakeCheckpoint) -> None:
    base, one, two = (make_checkpoint(name, i) for i, name in enumerate("abc"))
    with pytest.raises(RecipeError, match="exactly 2 checkpoints"):
        plan(recipe(base, one, two, method="slerp", params={}))
    weighted = Recipe([{"model": str(one), "weight": 0.5}], "slerp", base=str(base))
    with pytest.raises(RecipeError, match="no use for weights"):
        plan(weighted)


def test_an_output_folder_with_something_in_it_is_left_alone(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("x")
    with pytest.raises(CheckpointError, match="not empty"):
        merge(recipe(make_checkpoint("base", 0), make_checkpoint("model", 1)), out)
    assert [p.name for p in out.iterdir()] == ["precious"]


class Stop(Exception):
    """Stands for a kill between two tensors."""


def test_a_stopped_merge_goes_on_after_its_last_whole_shard(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    wanted = recipe(
        make_checkpoint("base", 0), make_checkpoint("model", 1), before=[{"dare": {"density": 0.5}}]
    )
    whole = merge(wanted, tmp_path / "whole", shard_bytes=300)

    def stop_at_6(done: int, total: int, note: str = "") -> None:
        if done == 6:
            raise Stop

    with pytest.raises(Stop):
        merge(wanted, tmp_path / "out", shard_bytes=300, progress=stop_at_6)
    assert not (tmp_path / "out").exists()
    seen: list[int] = []
    again = merge(
        wanted, tmp_path / "out", shard_bytes=300, progress=lambda done, _, __="": seen.append(done)
    )
    assert seen[0] > 1
    for path in sorted(whole.folder.glob("*.safetensors")):
        assert path.read_bytes() == (again.folder / path.name).read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_work_left_by_another_recipe_is_not_used(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)

    def stop_at_6(done: int, total: int, note: str = "") -> None:
        if done == 6:
            raise Stop

    other = recipe(base, model, params={"scale": 0.1})
    with pytest.raises(Stop):
        merge(other, tmp_path / "out", shard_bytes=300, progress=stop_at_6)
    got = merge(recipe(base, model), tmp_path / "out", shard_bytes=300)
    want = merge(recipe(base, model), tmp_path / "want", shard_bytes=300)
    assert all(torch.equal(got.read(n), want.read(n)) for n in want.specs)


def test_two_merges_into_one_folder_are_refused(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    wanted = recipe(make_checkpoint("base", 0), make_checkpoint("model", 1))
    refused: list[LaconicError] = []

    def second(done: int, total: int, note: str = "") -> None:
        if done == 1:
            with pytest.raises(CheckpointError, match="Another merge is writing") as caught:
                merge(wanted, tmp_path / "out")
            refused.append(caught.value)

    merge(wanted, tmp_path / "out", progress=second)
    assert len(refused) == 1


def test_fingerprints_tell_siblings_apart(make_checkpoint: MakeCheckpoint) -> None:
    prints = {Checkpoint(make_checkpoint(f"m{i}", i)).fingerprint for i in (0, 1)}
    assert len(prints) == 2
    assert Checkpoint(make_checkpoint("again", 0)).fingerprint in prints


@pytest.mark.parametrize(
    ("method", "before"),
    [("lore", []), ("twin_svd", []), ("task_arithmetic", ["della"]), ("sce", ["breadcrumbs"])],
)
def test_a_broken_input_is_named_by_methods_on_whole_tensors_too(
    method: str, before: list[str], make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    broken = tensors(1)
    broken["model.layers.1.mlp.up_proj.weight"][3, 2] = float("nan")
    base, model = make_checkpoint("base", 0), make_checkpoint("model", broken)
    with pytest.raises(CheckpointError, match=r"up_proj.weight' of .*model holds NaN or Inf"):
        merge(Recipe([str(model)], method, base=str(base), before=before), tmp_path / "out")
    assert not (tmp_path / "out").exists()
