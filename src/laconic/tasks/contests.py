"""Problems of mathematical contests: AIME, AMC and olympiads."""

from __future__ import annotations

from collections.abc import Iterator

from laconic.runs.run import Sample
from laconic.tasks.contract.dataset import Dataset, Row
from laconic.tasks.contract.task import task

MAX_TOKENS = 32768
LAST_YEAR = 2023


@task(
    max_tokens=MAX_TOKENS,
    dataset=Dataset(
        repo="HuggingFaceH4/aime_2024",
        file="data/train-00000-of-00001.parquet",
        revision="e6cf0cd64082ada1c025717826bd40e155b1ec81",
        example={"id": 60, "problem": "Find the sum of the primes below $12$.", "answer": "028"},
    ),
)
def aime24(rows: Iterator[Row]) -> Iterator[Sample]:
    """AIME 2024, both papers: 30 problems whose answers are integers from 0 to 999.

    One problem is 3.3 points: take several repeats.
    """
    return _problems("aime24", rows)


@task(
    max_tokens=MAX_TOKENS,
    dataset=Dataset(
        repo="math-ai/aime25",
        file="test.jsonl",
        revision="563bb8404243c5f09de6ec262f2db674fe5bce9b",
        example={"id": "0", "problem": "Find $2^5 + 3^2$.", "answer": "41"},
    ),
)
def aime25(rows: Iterator[Row]) -> Iterator[Sample]:
    """AIME 2025, both papers: 30 problems whose answers are integers from 0 to 999."""
    return _problems("aime25", rows)


@task(
    max_tokens=16384,
    dataset=Dataset(
        repo="di-zhang-fdu/AIME_1983_2024",
        file="AIME_Dataset_1983_2024.csv",
        example={"ID": "1990-1", "Year": "1990", "Question": "Find $7 \\cdot 8$.", "Answer": "56"},
    ),
)
def aime83_23(rows: Iterator[Row]) -> Iterator[Sample]:
    """AIME 1983 to 2023: 919 problems, for choosing; models may have been trained on them.

    A gold may name two numbers, of which either is right. Later years are passed over.
    """
    for row in rows:
        year = row.optional("Year", "year")
        if not year or int(float(year)) <= LAST_YEAR:
            yield from _problems("aime83_23", iter([row]))


@task(
    max_tokens=16384,
    dataset=Dataset(
        repo="math-ai/amc23",
        file="test-00000-of-00001.parquet",
        revision="80815d37005feb82cd7f8fbc6901d5d3eff43057",
        example={"id": 0, "question": "Find the mean of $20$ and $34$.", "answer": "27.0"},
    ),
)
def amc23(rows: Iterator[Row]) -> Iterator[Sample]:
    """AMC 12 of 2023: 40 problems with the choices taken away and numbers as answers."""
    return _problems("amc23", rows)


@task(
    max_tokens=16384,
    dataset=Dataset(
        repo="Hothan/OlympiadBench",
        file="OlympiadBench/OE_TO_maths_en_COMP/OE_TO_maths_en_COMP.parquet",
        revision="3b426ee1d587c71b495146dde9f3e995ee7ac59f",
        example={
            "id": 1606,
            "question": "Find all real $x$ with $x^2 = 4$.",
            "final_answer": ["$-2$,$2$"],
        },
    ),
)
def olympiadbench(rows: Iterator[Row]) -> Iterator[Sample]:
    """Olympiad problems in English, text only, with answers: 675 in the copy that papers use.

    Several answers may stand in any order. The tolerances that a few problems state are not used.

    Source: He et al. 2024, arXiv 2402.14008.
    """
    for row in rows:
        gold = ", ".join(row.words("final_answer", "answer"))
        name = row.name("olympiadbench")
        yield Sample("olympiadbench", name, row.text("question", "problem"), gold)


def _problems(name: str, rows: Iterator[Row]) -> Iterator[Sample]:
    """Rows that hold a question and its answer, whatever they call them."""
    for row in rows:
        yield Sample(
            task=name,
            id=row.name(name, "ID"),
            problem=row.text("problem", "question", "Question", "Problem"),
            gold=row.text("answer", "Answer"),
        )
