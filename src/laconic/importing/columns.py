"""The columns of a row: by the names that a field is known by, or as the user maps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from laconic.importing.chats import last_asked, message_text
from laconic.importing.contract import answer, dig, text

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Columns that mean a field where the user maps none, the plainest first; a dot leads into an
#: object. A column is no length by its name: such columns hold words, characters or the prompt as
#: often as tokens. A server's usage is one.
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "problem_id", "custom_id", "question_id"),
    "sample": ("sample", "repeat"),
    "problem": ("problem", "question", "prompt", "query", "instruction"),
    "gold": (
        *("gold", "ground_truth", "gt", "gts", "expected_answer", "reference_answer", "target"),
        *("answer", "solution"),
    ),
    "response": (
        *("response", "text", "completion", "output", "generation", "generated_text"),
        *("responses", "completions", "outputs", "generations", "messages"),
    ),
    "thought": ("reasoning_content", "reasoning"),
    "length": ("usage.completion_tokens", "usage.output_tokens"),
    "thinking": (
        "usage.completion_tokens_details.reasoning_tokens",
        "usage.output_tokens_details.reasoning_tokens",
        "usage.reasoning_tokens",
    ),
    "cap": ("cap", "max_tokens", "max_new_tokens", "max_completion_tokens"),
    "finish": ("finish", "finish_reason", "stop_reason", "finish_reasons"),
}


def cell(row: Mapping[str, Any], column: str) -> Any:
    """What stands in a column, or at a path of names with dots between; None where nothing does."""
    return row[column] if column in row else dig(row, *column.split("."))


def column_of(row: Mapping[str, Any], field: str) -> str:
    """The column that is known to be a field of this row; empty where there is none."""
    return next((name for name in ALIASES[field] if cell(row, name) is not None), "")


def known(row: Mapping[str, Any], field: str) -> Any:
    """What a row holds of a field by the names that it is known by."""
    return cell(row, column_of(row, field))


def asked(row: Mapping[str, Any]) -> str | None:
    """The problem of a row: a text, or the last user's turn of a conversation."""
    value = known(row, "problem")
    return text(value) or last_asked(value) or last_asked(row.get("messages"))


def gold(row: Mapping[str, Any]) -> str | None:
    """The right answer that a row holds."""
    return answer(known(row, "gold"))


def name(row: Mapping[str, Any]) -> str | None:
    """The problem's name that a row holds."""
    value = known(row, "id")
    whole = isinstance(value, str | int) and not isinstance(value, bool)
    return text(str(value)) if whole else None


def responses(value: Any) -> list[tuple[str, bool | None]] | None:
    """The completions in a cell, each with whether its thought is still open; None for none.

    A cell holds a text, a message, a conversation whose last turn is the model's, or a list of
    texts or messages.
    """
    if isinstance(value, str):
        return [(text(value) or "", None)]
    if isinstance(value, dict):
        return [message_text(value)] if "content" in value else None
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(dig(turn, "role"), str) for turn in value):
        return [message_text(value[-1])] if dig(value[-1], "role") == "assistant" else None
    found = [responses(part) for part in value if isinstance(part, str | dict)]
    whole = len(found) == len(value) and all(found)
    return [pair for pairs in found for pair in pairs or ()] if whole else None
