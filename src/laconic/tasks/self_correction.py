"""Self-correction: a model's own partial solutions, one intermediate result of each made wrong."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Annotated, Final

from annotated_types import Interval

from laconic.errors import TaskError
from laconic.runs.run import Sample
from laconic.tasks.contract.dataset import Dataset, Row
from laconic.tasks.contract.task import task

#: A number behind an equals sign, then nothing but punctuation and markup up to the line's end.
RESULT: Final = re.compile(r"=\s*\$?-?(\d+(?:\.\d+)?)[ \t.,;:!)\]}$*\\]*\n")


@task(
    dataset=Dataset(
        file="results.jsonl",
        example={
            "id": "pears",
            "problem": "A crate holds 4 pears, two fall out. How many pears do 3 crates hold?",
            "gold": "6",
            "correct": True,
            "text": "<think>\nleft = 4 - 2 = 2\nall = 3 * 2 = 6\n</think>\nIt is \\boxed{6}.",
        },
    )
)
def self_correction(
    rows: Iterator[Row],
    *,
    edit: bool = True,
    until: Annotated[float, Interval(gt=0, le=1)] = 0.5,
    seed: int = 0,
) -> Iterator[Sample]:
    """The right solutions of an earlier run, broken off behind a number that is now wrong.

    ``data`` is that run's folder or results.jsonl. The model goes on behind the wrong number and is
    right only if it notices and recovers. The number is the last result of a calculation (``= 42``
    at a line's end) within the first part of the solution, and not the answer itself; one of its
    digits is changed. Solutions without such a line, wrong ones and cut ones are left out. Ask the
    model that wrote the solutions, then again with ``edit=false``: the difference is what one wrong
    number costs it.

    Args:
        edit: Whether the number is made wrong; else the same solutions go on as they were.
        until: The part of a solution, by characters, in which the number is looked for.
        seed: Another seed changes other digits.

    Source: the question of Wu et al. 2025 (arXiv 2503.20641), section 6; the procedure is ours.
    """
    name, found = ("self-correction" if edit else "self-correction-control"), False
    for row in rows:
        text, gold = row.text("text"), row.text("gold")
        usable = row.values.get("correct") and not row.values.get("truncated")
        cut = _cut(text, gold, until) if usable and not row.values.get("repeat") else None
        if cut is None:
            continue
        start, stop, end = cut
        number, key = text[start:stop], f"{row.optional('task') or 'run'}/{row.text('id')}"
        if edit:
            number = wrong(number, random.Random(f"{seed} {key}"))
        prefill = row.optional("prefill") + text[:start] + number + text[stop:end]
        yield Sample(name, key, row.text("problem"), gold, row.level(), prefill=prefill)
        found = True
    if not found:
        raise TaskError(
            f"No right solution there has a result (= 42) at a line's end within its first "
            f"{until:g}. Give the run of a model that writes its steps, or a larger 'until'."
        )


def wrong(number: str, rng: random.Random) -> str:
    """The number with one digit changed: as long as before, and without a new leading 0."""
    place = rng.choice([i for i, character in enumerate(number) if character.isdigit()])
    leading = place == 0 and len(number) > 1 and number[0] != "0"
    others = [d for d in "0123456789" if d != number[place] and not (leading and d == "0")]
    return number[:place] + rng.choice(others) + number[place + 1 :]


def _cut(text: str, gold: str, until: float) -> tuple[int, int, int] | None:
    """Where the number starts and stops and its line ends, in characters of the text."""
    last = None
    for match in RESULT.finditer(text, 0, int(len(text) * until)):
        if match[1] != gold:
            last = match
    return (*last.span(1), last.end()) if last else None
