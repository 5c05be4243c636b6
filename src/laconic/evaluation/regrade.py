"""Scores the stored texts of a run again, without generating, and lists doubtful grades."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from laconic.runs.run import Generation, Sample
from laconic.runs.writer import rewrite
from laconic.runtime import silent
from laconic.scoring.score import GRADER, score_all
from laconic.scoring.unreadable import unread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from laconic.runs.run import Outcome, Result, Run
    from laconic.runtime import Progress
    from laconic.scoring.score import Grader

Why = Literal["earlier grader", "second grader", "timeout", "error", "no answer", "tail", "escaped"]


@dataclass(frozen=True)
class Finding:
    """One graded completion that a person should check.

    Attributes:
        why: ``earlier grader`` or ``second grader`` where that one disagrees; ``timeout`` and
            ``error`` where this one gave up; ``no answer`` where a finished completion shows none;
            ``tail`` where no box held the answer; ``escaped`` where the text had to be un-escaped.
        task: The task's name.
        id: The problem's name.
        repeat: Which of the problem's completions it is.
        gold: The right answer.
        answer: What was compared with it.
        outcome: How grading ended.
        note: What the other grader said, or why this one gave up.
    """

    why: Why
    task: str
    id: str
    repeat: int
    gold: str
    answer: str | None
    outcome: Outcome
    note: str = ""


@dataclass(frozen=True)
class Regrading:
    """A run graded again.

    Attributes:
        run: With the new results.
        earlier_grader: The version that graded before.
        earlier_correct: How many were right before.
        changed: How many are right now and were not, or the other way round.
        against: The second grader's name and how many it calls right; None where there is none.
        findings: Everything that a person should check, the most serious first.
    """

    run: Run
    earlier_grader: str
    earlier_correct: int
    changed: int
    against: tuple[str, int] | None
    findings: tuple[Finding, ...]

    @property
    def correct(self) -> int:
        """How many are right now."""
        return sum(result.correct for result in self.run.results)

    @property
    def unread(self) -> tuple[str, ...]:
        """A warning of each task in which many finished answers hold none."""
        tasks = dict.fromkeys(result.task for result in self.run.results)
        warnings = (
            unread(task, {self.run.name: [r for r in self.run.results if r.task == task]})
            for task in tasks
        )
        return tuple(filter(None, warnings))

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many ended in each outcome."""
        return dict(Counter(result.outcome for result in self.run.results))


def regrade(
    run: Run,
    grader: Grader,
    *,
    against: Literal["exact"] | None = None,
    progress: Progress = silent,
) -> Regrading:
    """Grade a run's stored completions again; nothing is written.

    Args:
        run: The run, complete or not.
        grader: Compares.
        against: A second grader: ``exact`` calls an answer right where it is the gold, character
            by character.
        progress: Told after each completion.
    """
    pairs = [(_sample(result), _generation(result)) for result in run.results]
    graded = score_all(pairs, grader, progress)
    results = tuple(
        replace(now, earlier=before.outcome if before.outcome != now.outcome else before.earlier)
        for before, now in zip(run.results, graded, strict=True)
    )
    before = [result.correct for result in run.results]
    findings = [finding for result in results for finding in _findings(result, against)]
    order = get_args(Why)
    return Regrading(
        run=replace(run, results=results, experiment=replace(run.experiment, grader=GRADER)),
        earlier_grader=run.experiment.grader,
        earlier_correct=sum(before),
        changed=sum(a != b.correct for a, b in zip(before, results, strict=True)),
        against=(against, sum(map(_exactly, results))) if against else None,
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.why))),
    )


def keep(regrading: Regrading) -> None:
    """Write the new results into the run's folder, in place of the old.

    Raises:
        RunError: If the folder is in use or cannot be written.
    """
    run = regrading.run
    history = list(run.provenance.get("graders", ()))
    if regrading.earlier_grader != GRADER:
        history.append(regrading.earlier_grader)
    rewrite(replace(run, provenance={**run.provenance, "graders": history}))


def _sample(result: Result) -> Sample:
    return Sample(
        task=result.task,
        id=result.id,
        problem=result.problem,
        gold=result.gold,
        level=result.level,
        repeat=result.repeat,
        prefill=result.prefill,
        kind=result.kind,
    )


def _generation(result: Result) -> Generation:
    return Generation(
        text=result.text,
        length=result.length,
        thinking_length=result.thinking_length,
        thinks=result.thinks,
        finish="length" if result.truncated else "stop",
        helper_length=result.helper_length,
    )


def _findings(result: Result, against: str | None) -> Iterator[Finding]:
    def finding(why: Why, note: str = "") -> Finding:
        return Finding(
            why=why,
            task=result.task,
            id=result.id,
            repeat=result.repeat,
            gold=result.gold,
            answer=result.answer,
            outcome=result.outcome,
            note=note,
        )

    if result.outcome == "grader_timeout":
        yield finding("timeout", result.reason)
    if result.outcome == "grader_error":
        yield finding("error", result.reason)
    if result.earlier:
        yield finding("earlier grader", result.earlier)
    if against and _exactly(result) != result.correct:
        yield finding("second grader", "right" if _exactly(result) else "wrong")
    if result.outcome == "no_answer":
        yield finding("no answer")
    elif result.found == "tail":
        yield finding("tail")
    if result.found == "escaped":
        yield finding("escaped")


def _exactly(result: Result) -> bool:
    """The verdict of plain exact match."""
    return result.answer is not None and result.answer.strip() == result.gold.strip()
