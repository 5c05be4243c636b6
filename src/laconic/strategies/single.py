"""The plain way: one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from laconic.backends.contract.call import Call
from laconic.strategies.contract.strategy import strategy

if TYPE_CHECKING:
    from laconic.strategies.contract.strategy import Steps, StrategyInput


@strategy(calls=1)
def single(question: StrategyInput) -> Steps:
    """One call, whose completion is the answer: the default."""
    return (yield Call(question.sample, final=True))
