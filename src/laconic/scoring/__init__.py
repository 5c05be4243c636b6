r"""Scoring: from a completion to a result, by extraction, comparison and counting.

What it does not cover: whether the reasoning is right, whether a right answer was guessed,
answers that are proofs, programs or free text, units that contradict the gold's, and the form an
answer was asked in (a fraction where a decimal was wanted). A completion without a box is searched
for its last expression, which a stray number can satisfy. Golds are taken as the task gives them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.run import Result
from laconic.scoring.answers import boxed_answer, count_reflections, tail
from laconic.scoring.grader import GRADER, Grader, Verdict

if TYPE_CHECKING:
    from laconic.run import Generation, Outcome, Sample

__all__ = ["GRADER", "Grader", "score"]


def score(sample: Sample, generation: Generation, grader: Grader) -> Result:
    """Score one completion.

    A box is compared with the gold whether the budget cut the completion or not. Without a box,
    a completion that the budget cut has no answer, and one that ended is searched near its end.

    Args:
        sample: The question and its gold.
        generation: The completion.
        grader: Compares; its failures are outcomes of their own and count as not right.
    """
    truncated = generation.finish == "length"
    answer = boxed_answer(generation.text)
    if answer is not None:
        outcome = _outcome(grader.compare(sample.gold, answer), truncated=truncated)
    elif truncated:
        outcome = "truncated_no_answer"
    else:
        verdict = grader.search(sample.gold, tail(generation.text))
        answer, outcome = verdict.answer, _outcome(verdict, truncated=False)
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
        truncated=truncated,
        answer=answer,
        outcome=outcome,
        correct=outcome == "correct",
        reflections=count_reflections(generation.text),
    )


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
