"""The lab's tokenizer: one map in two forms, loss-free."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from transformers import AutoTokenizer

from laconic.lab.styles import STYLES, respond
from laconic.lab.tokenizer import (
    BYTES,
    CHAT_TEMPLATE,
    END,
    SIZE,
    WHOLE,
    build,
    decode,
    encode,
    prompt,
    save,
)
from laconic.tasks.contract.arithmetic import chains

if TYPE_CHECKING:
    from pathlib import Path


def texts() -> list[str]:
    """Four hundred whole training texts, a hundred of each style."""
    rng = random.Random(1)
    found = []
    for style in STYLES.values():
        for chain in chains(100, split="train", rng=rng):
            pieces = respond(chain, style, mute=0.0, rng=rng)
            found.append(prompt(chain.question) + "".join(p.text for p in pieces) + END)
    return found


def test_both_forms_agree_and_round_trip_on_400_training_texts() -> None:
    tokenizer = build(1024)
    for text in texts():
        ids = encode(text)
        assert tokenizer.encode(text) == ids
        assert decode(ids) == text == tokenizer.decode(ids)


def test_any_text_round_trips() -> None:
    text = "Solve: 3x + 12 = 48,\n  then \u00fc & y_1 \\frac{1}{2} \u2248 \u4e2d; wait.. </think>\n"
    assert decode(encode(text)) == text
    assert build(1024).decode(build(1024).encode(text)) == text


def test_a_saved_tokenizer_comes_back_the_same_through_auto_tokenizer(tmp_path: Path) -> None:
    save(tmp_path, 1024)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == SIZE
    assert tokenizer.padding_side == "left"
    assert tokenizer.chat_template == CHAT_TEMPLATE
    for text in texts():
        assert tokenizer.encode(text) == encode(text)


def test_pieces_encode_like_the_text_they_make() -> None:
    rng = random.Random(2)
    for chain in chains(50, split="train", rng=rng):
        pieces = respond(chain, STYLES["thinking"], mute=0.0, rng=rng)
        together = encode("".join(piece.text for piece in pieces))
        assert together == [token for piece in pieces for token in encode(piece.text)]


def test_the_chat_template_writes_the_training_prompt() -> None:
    chain = chains(1, split="train", rng=random.Random(0))[0]
    turns = [{"role": "user", "content": chain.question}]
    text = build(1024).apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == prompt(chain.question)


def test_ids_are_dense_and_think_marks_are_single_ordinary_tokens() -> None:
    assert sorted([*WHOLE.values(), *BYTES.values()]) == list(range(SIZE))
    tokenizer = build(1024)
    assert len(tokenizer) == SIZE
    for mark in ("<think>", "</think>"):
        assert tokenizer.encode(mark) == [WHOLE[mark]]
        assert mark in tokenizer.decode(tokenizer.encode(mark), skip_special_tokens=True)
