"""Whatever an answer holds: it is encoded without loss, or left out for a reason that is known."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.tokenizer import load_tokenizer
from laconic.data.encode import REASONS, Encoded, Encoder
from laconic.data.pools import MASKED
from tests.support.chat_templates import END, QWEN3, QWEN25, R1, SPECIAL, chat_model

if TYPE_CHECKING:
    from laconic.data.encode import ThinkPolicy
    from tests.conftest import MakeCheckpoint

PIECES = ("<think>", "</think>", "<think>\n", "\n</think>\n\n", "\n", "\n\n", " ", "\\boxed{5}")
LETTERS = st.text(st.characters(exclude_categories=["Cs"]))
PARTS = st.lists(st.one_of(st.sampled_from((*PIECES, *SPECIAL)), LETTERS), max_size=8)


def bare(text: str) -> str:
    """A text without its thought's tags and without spaces."""
    return re.sub(r"</?think>|\s", "", text)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["think_short", "empty_think", "keep"])
@pytest.mark.parametrize(("name", "template"), [("qwen25", QWEN25), ("qwen3", QWEN3), ("r1", R1)])
def test_answers_are_encoded_without_loss_or_left_out(
    name: str, template: str, policy: ThinkPolicy, make_checkpoint: MakeCheckpoint
) -> None:
    end = END if name == "r1" else "<|im_end|>"
    folder = chat_model(make_checkpoint, name, template, end)
    encoder = Encoder(str(folder), policy, append=name == "r1")
    tokenizer = load_tokenizer(open_checkpoint(str(folder)))
    stop = tokenizer.convert_tokens_to_ids(end)

    @settings(max_examples=60)
    @given(PARTS.map("".join))
    def check(answer: str) -> None:
        row = encoder.encode("2+3?", answer)
        if not isinstance(row, Encoded):
            assert row in REASONS
            return
        labels = row.labels[row.labels != MASKED].tolist()
        assert tokenizer.decode(labels) == row.response + end
        assert labels.count(stop) == 1
        assert labels[-1] == stop
        turn = row.prompt.rpartition("2+3?")[2] + row.response
        assert turn.count("<think>") == turn.count("</think>") <= 1
        assert ("<think>" in turn) or policy == "keep"
        assert bare(row.response) == bare(answer)

    check()
