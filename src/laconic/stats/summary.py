"""One model on one task: accuracy, length and what qualifies them, with 95 % intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from laconic.runs.run import Outcome
from laconic.stats.attempts import summaries
from laconic.stats.bounded import Estimate, mean_within, ratio_within
from laconic.stats.difficulty import Level, level, levels
from laconic.stats.intervals import error
from laconic.stats.responses import Responses, columns

if TYPE_CHECKING:
    from laconic.runs.run import Result


@dataclass(frozen=True)
class Summary:
    """What the results of one model on one task amount to.

    Accuracy and length weigh every problem the same; shares weigh every response the same. The two
    differ only while a run with repeats is unfinished.

    Attributes:
        n: How many responses.
        problems: How many different problems they answer.
        accuracy: Share that is right, as a fraction; with k repeats also called avg@k.
        accuracy_error: Its standard error, clustered by problem; null where one problem is all.
        length: Mean completion tokens, thinking included.
        length_error: Its standard error, clustered by problem.
        median: The length that half of the responses keep within, in tokens.
        truncated: Share that the budget cut; their true lengths are greater.
        truncated_share: The same with every problem counting the same, and its interval: how many
            may run into the budget without having been seen to.
        thinking: Share in which ``</think>`` closed a thought.
        reflective: Share that holds at least one reflection keyword.
        reflections: Reflection keywords, mean per response.
        thinking_length: Thinking tokens, mean per response.
        thinking_tokens: Thinking tokens as a share of all tokens.
        tokens_per_correct: Tokens spent for each right answer: mean length over accuracy.
        pass_at: The chance that one of k answers is right, by k.
        majority_at: The chance that the most frequent of k answers is right, by k.
        outcomes: How many responses ended in each outcome; outcomes that never occurred are 0.
        by_level: The same by the task's own difficulty, easiest first; empty where it has none.
    """

    n: int
    problems: int
    accuracy: Estimate
    accuracy_error: float
    length: Estimate
    length_error: float
    median: float
    truncated: float
    truncated_share: Estimate
    thinking: float
    reflective: float
    reflections: float
    thinking_length: float
    thinking_tokens: float
    tokens_per_correct: Estimate
    pass_at: Mapping[int, Estimate]
    majority_at: Mapping[int, Estimate]
    outcomes: Mapping[str, int]
    by_level: Mapping[int, Level]


def summarise(results: Iterable[Result] | Responses) -> Summary:
    """Sum up the results of one model on one task; their order does not matter.

    Raises:
        RunError: Where there are none.
    """
    responses = columns(results)
    n = len(responses)
    counts = Counter(row.outcome for row in responses.results)
    whole = level(responses)
    thought = float(responses.thinking_length.sum())
    pass_at, majority_at = summaries(responses)
    return Summary(
        n=n,
        problems=len(responses.problems),
        accuracy=whole.accuracy,
        accuracy_error=error(responses.accuracies),
        length=whole.length,
        length_error=error(responses.lengths),
        median=float(np.median(responses.length)),
        truncated=float(np.mean(responses.truncated)),
        truncated_share=mean_within(
            responses.means(responses.truncated.astype(np.float64)), 0.0, 1.0
        ),
        thinking=float(np.mean(responses.thinks)),
        reflective=float(np.mean(responses.reflections > 0)),
        reflections=float(np.mean(responses.reflections)),
        thinking_length=thought / n,
        thinking_tokens=thought / max(float(responses.length.sum()), 1.0),
        tokens_per_correct=ratio_within(
            responses.lengths, responses.accuracies, responses.longest, 1.0
        ),
        pass_at=pass_at,
        majority_at=majority_at,
        outcomes={outcome: counts[outcome] for outcome in get_args(Outcome)},
        by_level=levels(responses),
    )
