"""Finished answers that the grader cannot read, and a warning where they are many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from laconic.runs.run import Result

#: A share of the finished answers that is worth a warning.
MANY: Final = 0.1
SHOWN: Final = 60


def unread(task: str, runs: Mapping[str, Sequence[Result]]) -> str:
    """A warning of the runs in which many finished answers hold none; empty where there are few.

    Args:
        task: The task's name.
        runs: Its results by the name of the run.

    Returns:
        How many by run, one of them, and what to do.
    """
    told, example = [], None
    for name, results in runs.items():
        finished = [result for result in results if not result.truncated]
        lost = [result for result in finished if result.outcome == "no_answer"]
        if lost and len(lost) > MANY * len(finished):
            example = example or lost[0]
            share = round(100 * len(lost) / len(finished))
            told.append(f"{name} {len(lost):,} of {len(finished):,} ({share} %)")
    if example is None:
        return ""
    end = " ".join(example.text.split())[-SHOWN:]
    return (
        f"{task}: in many finished answers the grader finds no answer, and they count as wrong: "
        f"{', '.join(told)}. One is {example.id}, whose gold is {example.gold[:SHOWN]!r} and whose "
        f"text ends in {end!r}. laconic grade RUN --audit lists them. If they are right, ask for "
        "the answer in a \\boxed{} (--prompt); if the model only thinks, give it more tokens."
    )
