"""Programs as answers: found in completions, run, judged, and refused where nobody allowed it."""

from __future__ import annotations

import base64
import json
import os
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from laconic.errors import TaskError
from laconic.runs.run import Generation, Result, Sample
from laconic.scoring.check_references import check_golds
from laconic.scoring.programs import find_program, same_output
from laconic.scoring.score import Grader, score
from laconic.tasks.contract.exam import Exam
from laconic.tasks.contract.task import load_task

PROBLEMS = Path(__file__).parents[2].parent / "shared" / "data" / "problems"
TWICE = "def twice(n):\n    return 2 * n\n"
EXAM = Exam(
    check="def check(f):\n    assert f(3) == 6, 'three'\ncheck(twice)\n",
    head="import math\n",
    prompt='import math\ndef twice(n):\n    """Twice."""\n',
    entry="twice",
    solution=TWICE,
)


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(allow_code=True) as opened:
        yield opened


def graded(grader: Grader, text: str, *, exam: Exam = EXAM, cut: bool = False) -> Result:
    sample = Sample("code", "1", "?", exam.to_gold(), kind="program")
    made = Generation(text, 10, 0, False, "length" if cut else "stop")
    return score(sample, made, grader)


def fenced(code: str) -> str:
    return f"I think.\n```python\n{code}\n```\nDone."


@pytest.mark.parametrize(
    ("text", "outcome", "reason"),
    [
        (fenced(TWICE), "correct", ""),
        (fenced("from __future__ import annotations\n" + TWICE), "correct", ""),
        (fenced(TWICE) + "\n" + fenced("print(twice(4))"), "correct", ""),
        (
            "<think>\n" + fenced("def twice(n): return 0") + "</think>\n" + fenced(TWICE),
            "correct",
            "",
        ),
        ("    return 2 * n\n", "correct", ""),
        ("```\n" + TWICE, "correct", ""),
        (fenced("def twice(n): return math.floor(n) * 2"), "correct", ""),
        (fenced("def twice(n): return n"), "wrong", "AssertionError: three"),
        (fenced("def twice(n): return m"), "wrong", "NameError: name 'm' is not defined"),
        (fenced("def twice(n) return"), "wrong", "SyntaxError"),
        (fenced("import sys\nsys.exit(0)"), "wrong", "AssertionError: three"),
        (fenced("import os\ndef twice(n): os._exit(0)"), "wrong", "it ended before its tests did"),
        (fenced("def twice(n): print('x' * 2_000_000)"), "wrong", "limit of output"),
        ("The answer is 6.", "no_answer", ""),
        ("", "no_answer", ""),
    ],
)
def test_programs_are_found_run_and_judged(
    grader: Grader, text: str, outcome: str, reason: str
) -> None:
    result = graded(grader, text)
    assert result.outcome == outcome, result.reason
    assert result.correct == (outcome == "correct")
    assert reason in result.reason
    assert result.kind == "program"


def test_a_cut_completion_counts_what_it_closed(grader: Grader) -> None:
    assert graded(grader, fenced(TWICE), cut=True).outcome == "correct"
    assert graded(grader, fenced("def twice(n): return n"), cut=True).outcome == "truncated_boxed"
    assert graded(grader, "```python\n" + TWICE, cut=True).outcome == "truncated_no_answer"
    assert graded(grader, "def twice(n", cut=True).outcome == "truncated_no_answer"


def test_cases_are_read_from_standard_input(grader: Grader) -> None:
    exam = Exam(cases=(("3\n", "6\n"), ("4\n", "8.0")))
    assert graded(grader, fenced("print(2 * int(input()))"), exam=exam).outcome == "correct"
    result = graded(grader, fenced("print(6)"), exam=exam)
    assert (result.outcome, result.reason) == ("wrong", "test 2: another output")
    result = graded(grader, fenced("input(); input()"), exam=exam)
    assert (result.outcome, result.reason) == ("wrong", "test 1: EOFError: EOF when reading a line")


def test_a_gold_that_is_no_exam_is_an_error(grader: Grader) -> None:
    sample = Sample("code", "1", "?", "6", kind="program")
    result = score(sample, Generation(fenced(TWICE), 1, 0, False, "stop"), grader)
    assert result.outcome == "grader_error"
    assert "no exam" in result.reason


def test_nothing_runs_unless_it_is_allowed(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with Grader() as careful, pytest.raises(TaskError, match="--allow-code"):
        graded(careful, fenced(f"open({str(mark)!r}, 'w')"))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("got", "wanted", "same"),
    [
        ("1 2\n3\n", "1 2 \n3", True),
        ("1.50", "1.5", True),
        ("1", "1\n2", False),
        ("a", "A", False),
        ("nan", "nan", True),
        ("1 2", "12", False),
        ("", "\n", True),
    ],
)
def test_outputs_agree_up_to_white_space_and_numbers(got: str, wanted: str, same: bool) -> None:
    assert same_output(got, wanted) is same


