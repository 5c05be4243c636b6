"""LoRA adapters as checkpoints: the same numbers as peft's, and every misfit refused by name."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from laconic.checkpoints.adapter import open_model
from laconic.checkpoints.layout import EMBED, HEAD
from laconic.errors import CheckpointError
from laconic.merging.merge import merge
from laconic.merging.plan import plan
from laconic.merging.recipe import Recipe
from tests.conftest import MakeCheckpoint, tensors

if TYPE_CHECKING:
    from pathlib import Path

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft", reason="peft is the oracle; it is in the dev extra")

Q = "model.layers.0.self_attn.q_proj"


def qwen(folder: Path, *, tied: bool = True, dtype: torch.dtype = torch.float32) -> Path:
    """A tiny Qwen2 as transformers saves it."""
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=20,
        tie_word_embeddings=tied,
    )
    model: Any = Qwen2ForCausalLM(config)
    model.to(dtype=dtype)
    model.save_pretrained(folder)
    return folder


def adapt(base: Path, folder: Path, **settings: Any) -> PreTrainedModel:
    """Put a random adapter on a base, save it, and give the model that peft merges."""
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base)
        adapted = peft.get_peft_model(model, peft.LoraConfig(**settings))
        with torch.no_grad():
            for parameter in adapted.parameters():
                if parameter.requires_grad:
                    parameter += torch.randn_like(parameter) * 0.1
        adapted.save_pretrained(folder)
        merged: PreTrainedModel = adapted.merge_and_unload()
    return merged


def assert_equal(ours: str, theirs: PreTrainedModel, *, tolerance: float = 1e-6) -> None:
    """Every parameter of peft's merged model has the value that our checkpoint reads."""
    opened = open_model(ours)
    checked = 0
    for name, value in theirs.state_dict().items():
        if name in opened.specs:
            read = opened.read(name).float()
            assert torch.allclose(read, value.float(), rtol=tolerance, atol=tolerance), name
            checked += 1
    assert checked == len(opened.specs)


SETTINGS = {
    "plain": {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "down_proj"]},
    "all linear": {"r": 2, "target_modules": "all-linear"},
    "rank stabilised": {"r": 4, "lora_alpha": 6, "use_rslora": True, "target_modules": ["v_proj"]},
    "patterns": {
        "r": 2,
        "lora_alpha": 3,
        "rank_pattern": {"layers.1.self_attn.q_proj": 5},
        "alpha_pattern": {"^model.layers.0.*k_proj": 7},
        "target_modules": ["q_proj", "k_proj"],
    },
    "saved modules": {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["norm"]},
    "biases": {"r": 2, "target_modules": ["q_proj"], "bias": "all"},
    "biases of its own": {"r": 2, "target_modules": ["q_proj"], "bias": "lora_only"},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_an_adapter_reads_as_what_peft_merges(kind: str, tmp_path: Path) -> None:
    base = qwen(tmp_path / "base")
    theirs = adapt(base, tmp_path / "adapter", **SETTINGS[kind])
    assert_equal(f"{base}+{tmp_path / 'adapter'}", theirs)
    assert_equal(str(tmp_path / "adapter"), theirs)


def test_an_untied_models_embedding_and_head_are_adapted_too(tmp_path: Path) -> None:
    base = qwen(tmp_path / "base", tied=False)
    modules = ["embed_tokens", "lm_head", "q_proj"]
    theirs = adapt(base, tmp_path / "lora", r=3, target_modules=modules)
    assert_equal(f"{base}+{tmp_path / 'lora'}", theirs)
    saved = ["embed_tokens", "lm_head"]
    theirs = adapt(base, tmp_path / "saved", target_modules=["q_proj"], modules_to_save=saved)
    assert_equal(f"{base}+{tmp_path / 'saved'}", theirs)


def test_weights_stored_transposed_are_adapted_transposed(tmp_path: Path) -> None:
    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=20, n_positions=8)
    base = tmp_path / "base"
    GPT2LMHeadModel(config).save_pretrained(base)
    theirs = adapt(base, tmp_path / "adapter", target_modules=["c_attn"], fan_in_fan_out=True)
    assert_equal(f"{base}+{tmp_path / 'adapter'}", theirs)


