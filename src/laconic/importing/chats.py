"""A model's output in the chat form that inspect and evalscope share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from laconic.importing.record import count, dig, is_cut, joined, text


@dataclass(frozen=True)
class Completion:
    """What an output says of its completion.

    Attributes:
        text: Thought and answer; empty where there is none.
        length: Completion tokens.
        thinking: Those of them that are thought.
        cut: Whether the budget cut it.
    """

    text: str
    length: int | None
    thinking: int | None
    cut: bool | None


def completion(output: Any) -> Completion:
    """The first completion of an output: choices of messages, and a usage."""
    content = dig(output, "choices", 0, "message", "content")
    usage = dig(output, "usage")
    return Completion(
        text=joined(_thought(content), said(content) or ""),
        length=count(dig(usage, "output_tokens")),
        thinking=count(dig(usage, "reasoning_tokens")),
        cut=is_cut(dig(output, "choices", 0, "stop_reason")),
    )


def said(content: Any) -> str | None:
    """The text of a message, whose content is a text or a list of parts."""
    if isinstance(content, list):
        return "".join(text(dig(part, "text")) or "" for part in content)
    return text(content)


def _thought(content: Any) -> str | None:
    parts = content if isinstance(content, list) else []
    return "".join(text(dig(part, "reasoning")) or "" for part in parts) or None
