"""A model's output in the chat form that inspect, evalscope and servers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from laconic.importing.contract import CLOSE, OPEN, count, dig, is_cut, joined, text

#: What servers and tools call a message's thought where it is a field of its own.
THOUGHTS: Final = ("reasoning_content", "reasoning")
#: What they call the counts of a usage.
LENGTHS: Final = (("completion_tokens",), ("output_tokens",))
THINKING: Final = (
    ("reasoning_tokens",),
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
)
ASKED: Final = (("prompt_tokens",), ("input_tokens",))


@dataclass(frozen=True)
class Usage:
    """What a server says of a completion's tokens.

    Attributes:
        length: Completion tokens.
        thinking: Those of them that are thought.
        beside: Whether the total shows that the thought was counted beside the completion.
    """

    length: int | None
    thinking: int | None
    beside: bool | None


@dataclass(frozen=True)
class Completion:
    """What an output says of its completion.

    Attributes:
        text: Thought and answer; empty where there is none.
        usage: Its tokens.
        cut: Whether the budget cut it.
        open: Whether the text is a thought that was never closed; None where none was kept apart.
    """

    text: str
    usage: Usage
    cut: bool | None
    open: bool | None


def completion(output: Any) -> Completion:
    """The first completion of an output: choices of messages, and a usage."""
    whole, unclosed = message_text(dig(output, "choices", 0, "message"))
    return Completion(
        text=whole,
        usage=usage(dig(output, "usage")),
        cut=is_cut(dig(output, "choices", 0, "stop_reason")),
        open=unclosed,
    )


def usage(value: Any) -> Usage:
    """A usage, by the names that servers and tools give its parts."""
    length, thinking, asked = (
        next((n for keys in names if (n := count(dig(value, *keys))) is not None), None)
        for names in (LENGTHS, THINKING, ASKED)
    )
    total, beside = count(dig(value, "total_tokens")), None
    if thinking and None not in (total, length, asked):
        sums = {(asked or 0) + (length or 0): False, (asked or 0) + (length or 0) + thinking: True}
        beside = sums.get(total or 0)
    return Usage(length, thinking, beside)


def message_text(message: Any) -> tuple[str, bool | None]:
    """The text of a model's message, thoughts before ``</think>``, and whether one is still open.

    A thought is a field of its own, or parts of the content. Parts keep their order; each one's
    marks are written where what surrounds it proves them.
    """
    content = dig(message, "content")
    if not isinstance(content, list):
        thought = next((t for name in THOUGHTS if (t := text(dig(message, name)))), None)
        return joined(thought, text(content) or "")
    whole, unclosed = "", None
    for part in content:
        thought, words = _thought(part), text(dig(part, "text")) or ""
        if thought:
            whole += (OPEN if unclosed is False else "") + thought
            unclosed = True
        elif words.strip() and unclosed:
            whole, unclosed = whole + CLOSE + words, False
        else:
            whole += words
    return whole, unclosed


def said(content: Any) -> str | None:
    """The text of a message, whose content is a text or a list of parts."""
    if isinstance(content, list):
        return "".join(text(dig(part, "text")) or "" for part in content)
    return text(content)


def last_asked(turns: Any) -> str | None:
    """The user's last turn of a conversation; None where there is none."""
    users = [t for t in turns if dig(t, "role") == "user"] if isinstance(turns, list) else []
    return said(dig(users, -1, "content"))


def _thought(part: Any) -> str | None:
    """The thought in a part of a message; what a provider has made unreadable is none."""
    if dig(part, "redacted") is True:
        return None
    return text(dig(part, "reasoning")) or text(dig(part, "thinking")) or None
