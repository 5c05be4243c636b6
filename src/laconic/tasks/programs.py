"""Programs to write: graded by running them in a sandbox, which takes ``--allow-code``."""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import zlib
from collections.abc import Iterator
from typing import Any

from laconic.errors import TaskError
from laconic.runs.run import Sample
from laconic.tasks.contract.dataset import Dataset, Row
from laconic.tasks.contract.exam import Exam
from laconic.tasks.contract.task import task

MAX_TOKENS = 16384
ASK = "Answer with the whole program, imports included, in one ```python block."
LEVELS = {"easy": 1, "medium": 2, "hard": 3}
#: MBPP's test split, by ``task_id``; the other problems are for prompts, validation and training.
MBPP_TEST = range(11, 511)
SUMS = "def twice(n):\n    return 2 * n\n"
CALL = """
import json as _json
for _given, _wanted in _json.loads({cases!r}):
    _got = {call}(*map(_json.loads, _given.split("\\n")))
    assert _json.loads(_json.dumps(_got)) == _wanted, repr(_given[:200])
"""


@task(
    max_tokens=MAX_TOKENS,
    dataset=Dataset(
        repo="openai/openai_humaneval",
        file="openai_humaneval/test-00000-of-00001.parquet",
        revision="7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
        example={
            "task_id": "HumanEval/0",
            "prompt": 'def twice(n):\n    """Twice a number."""\n',
            "canonical_solution": "    return 2 * n\n",
            "test": "def check(candidate):\n    assert candidate(3) == 6\n",
            "entry_point": "twice",
        },
    ),
)
def humaneval(rows: Iterator[Row]) -> Iterator[Sample]:
    """Python functions from their docstrings, 164 with tests. Runs programs: ``--allow-code``.

    Source: Chen et al. 2021, arXiv 2107.03374.
    """
    for row in rows:
        prompt, entry = row.text("prompt", "problem"), row.text("entry_point")
        exam = Exam(
            check=f"{row.text('test')}\ncheck({entry})\n",
            head=prompt[: max(0, prompt.rfind(f"def {entry}"))],
            prompt=prompt,
            entry=entry,
            solution=prompt + row.optional("canonical_solution", "answer"),
        )
        asked = f"Complete this Python function. {ASK}\n\n```python\n{prompt.rstrip()}\n```"
        yield _sample("humaneval", _number(row), asked, exam)


@task(
    max_tokens=MAX_TOKENS,
    dataset=Dataset(
        repo="google-research-datasets/mbpp",
        file="full/test-00000-of-00001.parquet",
        revision="4bb6404fdc6cacfda99d4ac4205087b89d32030c",
        example={
            "task_id": 11,
            "text": "Write a function that doubles a number.",
            "code": SUMS,
            "test_list": ["assert twice(3) == 6", "assert twice(0) == 0"],
            "test_setup_code": "",
        },
    ),
)
def mbpp(rows: Iterator[Row]) -> Iterator[Sample]:
    """Short Python functions from a sentence, 500 with tests. Runs programs: ``--allow-code``.

    Rows outside of the test split (``task_id`` 11 to 510) are passed over.

    Source: Austin et al. 2021, arXiv 2108.07732.
    """
    for row in rows:
        if int(row.text("task_id")) not in MBPP_TEST:
            continue
        tests = "\n".join(row.words("test_list"))
        exam = Exam(
            check=f"{row.optional('test_setup_code')}\n{tests}\n",
            solution=row.optional("code"),
        )
        asked = f"{row.text('text', 'prompt')} It must pass these tests:\n\n{tests}\n\n{ASK}"
        yield _sample("mbpp", f"mbpp/{row.text('task_id')}", asked, exam)


@task(
    max_tokens=32768,
    dataset=Dataset(
        example={
            "question_id": "1",
            "question_content": "Read a number and print twice that number.",
            "starter_code": "",
            "difficulty": "easy",
            "contest_date": "2024-10-01T00:00:00",
            "public_test_cases": '[{"input": "3\\n", "output": "6\\n", "testtype": "stdin"}]',
            "private_test_cases": "[]",
            "metadata": "{}",
        }
    ),
)
def livecodebench(rows: Iterator[Row], *, since: str = "", until: str = "") -> Iterator[Sample]:
    """Contest programs from a local file of code_generation_lite. Runs programs: ``--allow-code``.

    Every public and hidden test must pass. The tests travel with each result, compressed.

    Args:
        since: Only problems of this day (2024-08-01) and later; models have seen older ones.
        until: Only problems before this day.

    Source: Jain et al. 2024, arXiv 2403.07974.
    """
    for row in rows:
        day = row.optional("contest_date")[:10]
        if day < since or (until and day >= until):
            continue
        starter = row.optional("starter_code")
        exam = _contest(row)
        frame = "It reads standard input and writes standard output."
        if exam.entry:
            frame = f"Begin with this:\n\n```python\n{starter.rstrip()}\n```\n"
        asked = f"{row.text('question_content')}\n\nWrite a Python program for this. {frame} {ASK}"
        name = f"livecodebench/{row.text('question_id')}"
        yield _sample("livecodebench", name, asked, exam, LEVELS.get(row.optional("difficulty")))


def _sample(name: str, of: str, asked: str, exam: Exam, level: int | None = None) -> Sample:
    return Sample(name, of, asked, exam.to_gold(), level, kind="program")


def _number(row: Row) -> str:
    """``humaneval/0`` for the set's ``HumanEval/0``."""
    return row.name("humaneval", "task_id").replace("humaneval/HumanEval/", "humaneval/")


def _contest(row: Row) -> Exam:
    """The tests of a contest's problem: calls of a method, or inputs with outputs."""
    tests = _tests(row, "public_test_cases") + _tests(row, "private_test_cases")
    try:
        pairs = tuple((str(test["input"]), str(test["output"])) for test in tests)
        called = json.loads(row.optional("metadata") or "{}").get("func_name", "")
        if not called:
            return Exam(cases=pairs)
        cases = [(given, json.loads(wanted)) for given, wanted in pairs]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TaskError(f"{row.where}: its tests cannot be read ({error!r}).") from None
    method = "class Solution" in row.optional("starter_code")
    call = f"Solution().{called}" if method else called
    head = "from typing import *\nfrom collections import *\nimport math\n"
    return Exam(CALL.format(cases=json.dumps(cases), call=call), head=head, entry=called)


def _tests(row: Row, column: str) -> list[dict[str, Any]]:
    """A column of tests: JSON, or JSON that was pickled, compressed and written in base 64."""
    text = row.optional(column) or "[]"
    try:
        if not text.lstrip().startswith("["):
            packed = zlib.decompress(base64.b64decode(text))
            text = _TextOnly(io.BytesIO(packed)).load()
        found: list[dict[str, Any]] = json.loads(text)
    except (ValueError, TypeError, zlib.error, binascii.Error, pickle.UnpicklingError) as error:
        raise TaskError(f"{row.where}: '{column}' cannot be read ({error}).") from None
    return found


class _TextOnly(pickle.Unpickler):
    """Unpickles plain values: a pickle that names code is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")
