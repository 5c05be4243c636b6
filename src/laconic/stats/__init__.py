"""What results say: estimates with 95 % intervals, paired comparisons and the Pareto front.

- `responses`: results as arrays, problem by problem. `summary`: one run. `pairs`: two runs.
- `bounded`, `intervals`, `notworse`: intervals that hold, and tests of "not worse".
- `front`: the Pareto front. `budgets`: what a smaller token limit would give.
- `difficulty`, `attempts`, `texts`: results by problem, by attempt, by wording.
"""

from __future__ import annotations

from laconic.stats.bounded import LEVEL, Estimate
from laconic.stats.budgets import BudgetOutcome, rebudget, smaller_budgets
from laconic.stats.difficulty import Ease, Level, Trend, by_ease, pass_rates, trend
from laconic.stats.front import Band, front_band, front_chances, hypervolume, pareto
from laconic.stats.notworse import NotWorse, Verdict, corrected, verdict
from laconic.stats.pairs import BothRight, Overall, Pair, overall, pair
from laconic.stats.responses import Responses, columns, shared
from laconic.stats.summary import Summary, summarise
from laconic.stats.texts import Keyword, Reflection, Texts, read_texts

__all__ = [
    "LEVEL",
    "Band",
    "BothRight",
    "BudgetOutcome",
    "Ease",
    "Estimate",
    "Keyword",
    "Level",
    "NotWorse",
    "Overall",
    "Pair",
    "Reflection",
    "Responses",
    "Summary",
    "Texts",
    "Trend",
    "Verdict",
    "by_ease",
    "columns",
    "corrected",
    "front_band",
    "front_chances",
    "hypervolume",
    "overall",
    "pair",
    "pareto",
    "pass_rates",
    "read_texts",
    "rebudget",
    "shared",
    "smaller_budgets",
    "summarise",
    "trend",
    "verdict",
]
