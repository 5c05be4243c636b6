"""Results by hand, and the real logged ones where they are at hand."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from laconic.runs.run import Result
from laconic.scoring.answers.extract import boxed_answer

DATA = Path(__file__).parents[2].parent / "shared" / "data"
LOGS = DATA / "logs"
needs_logs = pytest.mark.skipif(
    not (LOGS / "expected.json").exists(), reason=f"real logs are not at {LOGS}"
)


def result(problem: str, length: int, correct: bool, **other: Any) -> Result:
    """One result with as little in it as can be."""
    plain = Result(
        task="t",
        id=problem,
        repeat=0,
        level=None,
        problem=f"what is {problem}?",
        gold="1",
        text="",
        length=length,
        thinking_length=0,
        thinks=False,
        truncated=False,
        answer="1",
        outcome="correct" if correct else "wrong",
        correct=correct,
        reflections=0,
    )
    return replace(plain, **other)


@cache
def expected() -> Any:
    """The reference statistics of the logs."""
    return json.loads((LOGS / "expected.json").read_text(encoding="utf-8"))


@cache
def problems(dataset: str) -> dict[str, dict[str, Any]]:
    """The problems of a data set by id."""
    with (DATA / "problems" / f"{dataset}.jsonl").open(encoding="utf-8") as lines:
        return {str(row["id"]): row for row in map(json.loads, lines)}


def logged(run: str, dataset: str) -> list[Result]:
    """A logged run, as its own authors graded it."""
    with gzip.open(LOGS / f"{run}__{dataset}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    known = problems(dataset)
    return [
        result(
            str(row["problem_id"]),
            row["tokens_qwen"],
            bool(row["logged_correct"]),
            task=dataset,
            repeat=row["sample"],
            gold=str(known[str(row["problem_id"])]["answer"]),
            level=known[str(row["problem_id"])].get("level"),
            text=row["response"],
            answer=boxed_answer(row["response"]),
            thinks="</think>" in row["response"],
            truncated=row["tokens_qwen"] >= row["max_tokens"] - 8,
        )
        for row in rows
    ]
