"""Smaller budgets: what a run would have scored with fewer tokens, from what it has said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from laconic.stats.bounded import Estimate, mean_within

if TYPE_CHECKING:
    from laconic.stats.responses import Responses

#: The smaller budgets that a report shows, as parts of the largest.
PARTS: Final = (1, 3 / 4, 1 / 2, 3 / 8, 1 / 4, 1 / 8, 1 / 16)


@dataclass(frozen=True)
class BudgetOutcome:
    """A run as if each completion could have had only so many tokens.

    Attributes:
        cap: The budget, in tokens.
        accuracy: Share that is right; completions longer than the budget count as wrong.
        length: Mean tokens; completions longer than the budget count as the budget.
        truncated: Share that the budget cuts, those that the run's own budget cut included.
    """

    cap: int
    accuracy: Estimate
    length: Estimate
    truncated: float


def rebudget(responses: Responses, cap: int) -> BudgetOutcome:
    """A run under a smaller budget; under its own or a larger one it is what was measured.

    A completion that the smaller budget cuts counts as wrong even where its answer stood before
    the cut, so the accuracy is a lower bound; the length is exact, as tokens do not depend on the
    budget that they are generated under.

    Args:
        responses: The run on one task.
        cap: The budget, in tokens.
    """
    over = responses.length > cap
    return BudgetOutcome(
        cap=cap,
        accuracy=mean_within(responses.means(np.where(over, 0.0, responses.correct)), 0.0, 1.0),
        length=mean_within(responses.means(np.minimum(responses.length, cap)), 0.0, float(cap)),
        truncated=float(np.mean(over | responses.truncated)),
    )


def smaller_budgets(budgets: Sequence[int], runs: Sequence[Responses]) -> tuple[int, ...]:
    """The budgets to show for runs of one task, the largest first.

    Parts of the largest budget and every run's own, as long as one run has a tenth of its
    completions within them.

    Args:
        budgets: The runs' own.
        runs: The runs.
    """
    floor = min(float(np.quantile(run.length, 0.1)) for run in runs)
    parts = {round(max(budgets) * part) for part in PARTS}
    return tuple(sorted((c for c in parts | set(budgets) if c >= floor), reverse=True))
