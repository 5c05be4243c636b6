"""Warns where the training questions are worded by another prompt than the dev problems."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from laconic.tasks.contract.prompts import PROMPTS, find_prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PLAIN: Final = "{problem}"
#: The placeholders of a prompt's text.
_PLACEHOLDER = re.compile(r"\{(?:problem|examples|budget)\}")


def prompt_warnings(questions: Mapping[str, Sequence[str]], prompt: str) -> tuple[str, ...]:
    """A warning for each pool with questions that another prompt than dev's has worded.

    Args:
        questions: The questions of each pool's rows, as the user's turn.
        prompt: The prompt of the dev problems: its name, or a text with ``{problem}``. A question
            does not fit the plain prompt where it has the words of a prompt with a name.
    """
    warnings = []
    for pool, texts in questions.items():
        strange = sum(not _fits(text, prompt) for text in texts)
        if strange:
            warnings.append(
                f"{strange:,} of {len(texts):,} questions of pool '{pool}' are not in the words "
                f"that dev asks in (dev.prompt: {prompt}): the model is trained on one prompt and "
                f"judged by another. Sample with --prompt '{prompt}', put the rows in these words "
                f"(laconic data select --task ... --prompt '{prompt}'), or change dev.prompt."
            )
    return tuple(warnings)


def _fits(question: str, prompt: str) -> bool:
    """Whether a prompt may have worded a question."""
    text = find_prompt(prompt).text
    if text != PLAIN:
        return _has_words_of(question, text)
    return not any(_has_words_of(question, p.text) for p in PROMPTS.values() if p.text != PLAIN)


def _has_words_of(question: str, text: str) -> bool:
    """Whether a question begins and ends with the words around a prompt's placeholders."""
    first, *_, last = _PLACEHOLDER.split(text)
    question = question.strip()
    return question.startswith(first.strip()) and question.endswith(last.strip())
