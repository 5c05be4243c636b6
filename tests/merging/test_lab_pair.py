"""The lab pair in the shapes of real pairs: merged, it loads in transformers and answers."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.layout import EMBED, HEAD
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe
from tests.cli.test_cli import PROBLEM
from tests.support.command import laconic

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow
#: Problems such as PROBLEM end in this.
ANSWER = "\\boxed{68}"


def copy(name: str, target: Path) -> Path:
    """A lab model's folder, to be changed."""
    return shutil.copytree(open_checkpoint(f"lab:{name}").folder, target)


def configure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def untie(folder: Path) -> None:
    held = load_file(folder / "model.safetensors")
    save_file({**held, HEAD: held[EMBED].clone()}, folder / "model.safetensors", {"format": "pt"})
    configure(folder, tie_word_embeddings=False)


def shard(folder: Path, parts: int = 3) -> None:
    held = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    homes: dict[str, str] = {}
    for i in range(parts):
        file = f"model-{i + 1:05}-of-{parts:05}.safetensors"
        part = {name: held[name] for name in sorted(held)[i::parts]}
        save_file(part, folder / file, {"format": "pt"})
        homes |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": homes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def shuffle(folder: Path) -> None:
    """Give every token another id, and every row with it: the same model in other numbers."""
    held = load_file(folder / "model.safetensors")
    rows = len(held[EMBED])
    held[EMBED] = held[EMBED].roll(5, dims=0)
    save_file(held, folder / "model.safetensors", {"format": "pt"})
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {token: (i + 5) % rows for token, i in vocabulary.items()}
    for token in tokenizer["added_tokens"]:
        token["id"] = (token["id"] + 5) % rows
    tokenizer["added_tokens"].sort(key=lambda token: token["id"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    configure(folder, eos_token_id=6, pad_token_id=5)
    stops = {"eos_token_id": 6, "pad_token_id": 5}
    (folder / "generation_config.json").write_text(json.dumps(stops))


def answer(folder: Path) -> str:
    """What a merged folder says to a problem, by transformers alone."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    chat = [{"role": "user", "content": PROBLEM}]
    asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    with torch.no_grad():
        said = model.generate(**asked, max_new_tokens=400, do_sample=False)
    assert said[0, -1] == tokenizer.eos_token_id
    return str(tokenizer.decode(said[0, asked["input_ids"].shape[1] :]))


VARIANTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], dict[str, Any]]] = {
    "as shipped": ((), (), {}),
    "sharded": (("shard",), ("shard",), {}),
    "base untied": (("untie",), (), {}),
    "system 2 untied and sharded": ((), ("untie", "shard"), {}),
    "other ids in the base": (("shuffle",), (), {"tokenizer": "system2"}),
    "other ids, the base's kept": ((), ("shuffle", "untie"), {"tokenizer": "base"}),
    "other ids in system 2, joined": ((), ("shuffle", "shard"), {"tokenizer": "union"}),
}


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_merged_pair_loads_with_window_template_and_stops_and_answers(
    kind: str, tmp_path: Path
) -> None:
    changes = {"untie": untie, "shard": shard, "shuffle": shuffle}
    of_base, of_system2, keys = VARIANTS[kind]
    base, system2 = copy("base", tmp_path / "base"), copy("system2", tmp_path / "system2")
    configure(base, max_position_embeddings=128)
    for folder, names in ((base, of_base), (system2, of_system2)):
        for name in names:
            changes[name](folder)
    wanted = Recipe(
        [str(system2)], "task_arithmetic", base=str(base), params={"scale": 0.9}, **keys
    )
    merged = merge(wanted, tmp_path / "merged", shard_bytes=300_000 if "shard" in kind else 10**9)
    assert merged.window == 1024
    template = (system2 / "chat_template.jinja").read_text()
    assert (merged.folder / "chat_template.jinja").read_text() == template
    assert merged.tied is ("untie" not in (*of_base, *of_system2))
    tokens = merged.vocabulary()
    stops = json.loads((merged.folder / "generation_config.json").read_text())
    for held in (stops, merged.config):
        assert tokens[held["eos_token_id"]] == "<|im_end|>"
        assert tokens[held["pad_token_id"]] == "<|pad|>"
    plain = merge(
        Recipe(["lab:system2"], "task_arithmetic", base="lab:base", params={"scale": 0.9}),
        tmp_path / "plain",
    )
    said = answer(merged.folder)
    assert said == answer(plain.folder)
    assert ANSWER in said


def test_a_union_with_a_new_token_reads_it_as_one_in_transformers(tmp_path: Path) -> None:
    base = copy("base", tmp_path / "base")
    tokenizer = json.loads((base / "tokenizer.json").read_text())
    held = load_file(base / "model.safetensors")
    rows = len(held[EMBED])
    held[EMBED] = torch.cat([held[EMBED], torch.full_like(held[EMBED][:1], 0.25)])
    save_file(held, base / "model.safetensors", {"format": "pt"})
    entry = {**tokenizer["added_tokens"][0], "id": rows, "content": "<|tool|>"}
    tokenizer["added_tokens"].append(entry)
    (base / "tokenizer.json").write_text(json.dumps(tokenizer))
    configure(base, vocab_size=rows + 1)
    flags = ("--base", "base", "--model", "lab:system2", "--method", "task_arithmetic")
    told = laconic("merge", *flags, "-o", "merged", cwd=tmp_path, code=2)
    assert "Add 'tokenizer: system2' (--tokenizer system2" in " ".join(told.stderr.split())
    laconic("merge", *flags, "--tokenizer", "union", "-o", "merged", cwd=tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert loaded("a<|tool|>b")["input_ids"][1] == rows
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert model.get_input_embeddings().weight.shape[0] == rows + 1
    assert model.get_input_embeddings().weight[rows].eq(0.25).all()
    assert ANSWER in answer(tmp_path / "merged")


MERGE = ("merge", "--base", "lab:base", "--model", "lab:system2", "--method", "ties", "-o", "out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*MERGE, "--tokenizer", "lab:systm2"), "Did you mean 'lab:system2'"),
        ((*MERGE, "--set", "config=nowhere"), "There is no folder nowhere"),
        ((*MERGE, "--set", "chat_template=none.jinja"), "none.jinja cannot be read"),
        ((*MERGE, "--model", "lab:system2+nowhere"), "There is no folder nowhere"),
        ((*MERGE, "--model", "lab:system2+broken"), "has no adapter_config.json"),
    ],
)
def test_wrong_donors_and_adapters_end_in_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    (tmp_path / "broken").mkdir()
    told = laconic(*arguments, cwd=tmp_path, code=2)
    assert message in " ".join(told.stderr.split())
    assert [p.name for p in tmp_path.iterdir()] == ["broken"]
