"""One vocabulary for checkpoints that differ in it: which rows, which ids, which files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from laconic.checkpoints.checkpoint import Checkpoint
from laconic.checkpoints.layout import EMBED, HEAD
from laconic.errors import CheckpointError, LaconicError, RecipeError
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from tests.conftest import MakeCheckpoint, tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

WORDS = {f"w{i}": i for i in range(12)}
#: The same twelve ids, two of which stand for each other's strings.
SWAPPED = {**WORDS, "w3": 7, "w7": 3}


def recipe(base: Path, *models: Path, **kwargs: Any) -> Recipe:
    values = {"method": "task_arithmetic", "params": {"scale": 0.5}, **kwargs}
    return Recipe([str(m) for m in models], base=str(base), **values)


def sized(seed: int, rows: int) -> dict[str, Tensor]:
    """The weights of the small model with another number of embedding rows."""
    draw = torch.Generator().manual_seed(seed + 100)
    return tensors(seed) | {EMBED: torch.randn(rows, 8, generator=draw).bfloat16()}


def half(base: Tensor, model: Tensor) -> Tensor:
    return (base.float() + 0.5 * (model.float() - base.float())).bfloat16()


def settings(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    held = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**held, **values}))


@pytest.mark.parametrize("tokenizer", [None, "base", "system2", "union"])
def test_equal_vocabularies_give_the_bytes_of_a_recipe_without_a_tokenizer(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, tokenizer: str | None
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    plain = merge(recipe(base, model), tmp_path / "plain").folder
    made = merge(recipe(base, model, tokenizer=tokenizer), tmp_path / "made").folder
    for file in ("model.safetensors", "config.json", "generation_config.json", "tokenizer.json"):
        assert (made / file).read_bytes() == (plain / file).read_bytes()


@pytest.mark.parametrize("tokenizer", ["base", "system2"])
def test_ids_of_other_strings_are_merged_by_string(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, tokenizer: str
) -> None:
    base = make_checkpoint("base", 0, vocabulary=WORDS)
    model = make_checkpoint("model", 1, vocabulary=SWAPPED)
    merged = merge(recipe(base, model, tokenizer=tokenizer), tmp_path / "out")
    zero, one = tensors(0)[EMBED], tensors(1)[EMBED]
    row = merged.read(EMBED)[3 if tokenizer == "base" else 7]
    assert torch.equal(row, half(zero[3], one[7]))
    other = {name: tensor for name, tensor in tensors(0).items() if name != EMBED}
    for name, tensor in other.items():
        assert torch.equal(merged.read(name), half(tensor, tensors(1)[name]))
    wanted = base if tokenizer == "base" else model
    made = (merged.folder / "tokenizer.json").read_bytes()
    assert made == (wanted / "tokenizer.json").read_bytes()
    notes = json.loads((merged.folder / "run.json").read_text())["notes"]
    assert any("by token string: 2 move" in note for note in notes)
    assert not any("merged all the same" in note for note in notes)


def test_a_token_that_one_lacks_is_lent_and_sizes_follow_the_chosen_tokenizer(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base = make_checkpoint("base", 0, vocabulary=WORDS)
    longer = {**WORDS, "<think>": 12}
    config = {"vocab_size": 16, "max_position_embeddings": 99}
    model = make_checkpoint("model", sized(1, 16), vocabulary=longer, config=config)
    merged = merge(recipe(base, model, tokenizer="system2"), tmp_path / "out")
    own = load_file(model / "model.safetensors")[EMBED]
    assert merged.specs[EMBED].shape == (16, 8)
    assert merged.config["vocab_size"] == 16
    assert torch.equal(merged.read(EMBED)[12:], own[12:])
    assert torch.equal(merged.read(EMBED)[:12], half(tensors(0)[EMBED], own[:12]))
    small = merge(recipe(base, model, tokenizer="base"), tmp_path / "small")
    assert small.specs[EMBED].shape == (12, 8)
    assert small.config["vocab_size"] == 12
    notes = json.loads((small.folder / "run.json").read_text())["notes"]
    assert any("1 are left out ('<think>')" in note for note in notes)


def test_a_token_of_two_models_and_no_base_is_lent_as_their_mean(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    longer = {**WORDS, "<think>": 12}
    base = make_checkpoint("base", 0, vocabulary=WORDS)
    one = make_checkpoint("one", sized(1, 13), vocabulary=longer, config={"vocab_size": 13})
    two = make_checkpoint("two", sized(2, 13), vocabulary=longer, config={"vocab_size": 13})
    wanted = recipe(base, one, two, tokenizer="system2", system2=str(two), dtype="float32")
    unified = plan(wanted)
    assert unified.base is not None
    rows = [load_file(f / "model.safetensors")[EMBED][12].float() for f in (one, two)]
    assert torch.equal(unified.base.read(EMBED)[12], ((rows[0] + rows[1]) / 2).bfloat16())


@pytest.mark.parametrize("untied", ["base", "model"])
def test_a_tied_checkpoint_borrows_head_rows_from_heads(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, untied: str
) -> None:
    head = torch.full((12, 8), 0.5, dtype=torch.bfloat16)
    made = {}
    for seed, name in enumerate(("base", "model")):
        own = {HEAD: head} if name == untied else {}
        words = WORDS if name == "base" else SWAPPED
        config = {"tie_word_embeddings": name != untied}
        made[name] = make_checkpoint(name, tensors(seed) | own, vocabulary=words, config=config)
    wanted = recipe(made["base"], made["model"], tokenizer="system2")
    merged = merge(wanted, tmp_path / "out")
    tied = tensors(0 if untied == "model" else 1)[EMBED]
    if untied == "model":
        tied = tied[[0, 1, 2, 7, 4, 5, 6, 3, *range(8, 12)]]
    pair = (tied, head) if untied == "model" else (head, tied)
    assert torch.equal(merged.read(HEAD), half(*pair))
    assert merged.config["tie_word_embeddings"] is False
    assert any("tied one's embedding stands in" in note for note in plan(wanted).notes)


def test_a_head_that_the_config_calls_tied_is_merged_and_reported(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    head = {HEAD: torch.ones(12, 8, dtype=torch.bfloat16)}
    base = make_checkpoint("base", tensors(0) | head, config={"tie_word_embeddings": True})
    merged = merge(recipe(base, make_checkpoint("model", 1)), tmp_path / "out")
    assert torch.equal(merged.read(HEAD), half(head[HEAD], tensors(1)[EMBED]))
    assert merged.config["tie_word_embeddings"] is False
    notes = json.loads((merged.folder / "run.json").read_text())["notes"]
    assert any("says that the head is tied" in note for note in notes)


def test_a_flag_in_the_text_config_is_read_and_written(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    config: dict[str, Any] = {
        "tie_word_embeddings": None,
        "text_config": {"tie_word_embeddings": False, "max_position_embeddings": 77},
        "max_position_embeddings": None,
    }
    head = {HEAD: torch.ones(12, 8, dtype=torch.bfloat16)}
    base = make_checkpoint("base", tensors(0), config=config)
    with pytest.raises(CheckpointError, match="the head is not tied"):
        plan(recipe(base, make_checkpoint("model", 1)))
    tied = {**config, "text_config": {**config["text_config"], "tie_word_embeddings": True}}
    model = make_checkpoint("nested", tensors(1), config=tied)
    untied = make_checkpoint("untied", tensors(0) | head)
    merged = merge(recipe(untied, model), tmp_path / "out")
    assert merged.config["text_config"]["tie_word_embeddings"] is False
    assert merged.window == 77


def added(*tokens: str, first: int) -> list[dict[str, Any]]:
    return [{"id": first + i, "content": t, "special": True} for i, t in enumerate(tokens)]


def test_a_union_appends_the_added_tokens_that_system2_lacks(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base = make_checkpoint("base", sized(0, 15), vocabulary=WORDS, config={"vocab_size": 15})
    model = make_checkpoint("model", sized(1, 14), vocabulary=WORDS, config={"vocab_size": 14})
    settings(base, "tokenizer.json", added_tokens=added("<tool>", "<think>", "<call>", first=12))
    settings(model, "tokenizer.json", added_tokens=added("<think>", first=12))
    settings(model, "tokenizer_config.json", added_tokens_decoder={"12": {"content": "<think>"}})
    wanted = recipe(base, model, tokenizer="union")
    merged = merge(wanted, tmp_path / "out")
    zero, one = (load_file(f / "model.safetensors")[EMBED] for f in (base, model))
    strings = merged.vocabulary()
    assert [strings[i] for i in (12, 13, 14)] == ["<think>", "<tool>", "<call>"]
    assert merged.config["vocab_size"] == 15
    assert torch.equal(merged.read(EMBED)[12], half(zero[13], one[12]))
    assert torch.equal(merged.read(EMBED)[13:], zero[[12, 14]])
    decoder = json.loads((merged.folder / "tokenizer_config.json").read_text())
    assert decoder["added_tokens_decoder"]["13"] == {"content": "<tool>", "special": True}


def test_ids_in_configs_follow_their_tokens_to_the_chosen_tokenizer(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base = make_checkpoint("base", 0, vocabulary=WORDS, config={"pad_token_id": 2})
    theirs = {**SWAPPED, "<stop>": 5}
    del theirs["w5"]
    model = make_checkpoint("model", 1, vocabulary=theirs, config={"eos_token_id": 3})
    settings(base, "generation_config.json", eos_token_id=[9, 1])
    settings(model, "generation_config.json", eos_token_id=[5], pad_token_id=7, temperature=0.6)
    wanted = recipe(base, model, tokenizer="base")
    merged = merge(wanted, tmp_path / "out")
    made = json.loads((merged.folder / "generation_config.json").read_text())
    # 7 is "w3" in the model and 3 in the base; "<stop>" is in the model alone.
    assert made == {"eos_token_id": [9, 1], "pad_token_id": 3, "temperature": 0.6}
    assert merged.config["eos_token_id"] == 7
    notes = " ".join(plan(wanted).notes)
    assert "eos_token_id of generation_config.json" in notes
    assert "'<stop>'), which the chosen tokenizer does not have" in notes


def test_each_file_may_have_a_donor_of_its_own(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base = make_checkpoint("base", 0, config={"max_position_embeddings": 16})
    model = make_checkpoint("model", 1, config={"max_position_embeddings": 4096})
    settings(base, "generation_config.json", temperature=0.1)
    settings(model, "tokenizer_config.json", chat_template="old", kept=1)
    (tmp_path / "own.jinja").write_text("mine")
    own = {"config": "base", "generation_config": "base"}
    wanted = recipe(base, model, **own, chat_template=str(tmp_path / "own.jinja"))
    merged = merge(wanted, tmp_path / "out")
    assert merged.window == 16
    assert any("the result takes 16" in note for note in plan(wanted).notes)
    made = json.loads((merged.folder / "generation_config.json").read_text())
    assert made["temperature"] == 0.1
    assert (merged.folder / "chat_template.jinja").read_text() == "mine"
    assert json.loads((merged.folder / "tokenizer_config.json").read_text()) == {"kept": 1}
    from_base = merge(recipe(base, model, chat_template="base"), tmp_path / "again")
    assert (from_base.folder / "chat_template.jinja").read_text() == "template of base"
    assert Recipe.from_dict(wanted.to_dict()) == wanted


def test_a_template_that_writes_foreign_tokens_is_reported(
    make_checkpoint: MakeCheckpoint,
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    settings(model, "tokenizer.json", added_tokens=added("<|User|>", first=11))
    (model / "chat_template.jinja").write_text("<|User|>{{ messages }}")
    notes = plan(recipe(base, model, tokenizer="base", chat_template="system2")).notes
    assert any("writes '<|User|>'" in note for note in notes)


def test_sharded_and_single_files_are_matched_alike(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    made = []
    for shards in (1, 3):
        base = make_checkpoint(f"base{shards}", 0, vocabulary=WORDS, shards=shards)
        model = make_checkpoint(f"model{shards}", 1, vocabulary=SWAPPED, shards=shards)
        wanted = recipe(base, model, tokenizer="system2")
        made.append(merge(wanted, tmp_path / f"out{shards}", shard_bytes=10**9 // shards))
    assert all(torch.equal(made[0].read(n), made[1].read(n)) for n in made[0].specs)


def spoil(base: Path, model: Path, how: str) -> None:
    match how:
        case "no tokenizer":
            (base / "tokenizer.json").unlink()
        case "damaged tokenizer":
            (base / "tokenizer.json").write_text('{"model": {"vocab": {"a": "x"}}}')
        case "ordinary":
            settings(base, "tokenizer.json", model={"vocab": {**WORDS, "ordinary": 11}})
        case "wider":
            for folder, width in ((base, 8), (model, 9)):
                held = load_file(folder / "model.safetensors")
                held[EMBED] = torch.zeros(12, width, dtype=torch.bfloat16)
                save_file(held, folder / "model.safetensors")
        case "longer":
            save_file(sized(1, 14), model / "model.safetensors")


@pytest.mark.parametrize(
    ("how", "keys", "message"),
    [
        ("no tokenizer", {"tokenizer": "system2"}, "has no tokenizer.json, so it is not known"),
        ("damaged tokenizer", {"tokenizer": "system2"}, "it is no tokenizer"),
        ("ordinary", {"tokenizer": "union"}, "such as 'ordinary', are ordinary ones"),
        ("wider", {"tokenizer": "system2"}, "rows of different width"),
        ("longer", {}, r"Add 'tokenizer: system2' \(--tokenizer system2"),
        ("", {"tokenizer": "uinon"}, "There is no folder uinon"),
        ("", {"tokenizer": 3}, "tokenizer must be text, got 3"),
        ("", {"config": "bsae"}, "There is no folder bsae"),
        ("", {"generation_config": ["base"]}, "generation_config must be text"),
        ("", {"chat_template": "nowhere.jinja"}, "nowhere.jinja cannot be read"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_is_written(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, how: str, keys: dict[str, Any], message: str
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    spoil(base, model, how)
    with pytest.raises(LaconicError, match=message):
        merge(recipe(base, model, **keys), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["base", "model"]


def test_a_tokenizer_that_no_merged_checkpoint_has_rows_for_is_refused(
    make_checkpoint: MakeCheckpoint,
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    other = make_checkpoint("other", 2, vocabulary={**WORDS, "new": 11, "w11": 10})
    with pytest.raises(CheckpointError, match=r"token 'new' \(id 11\) .* in none of the merged"):
        plan(recipe(base, model, tokenizer=str(other)))


def test_the_base_can_only_be_named_where_there_is_one(make_checkpoint: MakeCheckpoint) -> None:
    one, two = make_checkpoint("one", 0), make_checkpoint("two", 1)
    values: dict[str, Any] = {"system2": str(two), "tokenizer": "base"}
    with pytest.raises(RecipeError, match="tokenizer: base, but the recipe has no base"):
        plan(Recipe([str(one), str(two)], "average", **values))


def test_a_system2_that_is_not_merged_gives_its_tokenizer_and_lends_no_rows(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    donor = make_checkpoint("donor", sized(2, 14), vocabulary=SWAPPED, config={"vocab_size": 14})
    merged = merge(recipe(base, model, system2=str(donor), tokenizer="system2"), tmp_path / "out")
    assert merged.specs[EMBED].shape == (14, 8)
    expected = half(tensors(0)[EMBED][7], tensors(1)[EMBED][7])
    assert torch.equal(merged.read(EMBED)[3], expected)
    assert not merged.read(EMBED)[12:].any()


def test_stored_is_what_read_is(make_checkpoint: MakeCheckpoint) -> None:
    opened = Checkpoint(make_checkpoint("a", 0, shards=2))
    for name in opened.specs:
        stored = opened.stored(name)
        assert not stored.flags.writeable
        assert torch.equal(torch.from_numpy(stored.copy()).view(torch.bfloat16), opened.read(name))
