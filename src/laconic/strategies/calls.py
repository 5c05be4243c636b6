"""What is asked of a model for one answer: one call, or one for a budget and one within it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from laconic.backends.contract.backend import Backend
    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Generation, Sample

#: Where the budget goes in the words of the second call.
BUDGET: Final = "{budget}"
#: Budgets that are asked for before the first answer: what a crash makes be asked again.
ROUND: Final = 256


def calls(sample: Sample) -> tuple[Sample, ...]:
    """The calls that one answer takes, as far as they are known before the first."""
    if not sample.estimate:
        return (sample,)
    return replace(sample, problem=sample.estimate, estimate=""), replace(sample, estimate="")


def complete(
    engine: Backend, samples: Sequence[Sample], sampling: Sampling
) -> Iterator[Sequence[tuple[Sample, Generation]]]:
    """Complete samples as `Backend.generate` does, those that estimate their budget by two calls.

    The estimate's tokens count in the answer's length and thought; each call may take the whole
    of `sampling.max_tokens`. The samples handed over hold the words of the second call.
    """
    if not samples or not samples[0].estimate:
        yield from engine.generate(samples, sampling) if samples else ()
        return
    for start in range(0, len(samples), ROUND):
        chunk = samples[start : start + ROUND]
        firsts = [calls(sample)[0] for sample in chunk]
        spent = {s.key: made for batch in engine.generate(firsts, sampling) for s, made in batch}
        asked = [_within(sample, spent[sample.key], sampling.max_tokens or 0) for sample in chunk]
        for batch in engine.generate(asked, sampling):
            yield [(sample, _both(spent[sample.key], made)) for sample, made in batch]


def estimated(text: str, most: int) -> int:
    """The budget that an answer to the first call names, in tokens.

    It is the number in the last ``[[...]]``, else the last number behind the thought; `most` where
    there is none, or none in reach.
    """
    said = text.rpartition("</think>")[2]
    found = re.findall(r"\[\[[^\d\[\]]{0,80}(\d+)[^\d\[\]]{0,80}\]\]", said)
    found = found or re.findall(r"\d+", said.replace(",", ""))
    named = int(found[-1][:9]) if found else 0
    return min(named, most) or most


def digest(engine: Backend, samples: Sequence[Sample]) -> dict[str, str]:
    """The first prompt exactly as the model sees it, and a digest of all of them in order."""
    firsts = [sample for sample in samples if sample.repeat == 0]
    prompts = [engine.render(call) for sample in firsts for call in calls(sample)]
    whole = hashlib.sha256("\0".join(prompts).encode("utf-8", "replace")).hexdigest()
    return {"first": prompts[0], "sha256": whole}


def _within(sample: Sample, estimate: Generation, most: int) -> Sample:
    """The second call, with the budget that the first gave."""
    budget = str(estimated(estimate.text, most))
    return replace(sample, problem=sample.problem.replace(BUDGET, budget), estimate="")


def _both(estimate: Generation, answer: Generation) -> Generation:
    """The answer, with what its budget cost."""
    return replace(
        answer,
        length=estimate.length + answer.length,
        thinking_length=estimate.thinking_length + answer.thinking_length,
    )
