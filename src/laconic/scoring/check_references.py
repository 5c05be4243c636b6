"""Which golds a grader can compare, found by comparing each with itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from laconic.runtime import silent
from laconic.scoring.answers.algebra import AS_WORDS
from laconic.scoring.answers.references import is_number, is_prose, readings
from laconic.scoring.worker import Verdict
from laconic.tasks.contract.exam import Exam

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.runs.run import Sample
    from laconic.runtime import Progress
    from laconic.scoring.grader import Grader

Means = Literal["number", "algebra", "program", "words", "none"]


@dataclass(frozen=True)
class GoldCheck:
    """How a gold can be compared.

    Attributes:
        id: The problem's name.
        gold: The gold as the task writes it.
        means: ``number`` and ``algebra`` see through other spellings; a ``program`` is run; with
            ``words`` only the gold's own words are right; with ``none`` the grader gave up, or the
            set's own program fails.
        reason: Why it gave up; empty otherwise.
    """

    id: str
    gold: str
    means: Means
    reason: str = ""


def check_golds(
    samples: Sequence[Sample], grader: Grader, progress: Progress = silent
) -> list[GoldCheck]:
    """Compare each gold with itself, as if it were a boxed answer, equal spelling ignored.

    Returns:
        One check a sample, in their order.
    """
    checks = []
    pool = ThreadPoolExecutor(grader.workers)
    try:
        for check in pool.map(lambda sample: _check(sample, grader), samples):
            checks.append(check)
            progress(len(checks), len(samples))
    finally:
        pool.shutdown(cancel_futures=True)
    return checks


def _check(sample: Sample, grader: Grader) -> GoldCheck:
    if sample.kind == "program":
        exam = Exam.of_gold(sample.gold)
        verdict = grader.judge(exam, exam.solution) if exam.solution else Verdict("equal")
        means: Means = "program" if verdict.state == "equal" else "none"
        return GoldCheck(sample.id, exam.entry or sample.problem[:60], means, verdict.reason)
    if is_number(sample.gold):
        return GoldCheck(sample.id, sample.gold, "number")
    if is_prose(sample.gold):
        return GoldCheck(sample.id, sample.gold, "words")
    verdicts = [grader.compare_by_algebra(r, r) for r in readings(sample.gold)]
    for verdict in verdicts:
        if verdict.state in {"timeout", "error"}:
            return GoldCheck(sample.id, sample.gold, "none", verdict.reason)
    seen = all(v.state == "equal" and v.reason != AS_WORDS for v in verdicts)
    return GoldCheck(sample.id, sample.gold, "algebra" if seen else "words")
