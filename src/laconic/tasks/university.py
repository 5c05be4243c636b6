"""Problems of university courses and textbooks."""

from __future__ import annotations

from collections.abc import Iterator

from laconic.runs.run import Sample
from laconic.tasks.contract.dataset import Dataset, Row
from laconic.tasks.contract.task import task


@task(
    dataset=Dataset(
        repo="math-ai/minervamath",
        file="test.jsonl",
        example={
            "question": "A lamp radiates $3 \\times 10^{2}$ W for $10^{3}$ s. How many J is that?",
            "answer": "3e5",
        },
    )
)
def minerva_math(rows: Iterator[Row]) -> Iterator[Sample]:
    """Quantitative problems of university science courses: 272.

    Golds as programs write them (``4.5e33``, ``np.arcsin``) are read as mathematics.

    Source: Lewkowycz et al. 2022, arXiv 2206.14858.
    """
    for row in rows:
        name = row.name("minerva_math")
        yield Sample("minerva_math", name, row.text("question", "problem"), row.text("answer"))


@task(
    dataset=Dataset(
        repo="di-zhang-fdu/College_Math_Test",
        file="college-math-test.jsonl",
        example={"question": "Simplify: $2(x+3)-x$", "answer": "$x+6$", "question_number": "1.1"},
    )
)
def college_math(rows: Iterator[Row]) -> Iterator[Sample]:
    """Exercises of nine college textbooks: 2,818.

    One gold in five is matched by its own words only: ``laconic grade --check-golds`` lists them.

    Source: Tang et al. 2024, arXiv 2403.02884.
    """
    for row in rows:
        name = row.name("college_math")
        yield Sample("college_math", name, row.text("question", "problem"), row.text("answer"))
