"""Every tokenizer that transformers rebuilds by a class's rules is told from its file."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import AutoTokenizer

from laconic.checkpoints import tokenizer as module
from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.tokenizer import PROBES, load_tokenizer
from laconic.errors import BackendError
from laconic.lab import folder as lab_folder
from laconic.merging.merge import merge
from laconic.merging.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from laconic.checkpoints.checkpoint import Checkpoint

#: Llama 3's and DeepSeek's way of splitting: up to three digits stay together.
BY_THREES = (
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
#: Qwen2's: each digit by itself. transformers' own Qwen2Tokenizer holds the same pattern.
BY_ONES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TRAINED_ON = [*PROBES, "123 456 123456", "the answer is 42"] * 20


def _byte_level(pattern: str) -> Tokenizer:
    made = Tokenizer(models.BPE())
    split: Any = pre_tokenizers.Split(Regex(pattern), "isolated")
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        TRAINED_ON,
        trainers.BpeTrainer(
            vocab_size=500,
            special_tokens=["<|endoftext|>", "<think>", "</think>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return made


def _word_level() -> Tokenizer:
    letters = sorted({letter for text in TRAINED_ON for letter in text})
    made = Tokenizer(models.WordLevel({letter: i for i, letter in enumerate(letters)}))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.add_special_tokens(["<|endoftext|>", "<think>"])
    return made


def _sentence_piece() -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    special = ["<unk>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    made.train_from_iterator(TRAINED_ON, trainer)
    return made


KINDS = {
    "by threes": lambda: _byte_level(BY_THREES),
    "word level": _word_level,
    "sentence piece": _sentence_piece,
}


def _checkpoint(
    target: Path, made: Tokenizer, kind: str, model: str, **settings: Any
) -> Checkpoint:
    """The lab's weights under a tokenizer of another kind, as a folder on a disk has them."""
    shutil.copytree(lab_folder("system2"), target)
    made.save(str(target / "tokenizer.json"))
    config = json.loads((target / "config.json").read_text("utf-8"))
    (target / "config.json").write_text(json.dumps(config | {"model_type": model}), "utf-8")
    written = {"tokenizer_class": kind, "eos_token": "<|endoftext|>", **settings}
    (target / "tokenizer_config.json").write_text(json.dumps(written), "utf-8")
    return open_checkpoint(str(target))


@pytest.fixture(autouse=True)
def _warn_anew() -> Iterator[None]:
    yield
    module._warn.cache_clear()


@pytest.mark.parametrize("declared", ["Qwen2Tokenizer", "TokenizersBackend", "LlamaTokenizerFast"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_transformers_rebuilds_is_taken_as_it_stands_and_said_once(
    kind: str, declared: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = KINDS[kind]()
    checkpoint = _checkpoint(tmp_path / "m", made, declared, "qwen2")

    loaded, again = load_tokenizer(checkpoint), load_tokenizer(checkpoint)

    for text in PROBES:
        ids = made.encode(text, add_special_tokens=False).ids
        assert loaded.encode(text, add_special_tokens=False) == ids
        assert loaded.decode(ids) == made.decode(ids, skip_special_tokens=False)
    assert again.encode("1234", add_special_tokens=False) == made.encode("1234").ids
    assert loaded.eos_token == "<|endoftext|>"
    (record,) = [r for r in caplog.records if r.name == "laconic.checkpoints.tokenizer"]
    assert record.levelno == logging.WARNING
    assert "Qwen2Tokenizer" in record.getMessage()


def test_a_file_that_transformers_loads_rightly_gets_no_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = _byte_level(BY_ONES)
    made.normalizer = normalizers.NFC()
    qwen = _checkpoint(tmp_path / "qwen", made, "Qwen2Tokenizer", "qwen2")
    llama = _checkpoint(tmp_path / "r1", _byte_level(BY_THREES), "LlamaTokenizerFast", "llama")

    loaded = [type(load_tokenizer(checkpoint)).__name__ for checkpoint in (qwen, llama)]

    assert loaded == ["Qwen2Tokenizer", "TokenizersBackend"]
    assert not [r for r in caplog.records if r.name == "laconic.checkpoints.tokenizer"]


def test_flags_that_tokenizer_config_declares_anew_count_as_the_checkpoints_own(
    tmp_path: Path,
) -> None:
    made = _byte_level(BY_THREES)
    made.add_tokens([AddedToken("<x>", rstrip=False, normalized=False)])
    entry = {"content": "<x>", "rstrip": True, "normalized": False, "special": False}
    added = {str(made.token_to_id("<x>")): entry}
    added["999"] = {"content": "<late>", "special": True}
    checkpoint = _checkpoint(
        tmp_path / "m", made, "PreTrainedTokenizerFast", "llama", added_tokens_decoder=added
    )

    loaded = load_tokenizer(checkpoint)

    assert loaded.tokenize("a<x>  b") == ["a", "<x>  ", "b"]
    assert loaded.encode("<late>", add_special_tokens=False) == [len(made.get_vocab())]


def test_a_tokenizer_that_no_class_loads_as_its_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = _checkpoint(tmp_path / "m", _byte_level(BY_THREES), "Qwen2Tokenizer", "qwen2")
    monkeypatch.setattr("transformers.PreTrainedTokenizerFast", AutoTokenizer)

    with pytest.raises(BackendError, match=r"cannot load its tokenizer as tokenizer\.json says"):
        load_tokenizer(checkpoint)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    checkpoint = _checkpoint(tmp_path / "m", _byte_level(BY_THREES), "Qwen2Tokenizer", "qwen2")
    path = tmp_path / "m" / "tokenizer.json"
    path.write_text(path.read_text("utf-8")[:200], "utf-8")

    with pytest.raises(BackendError, match=r"tokenizer\.json is damaged"):
        load_tokenizer(checkpoint)


def test_a_merge_says_that_its_tokenizer_would_be_loaded_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = _checkpoint(tmp_path / "m", _byte_level(BY_THREES), "Qwen2Tokenizer", "qwen2")
    monkeypatch.setattr(sys.modules["laconic.merging.merge"], "CHECKED_BYTES", 0)

    merge(Recipe(method="average", models=[str(model.folder)]), tmp_path / "merged")

    (record,) = [r for r in caplog.records if r.name == "laconic.checkpoints.tokenizer"]
    assert record.getMessage().startswith(f"{tmp_path / 'merged'}: its tokenizer is taken from")


def test_every_verb_loads_tokenizers_by_this_module() -> None:
    """A verb that asked transformers itself would be given other tokens without a word."""
    source = Path(module.__file__).parent
    calls = ("AutoTokenizer", "PreTrainedTokenizerFast", "Qwen2Tokenizer")
    asking = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if any(f"{call}.from_pretrained" in path.read_text("utf-8") for call in calls)
    }
    assert asking == set()
