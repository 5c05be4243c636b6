"""Decontaminate: remove rows whose question is also a problem of a benchmark, and list them.

A row is removed if the question contains the whole problem, word by word with its operators, or if
both share a run of n words. The same problem in other words or with other numbers is not found.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from laconic.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from laconic.data.answers import Row, Selection
    from laconic.tasks.contract.task import Task

NGRAM: Final = 13
#: A problem of fewer parts than this must be all of a question, not only stand in it.
SHORT: Final = 4
Parts = tuple[str, ...]
_SPELLING = re.compile(r"\\(?:left|right|dfrac|tfrac|[,;!: ])|[$\\{}]")
_PART = re.compile(r"[^\W\d_]+|\d+|[^\w\s.,;:?!'\"]")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class ContaminatedRow:
    """A row that was removed.

    Attributes:
        id: The id of the row.
        problem: The benchmark's problem, ``TASK/ID``.
        how: ``whole`` if the question contains the whole problem; else the shared words.
    """

    id: str
    problem: str
    how: str


class Benchmarks:
    """The problems that must not be in training data, indexed for search.

    Args:
        tasks: The tasks; their problems without any prompt around them.
        n: Words of a shared run; 0 looks for whole problems only.
        share: The share of a question's runs of n words that one problem must hold; 0 takes any
            single one, which is the usual rule.
    """

    def __init__(self, tasks: Iterable[Task], *, n: int = NGRAM, share: float = 0.0) -> None:
        if n < 0:
            raise DataError(f"ngram must be 0 (whole problems only) or more words, got {n}.")
        if not 0 <= share <= 1:
            raise DataError(f"overlap must be a share between 0 and 1, got {share:g}.")
        self._n, self._share = n, share
        self._wholes: dict[Parts, list[tuple[Parts, str]]] = defaultdict(list)
        self._runs: dict[Parts, set[str]] = defaultdict(set)
        for task in tasks:
            for sample in task.samples:
                name = sample.id if sample.id.startswith(f"{task.name}/") else None
                name = name or f"{task.name}/{sample.id}"
                parts = _parts(sample.problem)
                self._wholes[parts[:SHORT]].append((parts, name))
                for run in _runs(sample.problem, n):
                    self._runs[run].add(name)

    def find(self, question: str) -> tuple[str, str] | None:
        """The problem that a question repeats, and how; None if there is none."""
        parts = _parts(question)
        for start in range(max(1, len(parts) - SHORT + 1)):
            for whole, name in self._wholes.get(parts[start : start + SHORT], ()):
                if len(whole) < SHORT and whole != parts:
                    continue
                if parts[start : start + len(whole)] == whole:
                    return name, "whole"
        runs = list(_runs(question, self._n))
        shared: dict[str, list[Parts]] = defaultdict(list)
        for run in runs:
            for name in self._runs.get(run, ()):
                shared[name].append(run)
        if not shared:
            return None
        name = min(shared, key=lambda one: (-len(shared[one]), one))
        if len(shared[name]) < self._share * len(runs):
            return None
        return name, " ".join(shared[name][0])


def decontaminate(
    selection: Selection, tasks: Sequence[Task], *, n: int = NGRAM, share: float = 0.0
) -> tuple[Selection, list[ContaminatedRow]]:
    """Remove the rows whose question is also a problem of a benchmark.

    Args:
        selection: Answers or pairs.
        tasks: The benchmarks and the dev set.
        n: Words of a shared run; 0 looks for whole problems only.
        share: The share of a question's runs that one problem must hold.

    Returns:
        The rows that are kept, and the rows that were removed.
    """
    benchmarks = Benchmarks(tasks, n=n, share=share)
    removed: list[ContaminatedRow] = []
    known: dict[str, tuple[str, str] | None] = {}

    def wrong(row: Row) -> str:
        if row.question not in known:
            known[row.question] = benchmarks.find(row.question)
        found = known[row.question]
        if found is None:
            return ""
        removed.append(ContaminatedRow(row.id, *found))
        return "in_benchmark" if found[1] == "whole" else "shares_words"

    step = {"step": "decontaminate", "against": [t.source for t in tasks], "n": n, "share": share}
    clean = selection.keep(wrong, step)
    return clean, removed


def _parts(text: str) -> Parts:
    """Words, numbers and operators, spelling and punctuation left out."""
    return tuple(_PART.findall(_SPELLING.sub(" ", text).casefold()))


def _runs(text: str, n: int) -> Iterator[Parts]:
    """Every run of n words, operators and punctuation left out; none for n 0 or a shorter text."""
    words = _WORD.findall(text.casefold())
    if n:
        yield from (tuple(words[i : i + n]) for i in range(len(words) - n + 1))
