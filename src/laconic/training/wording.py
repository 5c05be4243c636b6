"""Whether a model is trained on the words it will be asked in: the pools' prompt beside dev's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from laconic.tasks.contract.prompts import PROMPTS, find_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PLAIN: Final = "{problem}"
#: What a prompt's text leaves open.
_PLACE = re.compile(r"\{(?:problem|examples|budget)\}")


def other_words(questions: Mapping[str, Sequence[str]], prompt: str) -> tuple[str, ...]:
    """A sentence for each pool whose questions are in other words than dev's.

    Args:
        questions: What the rows of each pool answer, as the user's turn.
        prompt: Dev's prompt: its name, or a text with ``{problem}``. A plain one is missed where a
            question is in the words of a prompt that has a name.
    """
    notes = []
    for pool, asked in questions.items():
        strange = sum(not _fits(question, prompt) for question in asked)
        if strange:
            notes.append(
                f"{strange:,} of {len(asked):,} questions of pool '{pool}' are not in the words "
                f"that dev asks in (dev.prompt: {prompt}): the model is trained on one prompt and "
                f"judged by another. Sample with --prompt '{prompt}', put the rows in these words "
                f"(laconic data select --task ... --prompt '{prompt}'), or change dev.prompt."
            )
    return tuple(notes)


def _fits(question: str, prompt: str) -> bool:
    """Whether a question may be made by a prompt."""
    text = find_prompt(prompt).text
    if text != PLAIN:
        return _worded(question, text)
    return not any(_worded(question, one.text) for one in PROMPTS.values() if one.text != PLAIN)


def _worded(question: str, text: str) -> bool:
    """Whether a question has the words of a prompt around its places."""
    first, *_, last = _PLACE.split(text)
    question = question.strip()
    return question.startswith(first.strip()) and question.endswith(last.strip())
