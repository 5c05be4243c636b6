"""Reading the lab's responses line by line."""

from __future__ import annotations

from dataclasses import replace

from laconic.lab.reading import WorkingCounts, count_workings, mended, right_values
from laconic.runs.run import Result

QUESTION = "Work mod 100.\na=71\nb=a-9\nc=b*6\nd=c+5\nd=?"
RIGHT = Result(
    *("lab", "x", 0, 1, QUESTION, "77"),
    text="<think>\nb=a-9=71-9=62\nc=b*6=62*6=52\n"
    "Wait, let me check: 2*6=12, 6*6=36, 36+1=37, so c=72, not 52.\nd=c+5=72+5=77\n</think>\n"
    "So the answer is \\boxed{77}.",
    length=60,
    thinking_length=50,
    thinks=True,
    truncated=False,
    answer="77",
    outcome="correct",
    correct=True,
    reflections=2,
)


def test_the_right_value_of_every_variable_follows_from_the_question() -> None:
    assert right_values(QUESTION) == {"a": "71", "b": "62", "c": "72", "d": "77"}


def test_a_slip_that_a_check_puts_right_counts_once_as_a_slip_and_once_as_repaired() -> None:
    assert count_workings([RIGHT]) == WorkingCounts(1.0, misread=0, slips=1, repaired=1, broken=0)


def test_a_line_with_another_operation_is_misread_and_what_follows_from_it_is_no_slip() -> None:
    text = RIGHT.text.replace("d=c+5=72+5=77", "d=c+4=72+4=76").replace("{77}", "{76}")
    found = count_workings([replace(RIGHT, text=text, answer="76", correct=False)])
    assert found == WorkingCounts(1.0, misread=1, slips=1, repaired=1, broken=0)


def test_a_slip_that_a_check_confirms_is_not_repaired() -> None:
    text = RIGHT.text.replace("so c=72, not 52.", "so c=52. OK.").replace("72+5=77", "52+5=57")
    found = count_workings([replace(RIGHT, text=text, correct=False)])
    assert found == WorkingCounts(1.0, misread=0, slips=1, repaired=0, broken=0)


def test_a_wrong_answer_without_a_slip_is_broken() -> None:
    text = RIGHT.text.replace("62*6=52", "62*6=72")
    assert count_workings([replace(RIGHT, text=text, correct=False)]).broken == 1


def test_a_planted_line_is_mended_by_a_check_of_that_line_only() -> None:
    start, wrong, rest = RIGHT.text.partition("c=b*6=62*6=52\n")
    planted = replace(RIGHT, prefill=start + wrong, text=rest)
    assert mended(planted)
    assert not mended(replace(planted, text=rest.replace("so c=72", "so b=62")))
    assert not mended(replace(planted, text=rest.replace("so c=72", "so c=52")))
