"""Several answers to a problem: pass@k and maj@k."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from laconic.scoring.answers.limits import too_large
from laconic.scoring.answers.spelling import normalise, rational
from laconic.stats.bounded import Estimate, mean_within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from laconic.stats.responses import Responses


def attempts(responses: Responses) -> tuple[int, ...]:
    """The k that pass@k and maj@k are given for: 1, 2, 4, ... and the responses of a problem.

    Where problems have different numbers of responses, the smallest counts: no k leaves a problem
    out.
    """
    most = int(responses.counts.min())
    return (*(2**i for i in range(most.bit_length()) if 2**i < most), most)


def pass_at(responses: Responses, k: int) -> Estimate:
    """The chance that at least one of k answers to a problem is right; a fraction.

    Unbiased from n responses with c right: 1 - C(n - c, k) / C(n, k) (Chen et al. 2021,
    arXiv 2107.03374), averaged over problems.

    Args:
        responses: At least k to each problem.
        k: How many answers are drawn.
    """
    n = responses.counts.astype(np.float64)
    wrong = n - np.rint(responses.accuracies * n)
    missed = np.ones(len(n))
    for i in range(k):  # C(w, k) / C(n, k) = product of (w - i) / (n - i)
        missed *= np.maximum(wrong - i, 0) / (n - i)
    return mean_within(1 - missed, 0.0, 1.0)


def majority_at(responses: Responses, k: int) -> Estimate:
    """The chance that the most frequent of k answers to a problem is right; a fraction.

    The responses of a problem are voted on in blocks of k, in the order of their repeats, and the
    blocks averaged, then the problems; a block that is not full is left out. All right answers are
    one candidate; wrong ones are one where they are the same number or, spelling that never
    changes a meaning aside, the same text. No answer is no vote. Of t candidates that tie for the
    most votes each wins 1/t of the block.

    Args:
        responses: At least k to each problem.
        k: How many answers vote.
    """
    problem, counts = responses.problem, responses.counts
    starts = np.cumsum(counts) - counts
    place = np.arange(len(responses)) - starts[problem]
    full = place < (counts // k * k)[problem]
    first_block = np.cumsum(counts // k) - counts // k
    block = (first_block[problem] + place // k)[full]
    won = _won(block, _candidates(responses)[full], int((counts // k).sum()))
    owner = np.repeat(np.arange(len(counts)), counts // k)
    values = np.bincount(owner, weights=won) / (counts // k)
    return mean_within(values, 0.0, 1.0)


def summaries(responses: Responses) -> tuple[Mapping[int, Estimate], Mapping[int, Estimate]]:
    """pass@k and maj@k by k."""
    ks = attempts(responses)
    return {k: pass_at(responses, k) for k in ks}, {k: majority_at(responses, k) for k in ks}


def _candidates(responses: Responses) -> NDArray[np.int64]:
    """What each response votes for: 0 for the right answer, -1 for nothing, else any number."""
    spellings = {row.answer or "" for row in responses.results if not row.correct}
    meanings = {spelling: _meaning(spelling) for spelling in spellings}
    number = {meaning: i for i, meaning in enumerate(sorted(set(meanings.values())), 1)}
    number[""] = -1
    votes = [0 if row.correct else number[meanings[row.answer or ""]] for row in responses.results]
    return np.array(votes, dtype=np.int64)[responses.order]


def _meaning(answer: str) -> str:
    """An answer as one text for all its spellings: its exact value where it is a plain number."""
    if too_large(answer):  # which the grader refuses unread, too
        return answer
    plain = normalise(answer)
    value = rational(plain)
    return str(value[0]) if value else plain


def _won(block: NDArray[np.int64], votes: NDArray[np.int64], blocks: int) -> NDArray[np.float64]:
    """The share of each block that the right answer wins, ``[block]``."""
    cast = votes >= 0
    most = int(votes.max(initial=0)) + 1
    ballots, counts = np.unique(block[cast] * most + votes[cast], return_counts=True)
    where, candidate = np.divmod(ballots, most)
    top = np.zeros(blocks, dtype=np.int64)
    np.maximum.at(top, where, counts)
    leads = counts == top[where]
    leaders = np.bincount(where[leads], minlength=blocks)
    right = np.bincount(where[leads & (candidate == 0)], minlength=blocks)
    won: NDArray[np.float64] = right / np.maximum(leaders, 1)
    return won
