"""Files beside the weights: what belongs to a donor comes along, the rest is named."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file, save_file

from laconic.checkpoints.adapter import open_model
from laconic.checkpoints.carried_files import without_code
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.errors import CheckpointError
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeCheckpoint

FILES = {
    "preprocessor_config.json": '{"size": 8, "auto_map": {"AutoProcessor": "processing_x.X"}}',
    "processor_config.json": "{}",
    "video_preprocessor_config.json": "{}",
    "params.json": '{"dim": 8}',
    "tekken.json": "{}",
    "tokenizer.model": "spm",
    "tokenizer.model.v3": "spm",
    "spiece.model": "spm",
    "sentencepiece.bpe.model": "spm",
    "qwen.tiktoken": "a 0",
    "vocab.txt": "a",
    "additional_chat_templates/rag.jinja": "rag",
    "modeling_x.py": "X = 1",
    "strange.json": "{}",
    "README.md": "the parent's card",
    "consolidated.safetensors": "weights in another form",
}
KEPT = [name for name in FILES if name not in ("README.md", "consolidated.safetensors",
                                               "strange.json", "modeling_x.py")]  # fmt: skip
AUTO = {"AutoModelForCausalLM": "modeling_x.X", "AutoConfig": "org/repo--configuration_x.X"}


def recipe(base: Path, model: Path, **kwargs: Any) -> Recipe:
    values = {"method": "task_arithmetic", "params": {"scale": 0.5}, **kwargs}
    return Recipe([str(model)], base=str(base), **values)


def furnish(folder: Path, mark: str) -> Path:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text.replace("8", mark))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": AUTO}))
    return folder


def test_what_belongs_to_the_donors_comes_along_and_the_rest_is_named(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base = furnish(make_checkpoint("base", 0), "3")
    model = furnish(make_checkpoint("model", 1), "5")
    out = merge(recipe(base, model), tmp_path / "out").folder
    for name in KEPT[1:]:
        assert (out / name).read_text() == FILES[name].replace("8", "5"), name
    assert json.loads((out / "preprocessor_config.json").read_text()) == {"size": 5}
    for name in ("modeling_x.py", "strange.json", "consolidated.safetensors"):
        assert not (out / name).exists()
    assert "the parent's card" not in (out / "README.md").read_text()
    held = json.loads((out / "config.json").read_text())
    assert held["auto_map"] == {"AutoConfig": "org/repo--configuration_x.X"}
    notes = json.loads((out / "run.json").read_text())["notes"]
    assert any("are not copied" in note and "strange.json" in note for note in notes)
    assert any("modeling_x.py" in note and "carry_code: true" in note for note in notes)
    assert not any("consolidated" in note or "README" in note for note in notes)


def test_code_comes_along_where_the_recipe_says_so(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = make_checkpoint("base", 0), furnish(make_checkpoint("model", 1), "5")
    out = merge(recipe(base, model, carry_code=True), tmp_path / "out").folder
    assert (out / "modeling_x.py").read_text() == "X = 1"
    assert json.loads((out / "config.json").read_text())["auto_map"] == AUTO
    assert "auto_map" in json.loads((out / "preprocessor_config.json").read_text())


def test_each_file_comes_from_the_donor_it_belongs_to(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base = furnish(make_checkpoint("base", 0), "3")
    model = furnish(make_checkpoint("model", 1), "5")
    template = tmp_path / "mine.jinja"
    template.write_text("mine")
    made = recipe(base, model, config="base", tokenizer="system2", chat_template=str(template))
    out = merge(made, tmp_path / "out").folder
    assert json.loads((out / "preprocessor_config.json").read_text()) == {"size": 3}
    assert not (out / "params.json").exists()  # it would describe another config
    assert not (out / "additional_chat_templates").exists()
    notes = json.loads((out / "run.json").read_text())["notes"]
    assert any("params.json" in note and "rag.jinja" in note for note in notes)


def test_code_of_another_repository_stays_named() -> None:
    assert without_code({"auto_map": {"AutoModel": "m.X"}, "a": 1}) == {"a": 1}
    assert without_code({"auto_map": {"AutoTokenizer": ["t.X", None]}}) == {}
    kept = {"auto_map": {"AutoModel": "org/repo--m.X"}}
    assert without_code(kept) == kept


@pytest.mark.parametrize(
    "name",
    ["chat_template.jinja", "merges.txt", "config.json", "model.safetensors", "notes.txt",
     "additional_chat_templates/x.jinja"],
)  # fmt: skip
def test_a_link_out_of_the_folder_is_refused_and_nothing_is_written(
    name: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    secret = tmp_path / "secret"
    path = model / name
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        path.rename(secret)
    else:
        secret.write_text("PRIVATE")
    path.symlink_to(secret)
    with pytest.raises(CheckpointError, match=r"is a link to .*secret, outside its folder"):
        merge(recipe(base, model), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_templates_that_is_a_link_is_refused(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    model = make_checkpoint("model", 1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.jinja").write_text("PRIVATE")
    (model / "additional_chat_templates").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="outside its folder"):
        open_checkpoint(model)


def test_links_inside_the_folder_and_to_folders_that_are_not_read_are_followed(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, model = make_checkpoint("base", 0), make_checkpoint("model", 1)
    (model / "template").write_text("linked")
    (model / "chat_template.jinja").unlink()
    (model / "chat_template.jinja").symlink_to("template")
    (tmp_path / "logs").mkdir()
    (model / "logs").symlink_to(tmp_path / "logs")
    alias = tmp_path / "alias"
    alias.symlink_to(model)
    out = merge(recipe(base, alias), tmp_path / "out").folder
    assert (out / "chat_template.jinja").read_text() == "linked"
    assert not (out / "chat_template.jinja").is_symlink()


def test_the_hubs_cache_is_followed_and_a_link_past_its_blobs_is_not(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    plain = make_checkpoint("plain", 1)
    repo = tmp_path / "hub" / "models--org--name"
    folder = repo / "snapshots" / "0123"
    folder.mkdir(parents=True)
    (repo / "blobs").mkdir()
    for number, file in enumerate(sorted(plain.iterdir())):
        file.rename(repo / "blobs" / str(number))
        (folder / file.name).symlink_to(f"../../blobs/{number}")
    assert open_checkpoint(folder).layers == 2
    secret = tmp_path / "hub" / "token"
    secret.write_text("PRIVATE")
    (folder / "merges.txt").symlink_to("../../../token")
    with pytest.raises(CheckpointError, match="token, outside its folder"):
        open_checkpoint(folder)


def test_an_adapters_weights_may_not_be_a_link_either(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    import torch

    base, adapter = make_checkpoint("base", 0), tmp_path / "adapter"
    adapter.mkdir()
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    weights = {f"{module}.lora_A.weight": torch.ones(2, 8),
               f"{module}.lora_B.weight": torch.ones(8, 2)}  # fmt: skip
    save_file(weights, tmp_path / "weights")
    assert load_file(tmp_path / "weights")
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    (adapter / "adapter_model.safetensors").symlink_to(tmp_path / "weights")
    for name in (f"{base}+{adapter}", str(adapter)):
        with pytest.raises(CheckpointError, match="outside its folder"):
            open_model(name)
    (adapter / "adapter_model.safetensors").unlink()
    (tmp_path / "weights").replace(adapter / "adapter_model.safetensors")
    assert open_model(str(adapter)).specs