def test_a_bfloat16_base_is_added_to_in_float32_and_stored_as_it_was(tmp_path: Path) -> None:
    base = qwen(tmp_path / "base", dtype=torch.bfloat16)
    theirs = adapt(base, tmp_path / "adapter", target_modules=["q_proj"])
    name = f"{base}+{tmp_path / 'adapter'}"
    assert_equal(name, theirs, tolerance=2**-7)
    assert open_model(name).specs[f"{Q}.weight"].dtype == "F32"
    assert {s.dtype for s in plan(Recipe([name], "average")).specs} == {"BF16"}


@pytest.mark.slow
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 1.4])
def test_an_adapter_at_a_scale_is_what_peft_merges_at_it(scale: float, tmp_path: Path) -> None:
    base = qwen(tmp_path / "base")
    adapt(base, tmp_path / "adapter", r=2, lora_alpha=3, target_modules="all-linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base)
        theirs = peft.PeftModel.from_pretrained(model, tmp_path / "adapter")
        for module in theirs.modules():
            if isinstance(module, peft.tuners.lora.Linear):
                module.scale_layer(scale)
        theirs = theirs.merge_and_unload()
    recipe = Recipe(
        [f"{base}+{tmp_path / 'adapter'}"],
        "task_arithmetic",
        base=str(base),
        params={"scale": scale},
    )
    merge(recipe, tmp_path / "scaled")
    assert_equal(str(tmp_path / "scaled"), theirs)
    same = (theirs.state_dict()[f"{Q}.weight"] == open_model(str(base)).read(f"{Q}.weight")).all()
    assert bool(same) is (scale == 0)


def test_two_adapters_stack(tmp_path: Path) -> None:
    base = qwen(tmp_path / "base")
    first = adapt(base, tmp_path / "first", target_modules=["q_proj"])
    first.save_pretrained(tmp_path / "merged")
    theirs = adapt(tmp_path / "merged", tmp_path / "second", target_modules=["q_proj", "v_proj"])
    assert_equal(f"{base}+{tmp_path / 'first'}+{tmp_path / 'second'}", theirs)


def test_a_merge_with_an_adapter_is_a_merge_with_what_it_makes(tmp_path: Path) -> None:
    base = qwen(tmp_path / "base")
    adapt(base, tmp_path / "adapter", target_modules=["q_proj"], lora_alpha=5).save_pretrained(
        tmp_path / "merged"
    )
    values: dict[str, Any] = {"method": "task_arithmetic", "params": {"scale": 0.5}}
    ours = merge(
        Recipe([f"{base}+{tmp_path / 'adapter'}"], base=str(base), **values), tmp_path / "ours"
    )
    theirs = merge(Recipe([str(tmp_path / "merged")], base=str(base), **values), tmp_path / "other")
    for name in theirs.specs:
        assert torch.allclose(ours.read(name), theirs.read(name), atol=1e-6), name
    told = json.loads((tmp_path / "ours" / "run.json").read_text())
    assert any("+" in name for name in told["inputs"])


@pytest.mark.parametrize(
    ("settings", "tied"),
    [
        ({"target_modules": ["embed_tokens"]}, False),
        ({"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}, False),
        ({"target_modules": ["embed_tokens", "q_proj"], "ensure_weight_tying": True}, True),
        ({"target_modules": ["lm_head"]}, False),
    ],
    ids=["embedding", "saved embedding", "both, tied", "head"],
)
def test_a_tied_base_computes_what_it_did_under_the_adapter(
    settings: dict[str, Any], tied: bool, tmp_path: Path
) -> None:
    base = qwen(tmp_path / "base")
    torch.manual_seed(1)
    words = torch.arange(20).reshape(2, 10)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base)
        adapted = peft.get_peft_model(model, peft.LoraConfig(**settings))
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += torch.randn_like(parameter) * 0.1
        adapted.save_pretrained(tmp_path / "adapter")
        # Not merge_and_unload: peft adds an embedding's change to the head that shares its weight.
        wanted = adapted.eval()(words).logits
        merged = merge(Recipe([f"{base}+{tmp_path / 'adapter'}"], "average"), tmp_path / "out")
        loaded: Any = AutoModelForCausalLM.from_pretrained(merged.folder)
        made = loaded(words).logits
    assert torch.allclose(made, wanted, atol=1e-5)
    assert merged.tied is tied
    assert merged.config["tie_word_embeddings"] is tied


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj", "embed_tokens"]},
    ],
    ids=["rows alone", "saved modules", "both adapted", "embedding adapted"],
)
def test_a_resized_vocabulary_computes_what_it_did_under_the_adapter(
    settings: dict[str, Any], tied: bool, tmp_path: Path
) -> None:
    base = qwen(tmp_path / "base", tied=tied)
    torch.manual_seed(1)
    words = torch.arange(26).reshape(2, 13)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model: Any = AutoModelForCausalLM.from_pretrained(base)
        model.resize_token_embeddings(26, mean_resizing=False)
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, **settings))
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += torch.randn_like(parameter) * 0.1
        adapted.save_pretrained(tmp_path / "adapter")
        name = f"{base}+{tmp_path / 'adapter'}"
        if not tied and settings["target_modules"] == ["q_proj", "embed_tokens"]:
            # peft does not save the head's new rows: what the model computed is lost.
            with pytest.raises(CheckpointError, match=r"26 rows and 'lm_head.weight' has 20"):
                open_model(name)
            return
        wanted = adapted.eval()(words).logits
        merged = merge(Recipe([name], "average"), tmp_path / "out")
        loaded: Any = AutoModelForCausalLM.from_pretrained(merged.folder)
        assert loaded.config.vocab_size == 26
        assert torch.allclose(loaded(words).logits, wanted, atol=1e-5)


