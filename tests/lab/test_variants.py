"""The variants of the shipped models: other files, the same function."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from laconic.checkpoints.checkpoint import Checkpoint
from laconic.checkpoints.layout import HEAD
from laconic.lab import VARIANTS, folder, tokenizer, write_variants

if TYPE_CHECKING:
    from pathlib import Path

TEXT = tokenizer.prompt("Work mod 100.\na=71\nb=a-9\nc=b*6\nc=?") + "<think>\nb=a-9=71-9=62\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_variants(tmp_path_factory.mktemp("variants") / "all")


def scores(model: Path) -> dict[str, float]:
    """The next token's scores by token string, as transformers reads the folder."""
    words: Any = AutoTokenizer.from_pretrained(model)
    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    ids = words.encode(TEXT, add_special_tokens=False, return_tensors="pt")
    assert words.decode(ids[0]) == TEXT
    with torch.inference_mode():
        last = network(ids).logits[0, -1]
    return {token: float(last[index]) for token, index in words.get_vocab().items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_loads_and_computes_what_its_original_computes(name: str, written: Path) -> None:
    mine, original = scores(written / name), scores(folder(VARIANTS[name][0]))
    assert original.keys() <= mine.keys()
    assert max(mine, key=lambda token: mine[token]) == max(original, key=lambda t: original[t])
    for token, score in original.items():
        assert mine[token] == pytest.approx(score, abs=1e-4)


def test_each_variant_is_the_trap_it_stands_for(written: Path) -> None:
    found = {name: Checkpoint(written / name) for name in VARIANTS}
    original = Checkpoint(folder("system2"))
    assert HEAD in found["system2-untied"].specs
    assert not found["system2-untied"].tied
    assert len(list((written / "system2-sharded").glob("*.safetensors"))) > 2
    assert found["system2-sharded"].specs.keys() == original.specs.keys()
    assert found["system2-llama"].config["model_type"] == "llama"
    assert found["base-short-window"].window == 256
    other = found["system2-other-vocabulary"]
    assert other.config["vocab_size"] == tokenizer.SIZE + 5
    strings = original.vocabulary()
    assert {*other.vocabulary().values()} > {*strings.values()}
    assert sum(other.vocabulary()[i] != token for i, token in strings.items()) > 200


def test_the_other_vocabulary_ends_its_turn_with_its_own_token(written: Path) -> None:
    model = written / "system2-other-vocabulary"
    words: Any = AutoTokenizer.from_pretrained(model)
    config = json.loads((model / "generation_config.json").read_text())
    assert config["eos_token_id"] == words.convert_tokens_to_ids("<|im_end|>") == words.eos_token_id
    assert words.eos_token_id != tokenizer.WHOLE[tokenizer.END]
