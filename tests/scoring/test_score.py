"""Extraction, comparison, the grader's worker, and both against real responses."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laconic.runs.run import Finish, Generation, Result, Sample
from laconic.scoring.answers.extract import boxed_answer, tail
from laconic.scoring.answers.limits import too_large
from laconic.scoring.answers.plain import compare_plain
from laconic.scoring.answers.spelling import normalise, rational
from laconic.scoring.score import GRADER, Grader, score

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared responses are not here")


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as opened:
        yield opened


def scored(grader: Grader, text: str, gold: str = "5", finish: Finish = "stop") -> Result:
    sample = Sample("t", "1", "?", gold, level=3, repeat=2)
    return score(sample, Generation(text, 9, 4, True, finish), grader)


# Extraction


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{4}, no: \boxed{5}", "5"),
        (r"\fbox{5}", "5"),
        (r"\boxed {5}", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{5} or perhaps \boxed{}", "5"),
        (r"\boxed{ } \boxed{5", None),
        (r"\boxed{5} and then \boxed{6", None),
        (r"\boxed{5}, no, \boxed{\frac{1", None),
        (r"\boxed{\frac{12}{7}}, so \boxed{\frac{1", r"\frac{12}{7}"),
        (r"\boxed{5} \boxed{5} \boxed{", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),
        (r"{ \boxed{5} } }", "5"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"no box", None),
    ],
)
def test_the_last_balanced_box_with_something_in_it_counts(text: str, answer: str | None) -> None:
    assert boxed_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"$\boxed{1}$, $\boxed{2}$ and $\boxed{3}$", "1,2,3"),
        (r"\(\boxed{1}\) or \(\boxed{2}\)", "1,2"),
        (r"\boxed{1} \text{ and } \boxed{2}", "1,2"),
        (r"\boxed{0}. Then $\boxed{1}, \boxed{2}$", "1,2"),
        (r"\boxed{1}, \boxed{1}", "1"),
        ("\\boxed{1}\n\n\\boxed{2}", "2"),
    ],
)
def test_final_boxes_that_only_a_connector_separates_are_one_answer(text: str, answer: str) -> None:
    assert boxed_answer(text) == answer


def test_what_follows_the_thought_counts_before_the_thought() -> None:
    assert boxed_answer(r"\boxed{4} </think> \boxed{5}") == "5"
    assert boxed_answer(r"\boxed{4} </think> so it is 5") == "4"
    assert boxed_answer(r"<think> </think> \boxed{4} </think> \boxed{5}") == "5"


def test_text_escaped_for_json_is_unescaped_and_other_text_is_not() -> None:
    assert boxed_answer(r"[\"so \\boxed{\\frac{1}{2}}\"]") == r"\frac{1}{2}"
    matrix = r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"
    assert boxed_answer(rf"\boxed{{{matrix}}}") == matrix
    assert boxed_answer(r"x \\\boxed{5}") == "5"


def test_the_tail_is_the_end_of_what_follows_the_thought() -> None:
    assert tail("thinking 7 </think> The answer is 5.") == "The answer is 5."
    assert tail("thinking 7 </think>  ") == "thinking 7 </think>"
    assert len(tail("x" * 10_000)) == 500


def test_extraction_takes_linear_time_on_a_loop_of_open_boxes() -> None:
    text = r"\boxed{ {" * 50_000 + r"\boxed{5}"
    began = time.process_time()
    assert boxed_answer(text) == "5"
    assert time.process_time() - began < 5


# Plain comparison


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("5", "5", True),
        ("05", "5", True),
        ("025", "25.0", True),
        ("$5$", r"\$5", True),
        ("1/2", r"\dfrac{1}{2}", True),
        (r"\frac12", "0.5", True),
        ("-1/2", r"\frac{-1}{2}", True),
        ("1,234", "1234", True),
        (r"10,\!080", "10080", True),
        ("10{,}080", "10,080", True),
        ("4.5e33", r"4.5 \times 10^{33}", True),
        ("1e-3", "0.001", True),
        ("12", r"12^{\text{th}}", True),
        ("12", "12th", True),
        (r"\left( 3, 4 \right)", "(3,4)", True),
        (r"\text{Evelyn}", "Evelyn", True),
        ("80", "80.", True),
        ("5", "6", False),
        ("1/3", "1/4", False),
        ("0.5", "0.7", False),
        ("1/3", "0.33333333", None),  # perhaps rounded
        ("3", "x", None),
        ("5", r"5\text{ cm}", None),
        ("1 2", "12", None),
    ],
)
def test_plain_answers_are_decided_without_algebra(
    gold: str, answer: str, verdict: bool | None
) -> None:
    assert compare_plain(gold, answer) is verdict
    assert compare_plain(answer, gold) is verdict


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        ("4210_5", "4210_6", False),
        ("4210_{5}", "4210_5", True),
        ("(1,2)", r"\{1,2\}", False),
        (r"\{1,2\}", "[1,2]", False),
        (r"10\%", "10", True),
        (r"10\%", "0.1", False),
        ("0.1", r"10\%", False),
        (r"\{x : 1<x, x<2\}", "(1,2)", None),
    ],
)
def test_answers_that_math_verify_confuses_are_told_apart(
    gold: str, answer: str, verdict: bool | None
) -> None:
    assert compare_plain(gold, answer) is verdict


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_a_fraction_is_read_exactly_however_it_is_written(over: int, under: int) -> None:
    sign = "-" if over < 0 else ""
    spellings = (
        f"{over}/{under}",
        rf"\frac{{{over}}}{{{under}}}",
        rf"{sign}\dfrac{{{abs(over)}}}{{{under}}}",
    )
    for spelling in spellings:
        found = rational(normalise(spelling))
        assert found is not None
        assert found[0] * under == over


@given(st.text(alphabet=r"\{}()[]0123456789.,/%$_^-+ efrac boxd", max_size=60))
def test_no_text_breaks_extraction_or_comparison(text: str) -> None:
    boxed_answer(rf"\boxed{{{text}}} and \boxed{{{text}")
    assert compare_plain(text, text) is True
    compare_plain("1/2", text)


def test_numbers_too_long_to_be_answers_are_not_computed() -> None:
    assert rational("1" * 2000) is None
    assert rational("1e9999") is None
    assert compare_plain("7" * 5000, "7" * 5000) is True
    assert too_large("x" * 2000) == "it has 2000 characters, more than 1024"
    assert too_large("(" * 60) == "it nests deeper than 50"
    assert too_large("1" * 1010) == "it has more than 1000 digits"
    assert too_large("((1))" * 100) is None
    assert too_large("9^{9^{9}}") == "it holds a power of more than 100000 digits"
    assert too_large("2^{100000000}") is not None
    assert too_large("2^{2^{10}} + 2^{1009} + x^{9^9} + 1^{9^9} + 0.1^{99999999}") is None


# Outcomes


@pytest.mark.parametrize(
    ("text", "finish", "outcome", "answer"),
    [
        (r"\boxed{5}", "stop", "correct", "5"),
        (r"\boxed{5}", "length", "correct", "5"),
        (r"\boxed{6}", "stop", "wrong", "6"),
        (r"\boxed{6}", "length", "truncated_boxed", "6"),
        ("it is 5", "length", "truncated_no_answer", None),
        ("So the answer is $x = 5$.", "stop", "correct", "x = 5"),
        ("So the answer is 6.", "stop", "wrong", "6"),
        ("I do not know.", "stop", "no_answer", None),
        ("", "stop", "no_answer", None),
        (r"\boxed{x = 5}", "stop", "correct", "x = 5"),
        (r"\boxed{" + "(" * 60 + "}", "stop", "grader_error", "(" * 60),
    ],
)
def test_every_completion_has_an_outcome(
    grader: Grader, text: str, finish: Finish, outcome: str, answer: str | None
) -> None:
    result = scored(grader, text, finish=finish)
    assert (result.outcome, result.answer) == (outcome, answer)
    assert result.correct is (outcome == "correct")
    assert result.truncated is (finish == "length")


def test_a_result_carries_its_sample_and_its_completion(grader: Grader) -> None:
    result = scored(grader, r"Wait, wait: \boxed{5}")
    assert result.key == ("t", "1", 2)
    assert (result.level, result.gold, result.problem) == (3, "5", "?")
    assert (result.length, result.thinking_length, result.thinks) == (9, 4, True)
    assert result.reflections == 2


@pytest.mark.parametrize(
    ("gold", "answer", "state"),
    [
        (r"x \in [-2,7]", "[-2, 7]", "equal"),
        ("-2,1", "1,-2", "equal"),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", "equal"),
        (r"3 \pm 2\sqrt{2}", r"3+2\sqrt{2},3-2\sqrt{2}", "equal"),
        ("[1,2)", "(1,2]", "unequal"),
        (r"\frac{\sqrt{3}}{2}", r"\frac{1}{\sqrt{2}}", "unequal"),
    ],
)
def test_algebra_decides_what_spelling_cannot(
    grader: Grader, gold: str, answer: str, state: str
) -> None:
    assert grader.compare(gold, answer).state == state


def test_the_version_names_the_library() -> None:
    assert GRADER.startswith("laconic/3 math-verify/0.")


# Against real responses


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
@needs_data
def test_no_answer_of_the_stress_set_hangs_or_ends_the_grader() -> None:
    rows = read_rows(DATA / "stress.jsonl")
    quick = [row for row in rows if not compare_plain(row["gold"], row["answer"])]
    refused = [row for row in quick if too_large(row["answer"]) or too_large(row["gold"])]
    slow = [row for row in quick if row not in refused]
    assert (len(rows), len(refused)) == (36, 15)
    with Grader(deadline=0.5) as grader:
        assert all(grader.compare(r["gold"], r["answer"]).state == "error" for r in refused)
        for row in slow[::8]:
            assert grader.compare(row["gold"], row["answer"]).state in {
                *("equal", "unequal", "timeout", "error"),
            }
        assert grader.compare("x+1", "1+x").state == "equal"


@needs_data
@pytest.mark.slow
def test_every_answer_of_the_stress_set_ends_by_its_deadline() -> None:
    rows = read_rows(DATA / "stress.jsonl")
    with Grader(deadline=2) as grader:
        states = {r["id"]: grader.compare(r["gold"], r["answer"]).state for r in rows}
        assert grader.compare("x+1", "1+x").state == "equal"
    assert set(states.values()) <= {"equal", "unequal", "timeout", "error"}


def run_of_logs(run: str, dataset: str, grader: Grader) -> list[Result]:
    """The scored responses of one logged run."""
    problems = read_rows(DATA / "problems" / f"{dataset}.jsonl")
    golds = {problem["id"]: str(problem["answer"]) for problem in problems}
    results = []
    with gzip.open(DATA / "logs" / f"{run}__{dataset}.jsonl.gz", "rt") as stream:
        for row in map(json.loads, stream):
            name = row["problem_id"]
            cut = row["tokens_qwen"] >= row["max_tokens"] - 8
            generation = Generation(
                text=row["response"],
                length=row["tokens_qwen"],
                thinking_length=0,
                thinks="</think>" in row["response"],
                finish="length" if cut else "stop",
            )
            sample = Sample(dataset, str(name), "?", golds[name], repeat=row["sample"])
            results.append(score(sample, generation, grader))
    return results


def check_run(run: str, dataset: str, grader: Grader) -> None:
    expected = json.loads((DATA / "logs" / "expected.json").read_text())["table"][dataset][run]
    results = run_of_logs(run, dataset, grader)
    accuracy = sum(result.correct for result in results) / len(results)
    assert len(results) == expected["n"]
    assert sum(result.truncated for result in results) == expected["truncated"]
    keywords = expected["reflection"]["by_keyword"].values()
    assert sum(result.reflections for result in results) == sum(k["total"] for k in keywords)
    assert accuracy == pytest.approx(expected["accuracy"], abs=0.006)


@needs_data
@pytest.mark.parametrize(
    ("run", "dataset"),
    [("r1-14b-merge-task-arithmetic", "aime24"), ("r1-14b-merge-ties", "math500")],
)
def test_accuracy_of_logged_runs_is_within_its_tolerance(
    run: str, dataset: str, grader: Grader
) -> None:
    check_run(run, dataset, grader)


@needs_data
@pytest.mark.slow
def test_accuracy_of_every_logged_run_is_within_its_tolerance(grader: Grader) -> None:
    files = sorted((DATA / "logs").glob("*.jsonl.gz"))
    assert len(files) == 13
    for file in files:
        run, dataset = file.name.removesuffix(".jsonl.gz").split("__")
        check_run(run, dataset, grader)
