"""Lint and decontamination: what is found, and what is left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from laconic.data.answers import AnswerPair, Selection, TrainingAnswer
from laconic.data.decontaminate import Benchmarks, decontaminate
from laconic.data.lint import CHECKS, find_fault, lint
from laconic.errors import DataError
from laconic.runs.run import Sample
from laconic.tasks.contract.task import Task

SOUND = TrainingAnswer("1", "2+3?", "5", "<think>\na\n</think>\n\n\\boxed{5}", length=9)
FAULTY: dict[str, dict[str, Any]] = {
    "empty": {"response": " \n"},
    "stray_brackets": {"response": 'so \\boxed{5}"]'},
    "several_thoughts": {"response": "<think>a</think>b<think>c</think>d"},
    "unclosed_thought": {"response": "<think>a \\boxed{5}"},
    "no_answer_after_thought": {"response": "a \\boxed{5}</think>\n"},
    "double_braces": {"question": "2+3? Put it within \\boxed{{}}."},
    "escaped": {"response": "a\\n\\nb\\n\\nso \\boxed{5}"},
    "missing_end": {"truncated": True},
    "broken_text": {"response": "\ufffd \\boxed{5}"},
    "turn_marker": {"response": "\\boxed{5}<|im_end|>"},
    "loop": {"response": "and so " * 1000},
    "over_length": {"length": 11},
}


@pytest.mark.parametrize("reason", FAULTY)
def test_a_fault_is_found_and_named(reason: str) -> None:
    assert find_fault(SOUND, max_tokens=10) == ""
    assert find_fault(replace(SOUND, **FAULTY[reason]), max_tokens=10) == reason


@pytest.mark.parametrize(
    "other",
    [
        {"response": "['x'] \\boxed{[\"a\"] }"},
        {"response": "a</think>b \\boxed{5}"},
        {"response": "\\boxed{\\{5\\}}"},
        {"response": "let |x|<|y| so <|x+1|>... \\boxed{5}"},
        {"response": "\\nabla\\nu \\boxed{5}"},
        {"response": "f(x) = {{5}} \\boxed{5}"},
    ],
)
def test_sound_texts_pass(other: dict[str, Any]) -> None:
    wanted = "stray_brackets" if str(other["response"]).startswith("['") else ""
    wanted = "turn_marker" if "<|x+1|>" in str(other["response"]) else wanted
    assert find_fault(replace(SOUND, **other)) == wanted


def test_every_check_is_tried_here_and_duplicates_are_found() -> None:
    assert {*FAULTY, "duplicate"} == set(CHECKS)
    twice = Selection(
        (SOUND, replace(SOUND, id="2"), replace(SOUND, id="3", response="\\boxed{5}"))
    )
    sound, faults = lint(twice)
    assert faults == {"2": "duplicate"}
    assert [row.id for row in sound.rows] == ["1", "3"]
    assert sound.dropped == {"duplicate": 1}


def test_a_pair_goes_where_either_answer_does() -> None:
    bad = AnswerPair(SOUND, replace(SOUND, response="['x']"))
    assert lint(Selection((bad,), "pairs"))[1] == {"1": "stray_brackets"}


TEXT = (
    "A baker fills 7 trays with 12 rolls each and sells 50 of the rolls before noon. "
    "How many rolls are left?"
)
TASK = Task(
    "bench", "bench.jsonl", (Sample("bench", "7", TEXT, "34"), Sample("bench", "8", "2+3?", "5"))
)


def row(question: str) -> TrainingAnswer:
    return replace(SOUND, question=question)


@pytest.mark.parametrize(
    ("question", "how"),
    [
        (TEXT, "whole"),
        (f"Think step by step. {TEXT.upper()} Box it.", "whole"),
        ("$2 + 3$?", "whole"),
        (TEXT.replace("How many", "Tell how many"), "shares_words"),
        (TEXT.replace("rolls", "buns"), ""),
        ("2-3?", ""),
        ("What is 12+3 less 2?", ""),
        ("", ""),
    ],
)
def test_a_benchmarks_problem_is_found_whole_or_by_thirteen_words(question: str, how: str) -> None:
    clean, overlaps = decontaminate(Selection((row(question),)), [TASK])
    assert clean.dropped == ({"in_benchmark" if how == "whole" else how: 1} if how else {})
    assert len(clean.rows) == (not how)
    if how:
        assert overlaps[0].problem in ("bench/7", "bench/8")


def test_shared_words_need_the_share_asked_for_and_none_count_at_zero_words() -> None:
    question = TEXT.replace("How many rolls are left?", "Who ate the rest of them all yesterday?")
    assert Benchmarks([TASK]).find(question) is not None
    assert Benchmarks([TASK], share=0.9).find(question) is None
    assert Benchmarks([TASK], share=0.1).find(question) is not None
    assert Benchmarks([TASK], n=0).find(question) is None
    assert Benchmarks([TASK], n=0).find(TEXT) == ("bench/7", "whole")


def test_odd_settings_are_refused() -> None:
    with pytest.raises(DataError, match="share between 0 and 1"):
        Benchmarks([TASK], share=2)
    with pytest.raises(DataError, match="ngram"):
        Benchmarks([TASK], n=-1)
