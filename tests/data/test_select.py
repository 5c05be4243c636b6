"""Selecting answers: rules, filters, difficulties, and an account of every answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from laconic.data.answers import (
    AnswerPair,
    Selection,
    TrainingAnswer,
    read_selection,
    write_selection,
)
from laconic.data.select import Filter, parse_levels, select
from laconic.errors import DataError, TaskError
from laconic.runs.experiment import Experiment, Sampling, TaskRecord
from laconic.runs.run import Run, Sample
from laconic.tasks.contract.task import Task
from tests.support.results import result

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.data.select import Rule
    from laconic.runs.run import Result


def a_run(*results: Result, name: str = "r", complete: bool = True) -> Run:
    experiment = Experiment(
        model="m",
        model_digest="0",
        tasks=(TaskRecord("t", "t", "d", 2, 9, repeats=9),),
        sampling=Sampling(),
        backend="replay",
        dtype="float32",
        template="e",
        grader="g",
    )
    return Run(name, experiment, results, complete)


def one(problem: str, repeat: int, length: int, right: bool = True, **other: Any) -> Result:
    text = f"{problem} {repeat} \\boxed{{1}}"
    return result(problem, length, right, **{"repeat": repeat, "text": text, "level": 1, **other})


RUN = a_run(
    *(one("a", 0, 30), one("a", 1, 10), one("a", 2, 20)),
    *(one("b", 0, 50, False), one("b", 1, 60), one("b", 2, 70, False)),
    *(one("c", 0, 5, False), one("c", 1, 6, False), one("c", 2, 7, False)),
)


def picked(rule: Rule, run: Run = RUN, **other: Any) -> list[str]:
    return sorted(row.id for row in select([run], rule, **other).rows)


def test_rules_take_the_answers_they_are_called_after() -> None:
    assert picked("shortest") == ["t/a#1", "t/b#1"]
    assert picked("longest") == ["t/a#0", "t/b#1"]
    assert picked("all") == ["t/a#0", "t/a#1", "t/a#2", "t/b#1"]
    (pair,) = select([RUN], "pairs", ratio=3).rows
    assert isinstance(pair, AnswerPair)
    assert (pair.chosen.length, pair.rejected.length) == (10, 30)
    with pytest.raises(DataError, match="No answer is left: 5 wrong, 4 no pair"):
        select([RUN], "pairs", ratio=3.1)


@pytest.mark.parametrize("rule", ["shortest", "longest", "balanced", "all", "pairs"])
def test_every_answer_is_accounted_for(rule: Rule) -> None:
    for wanted in (Filter(), Filter(max_tokens=20), Filter(min_tokens=15)):
        if rule == "pairs" and wanted.max_tokens is None and wanted.min_tokens:
            continue
        found = select([RUN], rule, wanted=wanted, limit=1)
        kept = sum(len(row.answers) for row in found.rows)
        assert kept + sum(found.dropped.values()) == 9, found.dropped
        assert found.failed == ("t/c",)


def test_balanced_evens_out_lengths_that_shortest_would_not() -> None:
    results = [one(str(n), r, length) for n in range(8) for r, length in enumerate((10, 100, 999))]
    run = a_run(*results)
    lengths = [row.answers[0].length for row in select([run], "balanced").rows]
    assert sorted(lengths.count(n) for n in (10, 100, 999)) == [2, 3, 3]
    assert {row.answers[0].length for row in select([run], "shortest").rows} == {10}


@pytest.mark.parametrize(
    ("ease", "ids"),
    [
        (("easy",), ["t/a#1"]),
        (("medium",), ["t/b#1"]),
        (("easy", "medium", "hard"), ["t/a#1", "t/b#1"]),
    ],
)
def test_difficulty_is_the_share_of_right_answers_of_the_reference(
    ease: tuple[Any, ...], ids: list[str]
) -> None:
    assert picked("shortest", wanted=Filter(ease=ease), reference=[RUN]) == ids


def test_the_ranges_of_difficulty_can_be_set_and_must_fit() -> None:
    wanted = Filter(ease=("hard",), easy=1.0, hard=0.5)
    assert picked("shortest", wanted=wanted, reference=[RUN]) == ["t/b#1"]
    with pytest.raises(DataError, match="hard <= easy"):
        Filter(easy=0.2, hard=0.5)
    with pytest.raises(DataError, match="--reference RUN"):
        select([RUN], wanted=wanted)
    other = a_run(one("b", 0, 1))
    found = select([RUN], wanted=Filter(ease=("easy",)), reference=[other])
    assert found.dropped["no_reference"] == 6


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"truncated": True}, "truncated"),
        ({"thinking_length": 9}, "unclosed_thought"),
        ({"text": "wait, Wait, WAIT \\boxed{1}"}, "markers"),
        ({"length": 500}, "too_long"),
        ({"length": 1}, "too_short"),
        ({"level": 4}, "other_level"),
        ({"level": None}, "other_level"),
    ],
)
def test_filters_count_what_they_leave_out(other: dict[str, Any], reason: str) -> None:
    odd = one("d", 0, other.pop("length", 20), **other)
    wanted = Filter(levels=(1, 2), min_tokens=5, max_tokens=100, max_markers=2)
    found = select([a_run(*RUN.results, odd)], "all", wanted=wanted)
    assert found.dropped[reason] == 1
    assert "t/d#0" not in [row.id for row in found.rows]
    awaited = one("d", 0, 20, text="await await await two waits \\boxed{1}")
    assert "t/d#0" in picked("all", a_run(*RUN.results, awaited), wanted=wanted)


def test_a_limit_draws_rows_by_the_seed_and_not_by_the_order_they_came_in() -> None:
    results = [one(f"p{n}", 0, 10) for n in range(50)]
    first = picked("shortest", a_run(*results), limit=10, seed=3)
    assert first == picked("shortest", a_run(*reversed(results)), limit=10, seed=3)
    assert first != picked("shortest", a_run(*results), limit=10, seed=4)


def test_answers_of_several_runs_compete_and_keep_their_run_in_the_name() -> None:
    runs = [RUN, a_run(one("a", 0, 3), name="s"), a_run(one("a", 0, 4), name="s")]
    ids = sorted(row.id for row in select(runs, "shortest").rows)
    assert ids == ["r(1):t/b#1", "s(2):t/a#0"]


def test_pairs_of_one_problem_in_other_words_are_refused_until_the_words_are_given() -> None:
    other = replace(one("a", 0, 50), problem="Think. what is a?")
    runs = [a_run(one("a", 0, 5)), a_run(other, name="s")]
    with pytest.raises(DataError, match=r"different wording.*--task"):
        select(runs, "pairs")
    task = Task("t", "t", (Sample("t", "a", "Say a.", "1"),))
    (pair,) = select(runs, "pairs", questions=task).rows
    assert pair.question == "Say a."
    assert select([RUN], questions=task).dropped["not_in_task"] == 1


def test_empty_and_unfinished_runs_and_odd_settings_are_refused() -> None:
    with pytest.raises(DataError, match="r has no answers"):
        select([a_run()])
    with pytest.raises(DataError, match=r"r has 1 of 18 answers.*to finish it"):
        select([a_run(one("a", 0, 1), complete=False)])
    with pytest.raises(DataError, match="Did you mean 'shortest'"):
        select([RUN], "shortst")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(DataError, match="ratio must be at least 1"):
        select([RUN], "pairs", ratio=0.5)
    with pytest.raises(DataError, match="at least 9 and at most 3"):
        Filter(min_tokens=9, max_tokens=3)


def test_levels_are_written_as_numbers_and_ranges() -> None:
    assert parse_levels("1,3-5") == (1, 3, 4, 5)
    with pytest.raises(DataError, match="five"):
        parse_levels("five")


@pytest.mark.parametrize("rule", ["all", "pairs"])
def test_a_selection_survives_its_file_and_an_edit_is_noted(rule: Rule, tmp_path: Path) -> None:
    found = select([RUN], rule)
    path = tmp_path / "deep" / "short.jsonl"
    write_selection(found, path)
    again = read_selection(path)
    assert again.rows == found.rows
    assert (again.dropped, again.failed, again.kind) == (found.dropped, ("t/c",), found.kind)
    assert [p.name for p in path.parent.iterdir() if "partial" in p.name] == []
    path.write_text(path.read_text() + "\n")
    assert read_selection(path).steps[-1]["step"] == "edited"


def test_half_a_character_is_marked_in_the_file_and_a_folder_is_no_file(tmp_path: Path) -> None:
    odd = Selection((TrainingAnswer("1", "2+3?", "5", "\ud800 \\boxed{5}"),))
    write_selection(odd, tmp_path / "odd.jsonl")
    marked = TrainingAnswer("1", "2+3?", "5", "\ufffd \\boxed{5}")
    assert read_selection(tmp_path / "odd.jsonl").rows == (marked,)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder cannot be written"):
        write_selection(odd, tmp_path / "folder")
    assert not list(tmp_path.glob("*.partial"))
    with pytest.raises(DataError, match="is a folder, not a file of answers"):
        read_selection(tmp_path / "folder")


def test_rows_of_other_tools_are_read_and_broken_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"query": "2+3?", "answer": 5, "response": "\\\\boxed{5}"}\n')
    assert read_selection(path).rows == (TrainingAnswer("1", "2+3?", "5", "\\boxed{5}"),)
    for text, told in (
        ('{"query": "2+3?", "response": "x"}\n', "line 1 needs 'gold' or 'answer'"),
        ("{", "line 1 is not JSON"),
    ):
        path.write_text(text)
        with pytest.raises(TaskError, match=told):
            read_selection(path)
    row = '{"id": "a", "query": "2+3?", "answer": 5, "response": "x"}\n'
    for text, told in (("", "has no rows"), (row + row, "the id 'a' comes 2 times")):
        path.write_text(text)
        with pytest.raises(DataError, match=told):
            read_selection(path)
    pair = '{"query": "2+3?", "answer": 5, "chosen": "x", "rejected": "y"}\n'
    path.write_text(row + pair)
    with pytest.raises(DataError, match="answers and pairs"):
        read_selection(path)