def test_the_last_block_that_defines_the_function_is_taken() -> None:
    text = fenced("def f(): return 1") + fenced("f()") + "\n```text\nhello\n```\n"
    assert find_program(text, "f", truncated=False) == ("def f(): return 1\n", True)
    assert find_program("Just words, no program.", "", truncated=False) is None


def test_long_exams_are_packed_and_come_back() -> None:
    long = Exam(cases=tuple((str(n), "x" * 50) for n in range(2000)))
    assert len(long.to_gold()) < 20_000
    assert Exam.of_gold(long.to_gold()) == long
    assert Exam.of_gold(EXAM.to_gold()) == EXAM
    for gold in ("", "6", "[]", '{"zlib": "??"}', '{"unknown": 1}', '{"cases": [1]}'):
        with pytest.raises(TaskError, match="no exam"):
            Exam.of_gold(gold)


def jsonl(path: Path, row: dict[str, Any]) -> Path:
    path.write_text(json.dumps(row) + "\n")
    return path


def contest(**change: Any) -> dict[str, Any]:
    hidden = json.dumps([{"input": "5", "output": "10", "testtype": "stdin"}])
    packed = base64.b64encode(zlib.compress(pickle.dumps(hidden))).decode()
    row = {
        "question_id": "abc_a",
        "question_content": "Twice.",
        "starter_code": "",
        "difficulty": "hard",
        "contest_date": "2024-10-05T00:00:00",
        "public_test_cases": '[{"input": "3", "output": "6", "testtype": "stdin"}]',
        "private_test_cases": packed,
        "metadata": "{}",
    }
    return {**row, **change}


def test_contest_problems_bring_their_hidden_tests(grader: Grader, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "lcb.jsonl", contest())
    (sample,) = load_task("livecodebench", data=path).samples
    assert (sample.id, sample.level) == ("livecodebench/abc_a", 3)
    assert Exam.of_gold(sample.gold).cases == (("3", "6"), ("5", "10"))
    assert "abc" not in sample.problem
    assert "10" not in sample.problem
    window = f"livecodebench:data={path},since=2024-10-05,until=2024-10-06"
    assert len(load_task(window).samples) == 1
    with pytest.raises(TaskError, match="has no problems"):
        load_task(f"livecodebench:data={path},until=2024-10-05")


def test_contest_methods_are_called_with_json(grader: Grader, tmp_path: Path) -> None:
    tests = [{"input": '[1, 2]\n"a"', "output": "[3, 3]", "testtype": "functional"}]
    row = contest(
        starter_code="class Solution:\n    def total(self, xs: List[int], s: str):\n        ",
        public_test_cases=json.dumps(tests),
        private_test_cases="[]",
        metadata='{"func_name": "total"}',
    )
    (sample,) = load_task("livecodebench", data=jsonl(tmp_path / "lcb.jsonl", row)).samples
    exam = Exam.of_gold(sample.gold)
    body = "class Solution:\n    def total(self, xs: List[int], s: str):\n        return "
    assert graded(grader, fenced(body + "(sum(xs), 3)"), exam=exam).outcome == "correct"
    result = graded(grader, fenced(body + "len(s)"), exam=exam)
    assert (result.outcome, result.reason[:14]) == ("wrong", "AssertionError")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("true",))


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode(), "it names"),
        ("!!!", "'private_test_cases' cannot be read"),
        ('[{"input": "1"}]', "its tests cannot be read"),
    ],
)
def test_tests_that_cannot_be_read_are_named(tmp_path: Path, tests: str, message: str) -> None:
    path = jsonl(tmp_path / "lcb.jsonl", contest(private_test_cases=tests))
    with pytest.raises(TaskError, match=rf"line 1.*{message}"):
        load_task("livecodebench", data=path)


def test_the_sets_own_programs_pass(grader: Grader, tmp_path: Path) -> None:
    from laconic.tasks.contract.task import TASKS

    for name in ("humaneval", "mbpp", "livecodebench"):
        example = dict(TASKS.get(name).traits["dataset"].example)
        samples = load_task(name, data=jsonl(tmp_path / f"{name}.jsonl", example)).samples
        assert [check.means for check in check_golds(samples, grader)] == ["program"]
    example = {"task_id": 12, "text": "?", "code": "x = 1", "test_list": ["assert x == 2"]}
    samples = load_task("mbpp", data=jsonl(tmp_path / "mbpp.jsonl", example)).samples
    (check,) = check_golds(samples, grader)
    assert (check.means, check.reason) == ("none", "AssertionError")


@pytest.mark.slow
@pytest.mark.skipif(not PROBLEMS.is_dir(), reason="the shared problems are not here")
def test_all_of_humaneval_passes_its_own_tests(grader: Grader) -> None:
    samples = load_task("humaneval", data=PROBLEMS).samples
    assert len(samples) == 164
    assert {check.means for check in check_golds(samples, grader)} == {"program"}
