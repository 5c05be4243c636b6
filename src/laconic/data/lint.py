"""Lint: what is wrong with the text of an answer before any tokenizer sees it.

What it does not cover: whether the answer is right (`laconic.data.pack` grades every row again) or
whether the reasoning is; texts that are wrong in a way no pattern shows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from laconic.scoring.answers.extract import is_escaped
from laconic.stats.texts import loops

if TYPE_CHECKING:
    from collections.abc import Mapping

    from laconic.data.answers import Row, Selection, TrainingAnswer

#: What is looked for, by the reason that is counted.
CHECKS: Final[Mapping[str, str]] = {
    "empty": "the answer is blank",
    "stray_brackets": 'it begins with [" or ends with "], as a list turned into text does',
    "unclosed_thought": "a thought was opened and never closed, or closed before it was opened",
    "several_thoughts": "more than one <think> or </think>",
    "no_answer_after_thought": "nothing follows </think>",
    "double_braces": r"\boxed{{...}}: a template's braces that were never filled in",
    "escaped": r"it was escaped for JSON: \\boxed, or \n in letters instead of line breaks",
    "missing_end": "a budget cut it: trained on, it teaches not to end",
    "broken_text": "characters that could not be decoded (U+FFFD) or lone surrogates",
    "turn_marker": "tokens of a chat template in the text, such as <|im_end|>",
    "loop": "it ends in a loop",
    "over_length": "it has more tokens than asked for (--max-tokens)",
    "duplicate": "the same answer to the same question again",
}
_STRAY = re.compile(r"""^\s*\[["']|["']\]\s*$""")
_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{\s*\{\s*\}?")
_MARKER = re.compile(
    r"<[|\uff5c][^|\uff5c<>\s]{2,40}[|\uff5c]>|</s>|\[/?INST\]|<(?:start|end)_of_turn>"
)
_SURROGATE = re.compile("[\ufffd\ud800-\udfff]")


def find_fault(answer: TrainingAnswer, *, max_tokens: int | None = None) -> str:
    """The first thing that is wrong with an answer's text; empty where nothing is.

    Args:
        answer: The answer; of its question, braces and turn markers are looked at.
        max_tokens: The most tokens it may have, as its writer counted them.
    """
    text = answer.response
    found: Mapping[str, object] = {
        "empty": not text.strip(),
        "stray_brackets": _STRAY.search(text),
        "several_thoughts": text.count("<think>") > 1 or text.count("</think>") > 1,
        "unclosed_thought": answer.thought == "open" or _unclosed(text),
        "no_answer_after_thought": "</think>" in text
        and not text.rpartition("</think>")[2].strip(),
        "double_braces": _BRACES.search(text) or _BRACES.search(answer.question),
        "escaped": is_escaped(text) or (text.count("\\n\\n") > 1 and "\n" not in text),
        "missing_end": answer.truncated,
        "broken_text": _SURROGATE.search(text) or _SURROGATE.search(answer.question),
        "turn_marker": _MARKER.search(text) or _MARKER.search(answer.question),
        "loop": loops(text),
        "over_length": max_tokens is not None and (answer.length or 0) > max_tokens,
    }
    return next((reason for reason, wrong in found.items() if wrong), "")


def lint(
    selection: Selection, *, max_tokens: int | None = None
) -> tuple[Selection, dict[str, str]]:
    """The rows with nothing wrong in their texts, and what is wrong with the others.

    Args:
        selection: Answers or pairs; a pair goes where either answer does.
        max_tokens: The most tokens of an answer, as its writer counted them.

    Returns:
        The rows that stay, and the reason by the id of each that goes.
    """
    faults: dict[str, str] = {}
    seen: set[tuple[str, ...]] = set()

    def wrong(row: Row) -> str:
        reason = next(filter(None, (find_fault(a, max_tokens=max_tokens) for a in row.answers)), "")
        same = (row.question, *(answer.response for answer in row.answers))
        if not reason and same in seen:
            reason = "duplicate"
        seen.add(same)
        if reason:
            faults[row.id] = reason
        return reason

    return selection.keep(wrong, {"step": "lint", "max_tokens": max_tokens}), faults


def _unclosed(text: str) -> bool:
    """Whether a thought is open at the end, or opened behind its close."""
    opened, closed = text.find("<think>"), text.find("</think>")
    return opened >= 0 and closed < opened
