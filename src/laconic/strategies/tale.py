"""TALE-EP: the model is asked for a budget of tokens, and then for an answer within it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from laconic.backends.contract.call import Call
from laconic.errors import StrategyError
from laconic.strategies.contract.strategy import strategy
from laconic.tasks.contract.prompts import BOX

if TYPE_CHECKING:
    from laconic.strategies.contract.strategy import Steps, StrategyInput

#: Han et al. 2024 (arXiv 2412.18547), figure 5.
ESTIMATE: Final = (
    "{problem}\nTask: Analyze the given question and estimate the minimum number of tokens "
    "required to generate a complete and accurate response. Please give the response by strictly "
    "following this format: [[budget]], for example, Budget: [[12]]."
)
ANSWER: Final = f"{{problem}}\nLet's think step by step and use less than {{budget}} tokens. {BOX}"


@strategy(calls=2)
def tale(question: StrategyInput, *, estimate: str = ESTIMATE, answer: str = ANSWER) -> Steps:
    """Ask for a budget of tokens first, then for an answer within it.

    Each call may take the whole budget of the evaluation, whatever the model estimates; the tokens
    of both count.

    Args:
        estimate: The first user's turn, with ``{problem}``.
        answer: The second user's turn, with ``{problem}`` and ``{budget}``.

    Source: Han et al. 2024 (arXiv 2412.18547), TALE-EP; the box is ours.
    """
    sample = question.sample
    if sample.raw:
        raise StrategyError(
            "The strategy tale writes a user's turn of its own, and the prompt goes to the model "
            "without its chat template. Choose another prompt: laconic list prompts."
        )
    first = estimate.replace("{problem}", sample.problem)
    reply = yield Call(replace(sample, problem=first))
    budget = str(estimated(reply.text, question.max_tokens))
    second = answer.replace("{budget}", budget).replace("{problem}", sample.problem)
    return (yield Call(replace(sample, problem=second), final=True))


def estimated(text: str, most: int) -> int:
    """The budget in tokens that the answer to the first call names.

    It is the number in the last ``[[...]]``, else the last number behind the thought; `most` if
    there is none, or only a larger one or 0.
    """
    reply = text.rpartition("</think>")[2]
    numbers = re.findall(r"\[\[[^\d\[\]]{0,80}(\d+)[^\d\[\]]{0,80}\]\]", reply)
    numbers = numbers or re.findall(r"\d+", reply.replace(",", ""))
    named = int(numbers[-1][:9]) if numbers else 0
    return min(named, most) or most
