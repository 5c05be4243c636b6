"""Grade-school word problems."""

from __future__ import annotations

from collections.abc import Iterator

from laconic.runs.run import Sample
from laconic.tasks.contract.dataset import Dataset, Row
from laconic.tasks.contract.task import task


@task(
    dataset=Dataset(
        repo="openai/gsm8k",
        file="main/test-00000-of-00001.parquet",
        revision="cc7b047b6e5bb11b4f1af84efc572db110a51b3c",
        example={
            "question": "A crate holds 4 pears. How many pears do 3 crates hold?",
            "answer": "Three crates hold 3 * 4 = <<3*4=12>>12 pears.\n#### 12",
        },
    )
)
def gsm8k(rows: Iterator[Row]) -> Iterator[Sample]:
    """Grade-school word problems with whole-number answers, 1,319 of the test split.

    The gold is what follows ``####`` in a solution, or the whole answer where there is none.

    Source: Cobbe et al. 2021, arXiv 2110.14168.
    """
    for row in rows:
        gold = row.text("answer").rpartition("####")[2].strip()
        yield Sample("gsm8k", row.name("gsm8k"), row.text("question", "problem"), gold)
