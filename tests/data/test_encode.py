"""Think policies through the chat templates of well-known models: proven, or refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from laconic.checkpoints.checkpoint import open_checkpoint
from laconic.checkpoints.tokenizer import load_tokenizer
from laconic.data.encode import Encoded, Encoder, split_answer
from laconic.data.pools import MASKED
from laconic.errors import DataError
from tests.support.chat_templates import (
    ASSISTANT,
    BOS,
    END,
    QWEN3,
    QWEN25,
    R1,
    R1_TRAINING,
    USER,
    chat_model,
)

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.data.encode import ThinkPolicy
    from tests.conftest import MakeCheckpoint

SHORT = "2 and 3 make 5.\n\nSo it is \\boxed{5}."
LONG = "<think>\nLet me see.\n\nIt is 5.\n</think>\n\nSo it is \\boxed{5}."
THOUGHT = "<think>\n2 and 3 make 5.\n</think>\n\nSo it is \\boxed{5}."
EMPTY = f"<think>\n\n</think>\n\n{SHORT}"


def made(encoder: Encoder, answer: str) -> Encoded:
    row = encoder.encode("2+3?", answer)
    assert isinstance(row, Encoded), row
    return row


def learnt(folder: Path, row: Encoded) -> str:
    """What a row teaches, decoded from its labels, after checking how ids and labels agree."""
    tokenizer = load_tokenizer(open_checkpoint(str(folder)))
    prompt = tokenizer.encode(row.prompt, add_special_tokens=False)
    ids, labels = row.input_ids.tolist(), row.labels.tolist()
    assert ids[: len(prompt)] == prompt
    assert labels[: len(prompt)] == [MASKED] * len(prompt)
    assert labels[len(prompt) :] == ids[len(prompt) :]
    assert tokenizer.decode(row.input_ids) == row.prompt + row.response + row.end
    assert row.length == len(ids) - len(prompt)
    return str(tokenizer.decode(labels[len(prompt) :]))


@pytest.mark.parametrize(
    ("policy", "answer", "wanted"),
    [
        ("think_short", SHORT, THOUGHT),
        ("think_short", LONG, LONG),
        ("empty_think", SHORT, EMPTY),
        ("empty_think", LONG, LONG),
        ("keep", SHORT, SHORT),
        ("keep", LONG, LONG),
        ("raw", SHORT, SHORT),
    ],
)
def test_a_template_like_qwen25s_keeps_answers(
    policy: ThinkPolicy, answer: str, wanted: str, make_checkpoint: MakeCheckpoint
) -> None:
    folder = chat_model(make_checkpoint, "qwen25", QWEN25)
    row = made(Encoder(str(folder), policy), answer)
    assert row.response == wanted
    assert row.prompt.startswith(
        "<|im_start|>system\nBe helpful.<|im_end|>\n<|im_start|>user\n2+3?"
    )
    assert learnt(folder, row) == f"{wanted}<|im_end|>"


def test_a_template_like_r1s_that_deletes_thoughts_is_refused_with_the_fix(
    make_checkpoint: MakeCheckpoint,
) -> None:
    folder = chat_model(make_checkpoint, "r1", R1, END)
    with pytest.raises(DataError, match=r"deletes the thoughts.*--append.*--template FILE"):
        Encoder(str(folder), "think_short")


@pytest.mark.parametrize("policy", ["think_short", "empty_think", "keep"])
@pytest.mark.parametrize("by", ["append", "template"])
def test_both_fixes_of_r1s_template_train_what_the_model_generates(
    policy: ThinkPolicy, by: str, make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    folder = chat_model(make_checkpoint, "r1", R1, END)
    (tmp_path / "training.jinja").write_text(R1_TRAINING)
    if by == "append":
        encoder = Encoder(str(folder), policy, append=True)
    else:
        encoder = Encoder(str(folder), policy, template=tmp_path / "training.jinja")
    assert encoder.opens
    assert encoder.template == Encoder(str(folder), policy, append=True).template
    wanted = {"think_short": THOUGHT, "empty_think": EMPTY}
    for answer in (SHORT, LONG, LONG.removeprefix("<think>\n")):
        whole = LONG if answer != SHORT else wanted.get(policy)
        if whole is None:
            assert encoder.encode("2+3?", answer) == "no_thought"
            continue
        row = made(encoder, answer)
        assert row.prompt == f"{BOS}{USER}2+3?{ASSISTANT}<think>\n"
        assert learnt(folder, row) == whole.removeprefix("<think>\n") + END


@pytest.mark.parametrize("begins", [False, True])
def test_a_text_begins_once_whoever_writes_its_beginning(
    begins: bool, make_checkpoint: MakeCheckpoint
) -> None:
    written = chat_model(make_checkpoint, "written", R1_TRAINING, END, begins=begins)
    tokenizer = load_tokenizer(open_checkpoint(str(written)))
    start = tokenizer.bos_token_id
    row = made(Encoder(str(written), "think_short"), SHORT)
    assert (tokenizer.encode(row.prompt)[:2] == [start, start]) == begins
    assert row.input_ids.tolist().count(start) == 1
    assert row.input_ids[0] == start
    unwritten = chat_model(make_checkpoint, "unwritten", QWEN25, begins=begins)
    assert start not in made(Encoder(str(unwritten), "think_short"), SHORT).input_ids
    twice = chat_model(make_checkpoint, "twice", "{{ bos_token }}" + R1_TRAINING, END)
    with pytest.raises(DataError, match=r"Prompts of .*twice begin with .* twice, as no text does"):
        Encoder(str(twice), "think_short")


def test_a_template_that_asks_in_another_way_than_the_models_own_is_refused(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    folder = chat_model(make_checkpoint, "r1", R1, END)
    (tmp_path / "other.jinja").write_text(R1_TRAINING.replace("<think>\\n", ""))
    with pytest.raises(DataError, match="prompts that it never gets"):
        Encoder(str(folder), "think_short", template=tmp_path / "other.jinja")


def test_a_template_like_qwen3s_keeps_thoughts_and_puts_an_empty_one_before_the_rest(
    make_checkpoint: MakeCheckpoint,
) -> None:
    folder = chat_model(make_checkpoint, "qwen3", QWEN3)
    assert learnt(folder, made(Encoder(str(folder), "keep"), LONG)) == f"{LONG}<|im_end|>"
    assert Encoder(str(folder), "keep").encode("2+3?", SHORT) == "template_changes_it"
    for policy, wanted in (("empty_think", EMPTY), ("think_short", THOUGHT)):
        encoder = Encoder(str(folder), policy)  # type: ignore[arg-type]  # both are policies
        assert learnt(folder, made(encoder, SHORT)) == f"{wanted}<|im_end|>"


def test_raw_is_refused_where_the_prompt_opens_a_thought(make_checkpoint: MakeCheckpoint) -> None:
    folder = chat_model(make_checkpoint, "r1", R1, END)
    with pytest.raises(DataError, match=r"raw.*ends in <think>.*think_short"):
        Encoder(str(folder), "raw", append=True)


def test_a_turn_whose_end_the_engine_does_not_know_is_refused(
    make_checkpoint: MakeCheckpoint,
) -> None:
    folder = chat_model(make_checkpoint, "qwen25", QWEN25, "<|endoftext|>")
    with pytest.raises(
        DataError, match=r"'<\|im_end\|>\\n', and generation stops at '<\|endoftext"
    ):
        Encoder(str(folder), "keep")


def test_a_model_without_a_template_needs_one(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    folder = chat_model(make_checkpoint, "base", "")
    with pytest.raises(DataError, match="no chat template"):
        Encoder(str(folder), "keep")
    (tmp_path / "chatml.jinja").write_text(QWEN25)
    encoder = Encoder(str(folder), "keep", template=tmp_path / "chatml.jinja")
    assert made(encoder, SHORT).prompt.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("<think>\nnever closed", "unclosed_thought"),
        ("</think>\nonly <think> closed", "unclosed_thought"),
        ("<think>\na</think>b<think>c</think>\\boxed{5}", "unclosed_thought"),
        ("It is 5.", "no_box"),
        ("a<|im_end|>b\n\n\\boxed{5}", "end_inside"),
        ("x" * 400 + "\n\n\\boxed{5}", "over_length"),
    ],
)
def test_rows_that_cannot_be_proven_say_why(
    answer: str, reason: str, make_checkpoint: MakeCheckpoint
) -> None:
    folder = chat_model(make_checkpoint, "qwen25", QWEN25)
    assert Encoder(str(folder), "think_short").encode("2+3?", answer) == reason


def test_a_tokenizer_that_loses_text_is_found_by_the_round_trip(
    make_checkpoint: MakeCheckpoint,
) -> None:
    folder = chat_model(make_checkpoint, "qwen25", QWEN25)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    del tokenizer["model"]["vocab"]["Z"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    encoder = Encoder(str(folder), "keep")
    assert made(encoder, "z is \\boxed{5}.").length
    assert encoder.encode("2+3?", "Z is \\boxed{5}.") == "round_trip"


def test_unknown_policies_and_limits_are_refused(make_checkpoint: MakeCheckpoint) -> None:
    folder = str(chat_model(make_checkpoint, "qwen25", QWEN25))
    with pytest.raises(DataError, match="Did you mean 'think_short'"):
        Encoder(folder, "think_shrt")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(DataError, match=r"window of .* holds 400"):
        Encoder(folder, "keep", max_tokens=401)


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        (SHORT, ("2 and 3 make 5.", "So it is \\boxed{5}.")),
        ("a\nb\nso \\boxed{5}", ("a\nb", "so \\boxed{5}")),
        ("a\n\\[\n\\boxed{5}\n\\]", ("a", "\\[\n\\boxed{5}\n\\]")),
        ("a\n\nthen\n\\[\n\\boxed{5}\n\\]", ("a", "then\n\\[\n\\boxed{5}\n\\]")),
        ("\\boxed{5}", ("", "\\boxed{5}")),
        ("first \\boxed{4}\n\nno: \\boxed{5}", ("first \\boxed{4}", "no: \\boxed{5}")),
        ("five", None),
    ],
)
def test_a_short_answer_is_split_before_the_lines_of_its_last_box(
    answer: str, parts: tuple[str, str] | None
) -> None:
    assert split_answer(answer) == parts
