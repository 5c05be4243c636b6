r"""Scoring: from a completion to a result, by extraction, comparison and counting.

What it does not cover: whether the reasoning is right, whether a right answer was guessed,
answers that are proofs or free text, units that contradict the gold's, and the form an
answer was asked in (a fraction where a decimal was wanted). A completion without a box is searched
for its last expression, which a stray number can satisfy. A program is right if it passes its
tests, whatever else it does: `laconic.scoring.sandbox` says what running it does not cover.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from laconic.runs.run import Result
from laconic.runtime import silent
from laconic.scoring.answers.extract import boxed_answer, final_part, is_escaped
from laconic.scoring.grader import GRADER, NOT_ALLOWED, Grader
from laconic.scoring.programs import find_program, read_exam
from laconic.scoring.reflection import count_reflections
from laconic.scoring.worker import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.runs.run import Found, Generation, Outcome, Sample
    from laconic.runtime import Progress

__all__ = ["GRADER", "NOT_ALLOWED", "Grader", "Verdict", "score", "score_all"]


def score(sample: Sample, generation: Generation, grader: Grader) -> Result:
    """Score one completion.

    Where a thought is closed and something follows it, that decides: its last box, else what it
    concludes with, else the last box of the thought. A box is compared with the gold whether the
    budget cut the completion or not; without one, a completion that was cut has no answer.

    Args:
        sample: The question and its gold.
        generation: The completion.
        grader: Compares; its failures are outcomes of their own and count as not right.
    """
    if sample.kind == "program":
        return _score_program(sample, generation, grader)
    truncated = generation.finish == "length"
    final = final_part(generation.text)
    answer = boxed_answer(final)
    verdict = Verdict("none")
    if answer is None and not truncated:
        verdict = grader.conclude(sample.gold, final)
    if verdict.state != "none":
        outcome = _outcome(verdict, truncated=False)
        return _result(sample, generation, verdict.answer, outcome, "tail", verdict.reason)
    if answer is None:
        answer = boxed_answer(generation.text)
    if answer is None:
        missing: Outcome = "truncated_no_answer" if truncated else "no_answer"
        return _result(sample, generation, None, missing, "" if truncated else "tail", "")
    verdict = grader.compare(sample.gold, answer)
    found: Found = "escaped" if is_escaped(generation.text) else "box"
    outcome = _outcome(verdict, truncated=truncated)
    return _result(sample, generation, answer, outcome, found, verdict.reason)


def _score_program(sample: Sample, generation: Generation, grader: Grader) -> Result:
    """Score a completion that should hold a program."""
    truncated = generation.finish == "length"
    exam = read_exam(sample.gold)
    if isinstance(exam, Verdict):
        return _result(sample, generation, None, "grader_error", "", exam.reason)
    held = find_program(generation.text, exam.entry, truncated=truncated)
    if held is None:
        outcome: Outcome = "truncated_no_answer" if truncated else "no_answer"
        return _result(sample, generation, None, outcome, "", "")
    program, boxed = held
    verdict = grader.judge(exam, program)
    outcome = _outcome(verdict, truncated=truncated)
    return _result(sample, generation, program, outcome, "box" if boxed else "tail", verdict.reason)


def _result(
    sample: Sample,
    generation: Generation,
    answer: str | None,
    outcome: Outcome,
    found: Found,
    reason: str,
) -> Result:
    return Result(
        task=sample.task,
        id=sample.id,
        repeat=sample.repeat,
        level=sample.level,
        problem=sample.problem,
        prefill=sample.prefill,
        gold=sample.gold,
        text=generation.text,
        length=generation.length,
        thinking_length=generation.thinking_length,
        thinks=generation.thinks,
        truncated=generation.finish == "length",
        answer=answer,
        outcome=outcome,
        correct=outcome == "correct",
        reflections=count_reflections(generation.text),
        found=found,
        reason=reason,
        kind=sample.kind,
        helper_length=generation.helper_length,
    )


def score_all(
    completions: Sequence[tuple[Sample, Generation]],
    grader: Grader,
    progress: Progress = silent,
) -> list[Result]:
    """Score many completions, as many at once as the grader has workers.

    Args:
        completions: Questions with their completions.
        grader: Compares.
        progress: Told after each.

    Returns:
        The results, in the order of the completions.
    """
    results = []
    pool = ThreadPoolExecutor(grader.workers)
    try:
        for result in pool.map(lambda pair: score(pair[0], pair[1], grader), completions):
            results.append(result)
            progress(len(results), len(completions))
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def _outcome(verdict: Verdict, *, truncated: bool) -> Outcome:
    """A verdict in a result's words."""
    match verdict.state:
        case "equal":
            return "correct"
        case "unequal":
            return "truncated_boxed" if truncated else "wrong"
        case "none":
            return "no_answer"
        case "timeout":
            return "grader_timeout"
        case "error":
            return "grader_error"
