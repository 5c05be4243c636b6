"""The warning of runs in which the grader finds no answer."""

from __future__ import annotations

from laconic.runs.run import Finish, Outcome, Result
from laconic.scoring.unreadable import unread


def result(number: int, outcome: Outcome, text: str = "?", finish: Finish = "stop") -> Result:
    return Result(
        task="t",
        id=f"p{number}",
        repeat=0,
        level=None,
        problem="?",
        gold="B",
        text=text,
        length=9,
        thinking_length=0,
        thinks=False,
        truncated=finish == "length",
        answer=None,
        outcome=outcome,
        correct=outcome == "correct",
        reflections=0,
    )


def test_many_finished_answers_without_one_are_said_with_an_example_and_a_way() -> None:
    lost = [result(n, "no_answer", "I would say green") for n in range(3)]
    told = unread("t", {"m": [*lost, *(result(n, "correct") for n in range(3, 8))]})
    assert "m 3 of 8 (38 %)" in told
    assert "p0, whose gold is 'B' and whose text ends in 'I would say green'" in told
    assert "laconic grade RUN --audit" in told


def test_few_and_cut_answers_are_no_warning() -> None:
    right = [result(n, "correct") for n in range(10)]
    assert unread("t", {"m": [*right, result(10, "no_answer")]}) == ""
    cut = [result(n, "truncated_no_answer", finish="length") for n in range(10)]
    assert unread("t", {"m": [*right, *cut]}) == ""
    assert unread("t", {"m": []}) == ""
