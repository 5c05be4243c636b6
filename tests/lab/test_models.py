"""The shipped family: it loads with transformers, answers, and is what its record says."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from laconic.backends.contract.decoding import using_threads
from laconic.errors import LaconicError
from laconic.lab import corpus, family, folder, members, tokenizer, write
from laconic.lab.phases import PHASES
from laconic.lab.sizes import size_of
from laconic.tasks.contract.arithmetic import chains

if TYPE_CHECKING:
    from pathlib import Path


def answers(name: str, count: int) -> tuple[float, float, float]:
    """Accuracy, mean tokens and share of thinking of a shipped model on a few test problems."""
    words: Any = AutoTokenizer.from_pretrained(folder(name))
    model: Any = AutoModelForCausalLM.from_pretrained(folder(name), dtype=torch.float32)
    problems = chains(count, split="test", rng=random.Random(5))
    inputs = words.apply_chat_template(
        [[{"role": "user", "content": chain.question}] for chain in problems],
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        padding=True,
    )
    with using_threads(1), torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=700)[:, inputs["input_ids"].shape[1] :]
    texts = words.batch_decode(ids, skip_special_tokens=True)
    boxes = [re.findall(r"\\boxed\{(\d\d)\}", text)[-1:] for text in texts]
    right = [box == [chain.answer] for box, chain in zip(boxes, problems, strict=True)]
    tokens = (ids != words.pad_token_id).sum(1).float().mean().item()
    return sum(right) / count, tokens, sum("</think>" in text for text in texts) / count


@pytest.mark.slow
def test_system2_is_right_and_long_where_system1_is_brief_and_slips() -> None:
    accuracy1, tokens1, thinks1 = answers("system1", 20)
    accuracy2, tokens2, thinks2 = answers("system2", 20)
    assert thinks1 == 0
    assert thinks2 == 1
    assert accuracy1 >= 0.6
    assert accuracy2 >= 0.95
    assert tokens2 > 4 * tokens1


@pytest.mark.parametrize("name", members())
def test_a_folder_is_a_complete_hugging_face_model_in_bfloat16(name: str) -> None:
    config = json.loads((folder(name) / "config.json").read_text())
    generation = json.loads((folder(name) / "generation_config.json").read_text())
    words: Any = AutoTokenizer.from_pretrained(folder(name))
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert config["dtype"] == "bfloat16"
    assert generation["eos_token_id"] == words.eos_token_id
    assert generation["pad_token_id"] == words.pad_token_id
    assert (folder(name) / "model.safetensors").stat().st_size < 1_700_000


def test_the_models_share_everything_but_their_weights() -> None:
    first, *others = members()
    for path in folder(first).iterdir():
        same = {(folder(name) / path.name).read_bytes() == path.read_bytes() for name in others}
        assert same == {path.name != "model.safetensors"}


def test_the_record_names_the_shipped_weights() -> None:
    record = json.loads((folder("base").parent / "lab.json").read_text())
    for name in members():
        weights = (folder(name) / "model.safetensors").read_bytes()
        assert family.sha256(weights) == record["files"][name]


@pytest.mark.slow
def test_the_texts_that_the_shipped_models_were_trained_on_are_made_again() -> None:
    record = json.loads((folder("base").parent / "lab.json").read_text())
    size = size_of(record["size"])
    for phase in PHASES:
        rng = random.Random(f"laconic lab {record['seed']} {phase.title}")
        parts = [
            corpus.texts(replace(part, count=part.count * size.texts), rng, size.levels)
            for part in phase.parts
        ]
        made = corpus.digest(text for part in parts for text in part)
        assert made == record["phases"][phase.name]["corpus"], phase.name


def test_ids_that_no_lab_text_uses_look_like_the_unknown_token() -> None:
    from safetensors.torch import load_file

    for name in members():
        rows = load_file(folder(name) / "model.safetensors")["model.embed_tokens.weight"]
        assert len(rows) == tokenizer.SIZE
        unknown = rows[tokenizer.WHOLE[tokenizer.UNKNOWN]]
        assert bool((rows[tokenizer.TRAINED :] == unknown).all())


def test_write_copies_the_family(tmp_path: Path) -> None:
    target = write(tmp_path / "deep" / "lab")
    assert sorted(path.name for path in target.iterdir()) == [
        "base",
        "lab.json",
        "system1",
        "system2",
    ]
    for name in members():
        for path in folder(name).iterdir():
            assert (target / name / path.name).read_bytes() == path.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["lab"]


def test_an_unknown_member_is_answered_with_the_nearest() -> None:
    with pytest.raises(LaconicError, match="'system2'"):
        folder("sytem2")
