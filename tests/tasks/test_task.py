"""Tasks from plug-ins and from files: order, budgets, digests, and errors that name the line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from laconic.errors import TaskError
from laconic.tasks.contract.task import MAX_TOKENS, load_task, read_problems

PROBLEMS = Path(__file__).parents[2].parent / "shared" / "data" / "problems"


def write(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return path


def test_a_file_is_a_task_called_like_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "sums.jsonl",
        {"id": "x", "problem": "1+1?", "answer": "2", "level": 1},
        "",
        {"problem": "2+2?", "answer": 4},
    )
    task = load_task(str(path))
    assert (task.name, task.source, task.max_tokens) == ("sums", str(path), MAX_TOKENS)
    assert [(s.task, s.id, s.problem, s.gold, s.level, s.repeat) for s in task.samples] == [
        ("sums", "x", "1+1?", "2", 1, 0),
        ("sums", "3", "2+2?", "4", None, 0),
    ]


def test_a_limit_takes_the_first_and_a_prompt_wraps_them(tmp_path: Path) -> None:
    rows = [{"problem": f"{i}?", "answer": i} for i in range(1, 5)]
    path = write(tmp_path / "t.jsonl", *rows)
    task = load_task(str(path), limit=2, prompt="Box it.\n{problem}\nThanks {x}.")
    assert [s.problem for s in task.samples] == [
        "Box it.\n1?\nThanks {x}.",
        "Box it.\n2?\nThanks {x}.",
    ]


def test_a_plugin_takes_its_parameters_and_brings_its_budget() -> None:
    task = load_task("lab:split=dev,size=5")
    assert (len(task.samples), task.max_tokens) == (5, 896)
    assert task.source == "lab:split=dev,size=5"


def test_a_record_tells_other_problems_and_budgets_apart(tmp_path: Path) -> None:
    one = load_task(str(write(tmp_path / "t.jsonl", {"problem": "1+1?", "answer": "2"})))
    before = one.record(None)
    assert (before.problems, before.max_tokens) == (1, MAX_TOKENS)
    assert one.record(100).max_tokens == 100
    assert one.record(100).digest == before.digest
    two = load_task(str(write(tmp_path / "t.jsonl", {"problem": "1+1?", "answer": "3"})))
    assert two.record(None).digest != before.digest


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("labb", "Did you mean 'lab'"),
        ("lab:splitt=dev", "Did you mean 'split'"),
        ("lab:split=all", r"lab\.split must be 'train' or 'dev' or 'test', got 'all'"),
        ("no/such/file.jsonl", "cannot be read: No such file"),
    ],
)
def test_what_cannot_be_loaded_is_named(spec: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        load_task(spec)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2 is not JSON"),
        ([1], "line 2 is not a JSON object"),
        ({"problem": "x"}, "line 2 needs 'answer'.*it holds problem"),
        ({"problem": "", "answer": 1}, "line 2 needs 'problem'"),
        ({"problem": "x", "answer": None}, "line 2 needs 'answer'.*None"),
        ({"problem": "x", "answer": 1, "level": "hard"}, "line 2: 'level' must be a whole"),
        ({"problem": "x", "answer": 1, "id": 1}, "line 2: the id '1' is already taken"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, row: object, message: str) -> None:
    path = write(tmp_path / "t.jsonl", {"problem": "1?", "answer": 1}, row)
    with pytest.raises(TaskError, match=message):
        list(read_problems(path))


def test_limits_prompts_and_files_without_problems_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="limit must be at least 1"):
        load_task("lab", limit=0)
    with pytest.raises(TaskError, match=r"has no '\{problem\}'"):
        load_task("lab", prompt="Think.")
    with pytest.raises(TaskError, match="has no problems"):
        load_task(str(write(tmp_path / "empty.jsonl", "")))
    (tmp_path / "latin.jsonl").write_bytes(b'{"problem": "\xe9", "answer": 1}')
    with pytest.raises(TaskError, match="not UTF-8"):
        load_task(str(tmp_path / "latin.jsonl"))


@pytest.mark.skipif(not PROBLEMS.is_dir(), reason="the shared problem sets are not here")
def test_public_problem_sets_load_as_they_are() -> None:
    counts = {name: len(load_task(str(PROBLEMS / f"{name}.jsonl")).samples) for name in SETS}
    assert counts == SETS


SETS = {"gsm8k": 1319, "math500": 500, "aime24": 30, "amc23": 40, "minerva_math": 272}
