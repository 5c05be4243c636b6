"""Inputs that make other tools fail silently: here the right result, or one sentence and exit 2.

A killed merge, its second run and a full disk are in test_merge.py and in the engine's own tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from laconic.checkpoints.checkpoint import Checkpoint
from laconic.cli import main
from laconic.errors import CheckpointError
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe
from tests.conftest import MakeCheckpoint, tensors

if TYPE_CHECKING:
    from pathlib import Path

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
UP = "model.layers.0.mlp.up_proj.weight"
SHARD = "model-00001-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass
class World:
    """A base, a System-2 model of two shards, and what a user would write about them."""

    make: MakeCheckpoint
    folder: Path
    base: Path
    model: Path
    values: dict[str, Any]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def weights(self, path: Path) -> dict[str, torch.Tensor]:
        return {n: t for file in path.glob("*.safetensors") for n, t in load_file(file).items()}

    def say(self, **change: Any) -> Self:
        """Change what the recipe says."""
        self.values |= change
        return self

    def rewrite(self, path: Path, **change: torch.Tensor | None) -> Self:
        """Save a checkpoint again, as one file, with some tensors changed or left out."""
        held: dict[str, Any] = {**self.weights(path), **change}
        for file in path.glob("model*"):
            file.unlink()
        save_file({n: t for n, t in held.items() if t is not None}, path / "model.safetensors")
        return self

    def configure(self, path: Path, **change: Any) -> Self:
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, **change}))
        return self

    def without_base(self, method: str = "average") -> Self:
        del self.values["base"], self.values["params"]
        self.values |= {"method": method, "models": [str(self.base), str(self.model)]}
        self.values["system2"] = str(self.model)
        return self


@pytest.fixture
def world(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> World:
    base, model = make_checkpoint("base", 0), make_checkpoint("system2", 1, shards=2)
    values: dict[str, Any] = {"base": str(base), "models": [str(model)], "method": "ties"}
    values["params"] = {"density": 0.5}
    return World(make_checkpoint, tmp_path, base, model, values)


def run(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *flags: str
) -> tuple[int, str]:
    """The command line on the world's recipe: its exit code and what it says on stderr."""
    path = world.folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(world.values))
    command = ["laconic", "merge", str(path), "-o", str(world.out), *flags]
    monkeypatch.setattr(sys, "argv", command)
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0), " ".join(capsys.readouterr().err.split())
    return 0, " ".join(capsys.readouterr().err.split())


