"""The MATH problems, by level, and the five hundred of them that most papers use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from annotated_types import Ge, Le

from laconic.errors import TaskError
from laconic.runs.run import Sample
from laconic.tasks.contract.dataset import Dataset, Row
from laconic.tasks.contract.task import task

EXAMPLE = {
    "problem": "Compute $\\frac{1}{2} + \\frac{1}{3}$.",
    "solution": "The sum is $\\frac{3}{6} + \\frac{2}{6} = \\boxed{\\frac{5}{6}}$.",
    "level": "Level 1",
    "type": "Prealgebra",
}


@task(
    dataset=Dataset(
        repo="HuggingFaceH4/MATH-500",
        file="test.jsonl",
        revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        example={
            **EXAMPLE,
            "level": 1,
            "answer": "\\frac{5}{6}",
            "unique_id": "test/prealgebra/1.json",
        },
    )
)
def math500(rows: Iterator[Row]) -> Iterator[Sample]:
    """Five hundred problems of MATH's test split, levels 1 to 5.

    Source: Lightman et al. 2023, arXiv 2305.20050.
    """
    for row in rows:
        name = row.name("math500", "unique_id")
        yield Sample("math500", name, row.text("problem"), row.text("answer"), row.level())


@task(
    dataset=Dataset(
        repo="DigitalLearningGmbH/MATH-lighteval",
        file="data/test-00000-of-00001.parquet",
        revision="0530c78699ea5e8eb5530600900e1f328b48acad",
        example=EXAMPLE,
    )
)
def math(rows: Iterator[Row], *, level: Annotated[int, Ge(0), Le(5)] = 0) -> Iterator[Sample]:
    """All 5,000 problems of MATH's test split, or those of one level.

    The gold is the ``answer``, or else the last box of the ``solution``.

    Args:
        level: 1 is the easiest and 5 the hardest; 0 takes all. One level is a task of its own.

    Source: Hendrycks et al. 2021, arXiv 2103.03874.
    """
    called = f"math-{level}" if level else "math"
    for row in rows:
        if level in (0, row.level()):
            gold = row.optional("answer") or _last_box(row.text("solution"), row.where)
            yield Sample(called, row.name("math"), row.text("problem"), gold, row.level())


def _last_box(solution: str, where: str) -> str:
    """What stands in the last box of a solution."""
    start = max(solution.rfind("\\boxed"), solution.rfind("\\fbox"))
    brace, depth = solution.find("{", start), 0
    for place in range(brace, len(solution) if start >= 0 and brace >= 0 else brace):
        depth += (solution[place] == "{") - (solution[place] == "}")
        if depth == 0:
            return solution[brace + 1 : place]
    if bare := solution[start:].removeprefix("\\boxed ").split("$")[0] if start >= 0 else "":
        return bare.strip()  # a few solutions write \boxed 2
    raise TaskError(f"{where} needs an 'answer', or a 'solution' with a \\boxed{{}} answer.")