HUB = {
    "llava": ("language_model.model.layers.0", "vision_tower.vision_model.encoder.layers.0"),
    "qwen": ("model.layers.0", "visual.blocks.0"),
    "transformers": ("model.language_model.layers.0", "model.vision_tower.encoder.layers.0"),
}


@pytest.mark.parametrize("stored", HUB)
@pytest.mark.parametrize("adapted", ["transformers", "llava"])
def test_an_adapter_of_a_model_with_a_tower_fits_any_layout_of_it(
    stored: str, adapted: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    text, tower = HUB[stored]
    zero = torch.zeros(8, 8)
    weights = {f"{text}.self_attn.q_proj.weight": zero, f"{tower}.attn.weight": zero + 1}
    base = make_checkpoint("base", weights)
    module = f"{HUB[adapted][0]}.self_attn.q_proj"
    opened = open_model(f"{base}+{write_adapter(tmp_path / 'adapter', lora(module=module))}")
    assert torch.equal(opened.read(f"{text}.self_attn.q_proj.weight"), zero + 4)
    assert torch.equal(opened.read(f"{tower}.attn.weight"), zero + 1)
    assert set(opened.specs) == set(weights)


def test_a_tower_and_the_text_model_are_not_taken_for_one_another(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    zero = torch.zeros(8, 8)
    both = {"model.layers.0.q.weight": zero, "language_model.layers.0.q.weight": zero.clone()}
    base = make_checkpoint("base", both)
    adapter = write_adapter(tmp_path / "adapter", lora(module="model.language_model.layers.0.q"))
    with pytest.raises(CheckpointError, match=r"which .* does not have"):
        open_model(f"{base}+{adapter}")


def test_paths_may_hold_plus_signs(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    base = make_checkpoint("c++", 0)
    (tmp_path / "a+b").mkdir()
    one = write_adapter(tmp_path / "a+b" / "one+two", lora())
    two = write_adapter(tmp_path / "x+", lora())
    assert open_model(str(base)).layers == 2
    for name, added in ((f"{base}+{one}", 4), (f"{base}+{two}", 4), (f"{base}+{one}+{two}", 8)):
        read = open_model(name).read(f"{Q}.weight")
        assert torch.equal(read, tensors(0)[f"{Q}.weight"].float() + added)
    with pytest.raises(CheckpointError, match="There is no folder"):
        open_model(f"{base}+{tmp_path / 'a+b' / 'three'}")


def lora(rows: int = 8, columns: int = 8, rank: int = 2, module: str = Q) -> dict[str, Tensor]:
    head = f"base_model.model.{module}"
    return {
        f"{head}.lora_A.weight": torch.ones(rank, columns),
        f"{head}.lora_B.weight": torch.ones(rows, rank),
    }


def write_adapter(folder: Path, weights: dict[str, Tensor], **settings: Any) -> Path:
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    held = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, **settings}
    (folder / "adapter_config.json").write_text(json.dumps(held))
    return folder


def test_the_sum_worked_out_by_hand(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    base = make_checkpoint("base", 0)
    adapter = write_adapter(tmp_path / "adapter", lora())
    opened = open_model(f"{base}+{adapter}")
    # alpha 4 over rank 2 is scale 2; ones (8 x 2) times ones (2 x 8) is 2 everywhere.
    assert torch.equal(opened.read(f"{Q}.weight"), tensors(0)[f"{Q}.weight"].float() + 4)
    assert opened.fingerprint != open_model(base).fingerprint
    assert opened.window == 64


def test_an_embedding_and_a_head_saved_twice_stay_tied(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base, new = make_checkpoint("base", 0), torch.ones(14, 8)
    both = {f"base_model.model.{name}": new.clone() for name in (EMBED, HEAD)}
    opened = open_model(f"{base}+{write_adapter(tmp_path / 'twice', both)}")
    assert opened.tied
    assert opened.specs[EMBED].shape == (14, 8)
    assert HEAD not in opened.specs
    both[f"base_model.model.{HEAD}"] += 1
    opened = open_model(f"{base}+{write_adapter(tmp_path / 'apart', both)}")
    assert not opened.tied
    assert torch.equal(opened.read(HEAD), new + 1)


def test_an_adapters_own_tokenizer_and_a_foreign_base_are_seen(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base = make_checkpoint("base", 0)
    adapter = write_adapter(tmp_path / "adapter", lora(), base_model_name_or_path="org/another")
    (adapter / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"own": 0}}}))
    opened = open_model(f"{base}+{adapter}")
    assert dict(opened.vocabulary()) == {0: "own"}
    (note,) = opened.notes
    assert "trained on org/another" in note


@pytest.mark.parametrize(
    ("weights", "settings", "message"),
    [
        (lora(), {"peft_type": "IA3"}, "an adapter of type 'IA3'; only plain LoRA"),
        (lora(), {"use_dora": True}, "is DoRA; only plain LoRA"),
        (lora(), {"layer_replication": [[0, 2]]}, "is layer replication"),
        (lora(), {"init_lora_weights": "pissa"}, "'pissa', which changes the base's weights"),
        (lora(), {"r": 3}, "has rank 2, but adapter_config.json says 3"),
        (lora(), {"lora_alpha": "x"}, "lora_alpha of 'model.layers.0.self_attn.q_proj' is 'x'"),
        (lora(), {"rank_pattern": {"(": 3}}, "is damaged: rank_pattern"),
        (lora(rows=9), {}, r"\[9, 2\] x \[2, 8\]\) does not fit .* is \[8, 8\]"),
        (lora(module="model.layers.0.self_attn.q_prj"), {}, "Did you mean 'model.layers.0.self"),
        (lora(module="model.layers.7.self_attn.q_proj"), {}, "changes 'model.layers.7"),
        (dict([*lora().items()][:1]), {}, "one half of the LoRA"),
        ({f"base_model.model.{Q}.weight": torch.ones(8, 9)}, {}, "trained on another base"),
        ({f"base_model.model.{Q}.weight": torch.ones(8, 8).int()}, {}, "has type I32"),
        ({f"base_model.model.{Q}.lora_magnitude_vector": torch.ones(8)}, {}, "does not have"),
        ({}, {}, "changes nothing"),
    ],
)
def test_an_adapter_that_cannot_be_right_is_refused(
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
    weights: dict[str, Tensor],
    settings: dict[str, Any],
    message: str,
) -> None:
    base = make_checkpoint("base", 0)
    adapter = write_adapter(tmp_path / "adapter", weights, **settings)
    recipe = Recipe([f"{base}+{adapter}"], "task_arithmetic", base=str(base))
    with pytest.raises(CheckpointError, match=message):
        merge(recipe, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "base"]


def test_a_folder_that_holds_no_whole_adapter_is_refused(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    base = make_checkpoint("base", 0)
    with pytest.raises(CheckpointError, match=r"has no adapter_config.json"):
        open_model(f"{base}+{base}")
    with pytest.raises(CheckpointError, match="There is no folder nowhere"):
        open_model(f"{base}+nowhere")
    adapter = write_adapter(tmp_path / "adapter", lora())
    with pytest.raises(CheckpointError, match=r"base cannot be opened: .* names no base"):
        open_model(adapter)
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="its header needs"):
        open_model(f"{base}+{adapter}")
    weights.rename(adapter / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="weights_only=True"):
        open_model(f"{base}+{adapter}")
    (adapter / "adapter_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"no adapter_model.safetensors"):
        open_model(f"{base}+{adapter}")