REFUSED: dict[str, tuple[Callable[[World], object], str]] = {
    "a tensor is missing, index consistent": (
        lambda w: w.rewrite(w.model, **{UP: None}),
        rf"base has a tensor '{UP}' \(1 extra\) that .*system2 has not",
    ),
    "a tensor is missing, the index says it is there": (
        lambda w: strip(w.model / SHARD),
        rf"says that {SHARD} holds '.*', but it does not",
    ),
    "an extra tensor in System 2": (
        lambda w: w.rewrite(w.model, **{"model.extra.weight": torch.zeros(2)}),
        "base has no tensor 'model.extra.weight'",
    ),
    "a larger vocabulary in System 2": (
        lambda w: grow(w, w.model, 16),
        rf"'{EMBED}' is \[12, 8\] in .*base and \[16, 8\] in .*system2",
    ),
    "a smaller vocabulary in System 2": (
        lambda w: grow(w, w.model, 10),
        rf"'{EMBED}' is \[12, 8\] in .*base and \[10, 8\] in .*system2",
    ),
    "vocabularies differ, average without a base": (
        lambda w: (grow(w, w.model, 16), w.without_base()),
        rf"'{EMBED}' is \[12, 8\] in .*base and \[16, 8\] in .*system2",
    ),
    "another shape, task vectors": (
        lambda w: w.rewrite(w.model, **{UP: torch.zeros(4, 8)}),
        rf"'{UP}' is \[16, 8\] in .*base and \[4, 8\] in .*system2",
    ),
    "another shape, average": (
        lambda w: (w.rewrite(w.model, **{UP: torch.zeros(4, 8)}), w.without_base()),
        rf"'{UP}' is \[16, 8\] in .*base and \[4, 8\] in .*system2",
    ),
    "another shape, slerp": (
        lambda w: (
            w.rewrite(w.model, **{UP: torch.zeros(4, 8)}),
            w.without_base("slerp"),
        ),
        rf"'{UP}' is \[16, 8\] in .*base and \[4, 8\] in .*system2",
    ),
    "NaN in System 2": (
        lambda w: w.rewrite(w.model, **{UP: torch.full((16, 8), float("nan"))}),
        rf"'{UP}' of .*system2 holds NaN or Inf",
    ),
    "Inf in System 2, DARE first": (
        lambda w: (
            w.rewrite(w.model, **{UP: torch.full((16, 8), float("inf"))}),
            w.say(before=["dare"]),
        ),
        rf"'{UP}' of .*system2 holds NaN or Inf",
    ),
    "half a shard": (
        lambda w: os.truncate(w.model / SHARD, (w.model / SHARD).stat().st_size // 2),
        f"{SHARD} is damaged: ",
    ),
    "a shard short of a byte": (
        lambda w: os.truncate(w.model / SHARD, (w.model / SHARD).stat().st_size - 1),
        f"{SHARD} is damaged: it has .* bytes, its header needs",
    ),
    "an index that is not JSON": (
        lambda w: (w.model / INDEX).write_text("{"),
        f"{INDEX} is damaged: it is not JSON",
    ),
    "an index that names a missing file": (
        lambda w: (w.model / SHARD).unlink(),
        f"{SHARD}, which {INDEX} names, is missing from .*system2",
    ),
    "a tensor in two shards": (
        lambda w: put_into_both_shards(w.model),
        f"is in {SHARD} and in model-00002-of-00002.safetensors of .*system2",
    ),
    "an output folder with an older, sharded merge": (
        lambda w: w.make("out", 5, shards=2),
        "out already exists and is not empty",
    ),
    "an output folder with an older, single file": (
        lambda w: w.make("out", 5),
        "out already exists and is not empty",
    ),
    "the recipe changed, the output exists": (
        lambda w: (
            merge(Recipe.from_dict({**w.values, "params": {"density": 0.1}}), w.out),
            w.values,
        ),
        "out already exists and is not empty",
    ),
    "a value too large for float16": (
        lambda w: (
            w.rewrite(w.model, **{UP: torch.full((16, 8), 1e5)}),
            w.say(dtype="float16"),
        ),
        rf"The merged '{UP}' is not finite: its values do not fit float16",
    ),
    "dtype bf16": (
        lambda w: w.say(dtype="bf16"),
        "dtype 'bf16': Did you mean 'bfloat16'",
    ),
    "the method misspelt": (
        lambda w: w.say(method="tise"),
        "No method 'tise'. Did you mean 'ties'",
    ),
    "densty": (
        lambda w: w.say(params={"densty": 0.2}),
        "method 'ties' has no 'densty'. Did you mean 'density'",
    ),
    "wieght": (
        lambda w: w.say(models=[{"model": str(w.model), "wieght": 1}]),
        r"models: write a name or \{model: NAME, weight: NUMBER\}, got .*wieght",
    ),
    "dtpye": (
        lambda w: w.say(dtpye="float16"),
        "A recipe has no key 'dtpye'. Did you mean 'dtype'",
    ),
    "base_modle": (
        lambda w: w.say(base_modle=w.values.pop("base")),
        "A recipe has no key 'base_modle'",
    ),
    "ties without a base": (
        lambda w: w.values.pop("base"),
        "ties needs a base",
    ),
    "dare without a base": (
        lambda w: (w.without_base(), w.say(before=["dare"])),
        "dare works on task vectors, and without a base there are none",
    ),
    "an override that matches nothing": (
        lambda w: w.say(overrides=[{"match": "*.mpl.*", "params": {"scale": 0.5}}]),
        r"no tensor matches '\*\.mpl\.\*'",
    ),
    "density 0": (
        lambda w: w.say(params={"density": 0}),
        r"ties.density must be a number in \(0, 1\], got 0",
    ),
    "density 80": (
        lambda w: w.say(params={"density": 80}),
        r"ties.density must be a number in \(0, 1\], got 80",
    ),
    "scale is not a number": (
        lambda w: w.say(params={"scale": float("nan")}),
        "ties.scale must be a number, got nan",
    ),
    "weight: abc": (
        lambda w: w.say(models=[{"model": str(w.model), "weight": "abc"}]),
        "The weight of .*system2 must be a number, got 'abc'",
    ),
    "weights that sum to 0": (
        lambda w: (
            w.without_base(),
            w.say(
                models=[
                    {"model": str(w.base), "weight": -1},
                    {"model": str(w.model), "weight": 1},
                ]
            ),
        ),
        "average: the models' weights sum to 0",
    ),
    "a model path that is not there": (
        lambda w: w.say(models=[str(w.folder / "sytsem2")]),
        "There is no folder .*sytsem2. Give a checkpoint folder",
    ),
    "other layer counts": (
        lambda w: w.configure(w.model, num_hidden_layers=3),
        "cannot be merged: num_hidden_layers is 2 in one config and 3 in the other",
    ),
    "fewer layers than the configs say": (
        lambda w: [w.configure(path, num_hidden_layers=3) for path in (w.base, w.model)],
        "has weights for 2 layers, yet its config says num_hidden_layers is 3",
    ),
    "a config whose vocabulary is not the file's": (
        lambda w: w.configure(w.model, vocab_size=64),
        rf"'{EMBED}' of .*system2 is \[12, 8\], yet its config says vocab_size is 64",
    ),
    "other rotary settings": (
        lambda w: w.configure(w.model, rope_theta=1e6),
        "rotate positions differently",
    ),
    "other head widths": (
        lambda w: w.configure(w.model, head_dim=2),
        "the width of an attention head is 4 in one config and 2 in the other",
    ),
    "average without a base: which model gives the config?": (
        lambda w: (w.without_base(), w.values.pop("system2")),
        "Which model is System 2",
    ),
    "a chat template asked for by a name": (
        lambda w: w.say(chat_template="chatlm"),
        "There is no folder chatlm",
    ),
    "an untied checkpoint without its head": (
        lambda w: w.configure(w.model, tie_word_embeddings=False),
        f"system2 has no '{HEAD}', yet its config says the head is not tied",
    ),
    "weights that need unpickling": (
        lambda w: (
            [file.rename(file.with_suffix(".old")) for file in w.model.glob("model*")],
            (w.model / "pytorch_model.bin").write_bytes(b"x"),
        ),
        "has its weights as pytorch_model.bin only",
    ),
}


def strip(file: Path) -> str:
    held = load_file(file)
    name, _ = held.popitem()
    save_file(held, file)
    return name


def grow(world: World, path: Path, rows: int) -> World:
    return world.configure(path, vocab_size=rows).rewrite(
        path, **{EMBED: torch.zeros(rows, 8, dtype=torch.bfloat16)}
    )


def put_into_both_shards(path: Path) -> Path:
    first, second = sorted(path.glob("*.safetensors"))
    save_file({**load_file(first), **load_file(second)}, second)
    return second


@pytest.mark.parametrize("row", REFUSED)
def test_what_cannot_be_merged_ends_in_one_sentence_and_leaves_nothing(
    row: str,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrange, message = REFUSED[row]
    arrange(world)
    before = {p: p.read_bytes() for p in world.out.glob("*")}
    code, told = run(world, monkeypatch, capsys)
    assert code == 2, told
    assert re.search(message, told), told
    assert {p: p.read_bytes() for p in world.out.glob("*")} == before
    assert not list(world.folder.glob(".out*"))


def midway(world: World, base: Mapping[str, torch.Tensor] | None = None) -> bool:
    """Whether the output is half of the way from the base to System 2, rounded once."""
    zero = base or world.weights(world.base)
    one, merged = world.weights(world.model), world.weights(world.out)
    return all(
        torch.equal(t, (zero[n].float() + 0.5 * (one[n].float() - zero[n].float())).to(t.dtype))
        for n, t in merged.items()
        if n != HEAD
    )


def types(world: World) -> set[str]:
    return {spec.dtype for spec in Checkpoint(world.out).specs.values()}


def config(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world.out / "config.json").read_text())
    return found


def arithmetic(world: World, **params: Any) -> World:
    return world.say(method="task_arithmetic", params={"scale": 0.5, **params})


def half_precision(world: World) -> World:
    return world.rewrite(
        world.model, **{n: t.half() for n, t in world.weights(world.model).items()}
    )


def untie(world: World, path: Path) -> World:
    world.rewrite(path, **{HEAD: torch.full((12, 8), 0.5, dtype=torch.bfloat16)})
    return world.configure(path, tie_word_embeddings=False)


def kept(world: World) -> set[str]:
    return {p.name for p in world.out.iterdir()}


RIGHT: dict[str, tuple[Callable[[World], object], Callable[[World], bool], str]] = {
    "float16 System 2, bfloat16 base: System 2's type": (
        lambda w: (half_precision(w), arithmetic(w)),
        lambda w: types(w) == {"F16"} and midway(w),
        "The stored type is bfloat16 in .*base and float16 in .*system2: the result takes float16",
    ),
    "float16 and bfloat16, average: System 2's type": (
        lambda w: (half_precision(w), w.without_base()),
        lambda w: types(w) == {"F16"} and midway(w),
        "the result takes float16",
    ),
    "dtype float32: the file and its config say so": (
        lambda w: (arithmetic(w), w.say(dtype="float32")),
        lambda w: types(w) == {"F32"} and midway(w) and config(w)["dtype"] == "float32",
        "",
    ),
    "a tied base, an untied System 2": (
        lambda w: (untie(w, w.model), arithmetic(w)),
        lambda w: (
            not config(w)["tie_word_embeddings"]
            and midway(w)
            and torch.equal(
                w.weights(w.out)[HEAD], (0.5 * (tensors(0)[EMBED].float() + 0.5)).bfloat16()
            )
        ),
        "the result has a head of its own",
    ),
    "an untied base, a tied System 2": (
        lambda w: (untie(w, w.base), arithmetic(w)),
        lambda w: (
            not config(w)["tie_word_embeddings"]
            and midway(w)
            and torch.equal(
                w.weights(w.out)[HEAD], (0.5 * (tensors(1)[EMBED].float() + 0.5)).bfloat16()
            )
        ),
        "the result has a head of its own",
    ),
    "a model_type that transformers does not know": (
        lambda w: (
            [w.configure(p, model_type="new", architectures=["New"]) for p in (w.base, w.model)]
            and arithmetic(w)
        ),
        lambda w: midway(w) and config(w)["model_type"] == "new",
        "",
    ),
    "architectures: null": (
        lambda w: [w.configure(p, architectures=None) for p in (w.base, w.model)] and arithmetic(w),
        midway,
        "",
    ),
    "a density that keeps less than one entry of a bias": (
        lambda w: w.say(params={"density": 0.01}),
        lambda w: all(
            (t != w.weights(w.base)[n]).sum() <= max(1, t.numel() // 100)
            for n, t in w.weights(w.out).items()
        ),
        "",
    ),
    "average with a base: said, and the mean all the same": (
        lambda w: (w.without_base(), w.say(base=str(w.base))),
        midway,
        "The base has no effect on average",
    ),
    "average of one model: the weight that cancels is said": (
        lambda w: (
            w.without_base(),
            w.say(models=[{"model": str(w.model), "weight": 0.7}]),
        ),
        lambda w: same(w.weights(w.out), w.weights(w.model)),
        "average divides by the sum of the weights: the weight 0.7 of .*system2 cancels",
    ),
    "average without a base: config, template and tokenizer from the named System 2": (
        lambda w: w.without_base(),
        lambda w: (w.out / "chat_template.jinja").read_text() == "template of system2",
        "",
    ),
    "another tokenizer donor: nothing is left behind": (
        lambda w: (
            (w.base / "special_tokens_map.json").write_text("{}"),
            w.say(tokenizer=str(w.base)),
        ),
        lambda w: (
            {"generation_config.json", "special_tokens_map.json", "tokenizer.json"} <= kept(w)
            and (w.out / "chat_template.jinja").read_text() == "template of base"
        ),
        "",
    ),
    "all the way to System 2 gives System 2 back": (
        lambda w: arithmetic(w, scale=1.0),
        lambda w: same(w.weights(w.out), w.weights(w.model)),
        "",
    ),
    "DARE without a seed: the same bytes in every run": (
        lambda w: (
            w.say(before=["dare"]),
            merge(Recipe.from_dict(w.values), w.folder / "first"),
        ),
        lambda w: same(w.weights(w.out), w.weights(w.folder / "first")),
        "",
    ),
    "the weight of one model in ties does not cancel": (
        lambda w: w.say(params={"density": 1.0}, models=[{"model": str(w.model), "weight": 0.5}]),
        midway,
        "",
    ),
    "a model that is the base": (
        lambda w: w.say(models=[str(w.base)]),
        lambda w: same(w.weights(w.out), w.weights(w.base)),
        "base equals the base in every tensor: it adds nothing",
    ),
    "the same model twice": (
        lambda w: w.say(models=[str(w.model)] * 2, system2=str(w.model)),
        lambda w: len(w.weights(w.out)) == 8,
        "are the same checkpoint",
    ),
    "a weight of 0": (
        lambda w: w.say(models=[{"model": str(w.model), "weight": 0}]),
        lambda w: same(w.weights(w.out), w.weights(w.base)),
        "system2 has weight 0: it adds nothing",
    ),
    "steps that change nothing": (
        lambda w: w.say(before=[{"dare": {"density": 1.0}}], params={"scale": 0.0}),
        lambda w: same(w.weights(w.out), w.weights(w.base)),
        "dare with density 1 changes nothing.* ties with scale 0 gives back the base",
    ),
    "an override that an earlier one hides": (
        lambda w: w.say(
            overrides=[
                {"match": "*", "params": {"scale": 0.5}},
                {"match": "*.mlp.*", "params": {"scale": 0.1}},
            ],
            params={"density": 1.0},
        ),
        midway,
        r"overrides, entry 1 \('\*\.mlp\.\*'\) has no effect",
    ),
    "token ids of other strings": (
        lambda w: (
            (w.model / "tokenizer.json").write_text(
                json.dumps({"model": {"vocab": {f"w{i}": i for i in range(11)} | {"<t>": 12}}})
            ),
            arithmetic(w),
        ),
        midway,
        r"1 token ids are tokens in .*base and unused in .*system2, such as 11 \('w11'\)",
    ),
    "another sliding window and another stop token": (
        lambda w: (w.configure(w.model, sliding_window=32, eos_token_id=3), arithmetic(w)),
        lambda w: midway(w) and config(w)["sliding_window"] == 32,
        "The sliding window is None in .*base and 32 in .*system2: the result takes 32",
    ),
}


def same(one: Mapping[str, torch.Tensor], two: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


@pytest.mark.parametrize("row", RIGHT)
def test_what_can_be_merged_comes_out_right_and_surprises_are_said(
    row: str,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arrange, is_right, message = RIGHT[row]
    arrange(world)
    code, told = run(world, monkeypatch, capsys)
    assert code == 0, told
    assert is_right(world)
    notes = " ".join(json.loads((world.out / "run.json").read_text())["notes"])
    assert re.search(message, notes), notes
    assert message or not notes


def test_a_dry_run_says_what_the_merge_would_and_writes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.values["before"] = [{"dare": {"density": 1.0}}]
    code, _ = run(world, monkeypatch, capsys, "--dry-run")
    assert code == 0
    assert not world.out.exists()
    assert not list(world.folder.glob(".out*"))


def test_a_disk_too_small_is_seen_before_the_first_byte(
    make_checkpoint: MakeCheckpoint, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(world.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=500))
    with pytest.raises(CheckpointError, match=r"has 500 bytes free, and .*out needs 1\.\d kB"):
        merge(Recipe.from_dict(world.values), world.out)
    assert not list(world.folder.glob(".out*"))


def test_run_json_says_which_bytes_were_merged(world: World) -> None:
    recipe = Recipe.from_dict(world.values)
    plain = merge(recipe, world.folder / "plain")
    hashed = merge(recipe, world.folder / "hashed", hash_inputs=True)
    one, two = (json.loads((m.folder / "run.json").read_text())["inputs"] for m in (plain, hashed))
    file = world.base / "model.safetensors"
    known = one[str(world.base)]["files"]["model.safetensors"]
    assert known["bytes"] == file.stat().st_size
    assert datetime.fromisoformat(known["changed"]).timestamp() == pytest.approx(
        file.stat().st_mtime, abs=1e-5
    )
    assert len(known["header"]) == 16
    assert set(one[str(world.model)]["files"]) == {SHARD, SHARD.replace("1-of", "2-of")}
    assert "sha256" not in known
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    assert two[str(world.base)]["files"]["model.safetensors"]["sha256"] == sha
