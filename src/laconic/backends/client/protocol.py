"""OpenAI's protocol: the fields of a request, and how an answer is parsed and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from laconic.errors import BackendError

if TYPE_CHECKING:
    from laconic.backends.contract.call import Call
    from laconic.runs.experiment import Sampling
    from laconic.runs.run import Finish, Sample

#: What a failure says of a server.
Sign = Literal["load", "health", "answer"]
#: What servers call the two ends of a completion.
FINISHES: Final[Mapping[str, Finish]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
}
#: Ends that say the server broke the completion off: asked again.
BROKEN: Final = frozenset({None, "", "abort", "aborted", "cancelled", "error"})
#: No tokenizer in use has a token of more bytes than this.
TOKEN_BYTES: Final = 256
#: Seeds of completions are smaller than this.
SEEDS: Final = 1 << 31


class TroubleError(Exception):
    """A request failed, and may succeed if it is repeated.

    Args:
        reason: What happened, in a few words.
        sign: What it says of the server: too much ``load``, bad ``health``, or nothing beyond
            this one ``answer``.
        wait: The seconds that the server asked for; None where it did not.
    """

    def __init__(self, reason: str, *, sign: Sign = "answer", wait: float | None = None) -> None:
        super().__init__(reason)
        self.sign = sign
        self.wait = wait


class RefusedError(Exception):
    """A request failed, and would fail again if repeated.

    Args:
        reason: What happened and what to do, as sentences.
        always: Whether every other request would fail in the same way.
    """

    def __init__(self, reason: str, *, always: bool = False) -> None:
        super().__init__(reason)
        self.always = always


@dataclass(frozen=True)
class Reply:
    """A completion as a server returned it.

    Attributes:
        text: What the model wrote, but for what the server split off as reasoning.
        reasoning: What the server split off; None where it splits nothing.
        finish: How it ended.
        has_usage: Whether the server stated a usage at all.
        length: Completion tokens by that usage; None where it is absent or impossible.
        thinking_length: The reasoning tokens among them, where the usage says so.
    """

    text: str
    reasoning: str | None
    finish: Finish
    has_usage: bool
    length: int | None
    thinking_length: int | None


def seed_of(sample: Sample, sampling: Sampling) -> int:
    """A completion's own seed, in [0, SEEDS): a function of the run's, the problem and repeat."""
    key = json.dumps([sampling.seed, *sample.key]).encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:4], "big") >> 1


def settings(call: Call, sampling: Sampling, *, stream: bool) -> dict[str, Any]:
    """The part of a request that says how to sample; the same for chat and completions.

    Raises:
        BackendError: For a budget that is no number.
    """
    if sampling.max_tokens is None:
        raise BackendError("openai: sampling.max_tokens must be a number here.")
    fields: dict[str, Any] = {
        "max_tokens": call.budget(sampling.max_tokens),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if call.stops:
        fields["stop"] = list(call.stops)
    if sampling.temperature:
        fields["seed"] = seed_of(call.sample, sampling)
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return fields


def read_reply(body: bytes, max_tokens: int) -> Reply:
    """Parse a complete answer.

    Args:
        body: What the server sent with status 200.
        max_tokens: The budget that was asked for.

    Raises:
        TroubleError: For what is no whole completion.
        RefusedError: For a completion that ended in a way that no repetition mends.
    """
    answer = _object(body)
    choice = _choice(answer)
    message = choice.get("message")
    parts = message if isinstance(message, dict) else choice
    text = _text(parts, "content", "text")
    if text is None and not isinstance(message, dict):
        raise TroubleError("an answer without text")
    reasoning = _text(parts, "reasoning_content", "reasoning")
    return _reply(text or "", reasoning, choice.get("finish_reason"), answer, max_tokens)


@dataclass
class Stream:
    """Collects the server-sent events of a streamed answer.

    Attributes:
        texts: Pieces of the answer.
        reasonings: Pieces of what the server split off as reasoning; None where there were none.
        finish: The finish reason, once said.
        usage: The usage, once said.
        done: Whether the server said that this was all.
    """

    texts: list[str] = field(default_factory=list)
    reasonings: list[str] | None = None
    finish: Any = None
    usage: Any = None
    done: bool = False

    def add(self, line: str) -> None:
        """Add one line of the stream.

        Raises:
            TroubleError: For an event that is no part of a completion.
        """
        if not line.startswith("data:"):
            return
        content = line.removeprefix("data:").strip()
        if content == "[DONE]":
            self.done = True
            return
        event = _object(content.encode("utf-8", "surrogatepass"))
        self.usage = event.get("usage") or self.usage
        if not event.get("choices"):
            return
        choice = _choice(event)
        delta = choice.get("delta")
        parts = delta if isinstance(delta, dict) else choice
        if (text := _text(parts, "content", "text")) is not None:
            self.texts.append(text)
        if (thought := _text(parts, "reasoning_content", "reasoning")) is not None:
            self.reasonings = [*(self.reasonings or ()), thought]
        self.finish = choice.get("finish_reason") or self.finish

    def reply(self, max_tokens: int) -> Reply:
        """The complete answer, after the stream has ended; raises what `read_reply` does."""
        if not self.done and not (self.finish and self.usage):  # some servers send no [DONE]
            raise TroubleError("a stream that was cut", sign="health")
        thought = None if self.reasonings is None else "".join(self.reasonings)
        answer = {} if self.usage is None else {"usage": self.usage}
        return _reply("".join(self.texts), thought, self.finish, answer, max_tokens)


def said(body: bytes) -> str:
    """The message in the body of an error, in one line; empty if there is none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace")
        return "" if "<html" in text.lower() else " ".join(text.split())[:300]
    while isinstance(value, dict):
        inner = next((value[k] for k in ("error", "message", "detail") if value.get(k)), "")
        value = inner
    return " ".join(str(value).split())[:300]


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise TroubleError("an answer that is not JSON") from None
    if not isinstance(value, dict):
        raise TroubleError("an answer that is no JSON object")
    if value.get("error") or value.get("object") == "error":
        raise TroubleError(f"an error in place of an answer ({said(body)})", sign="health")
    return value


def _choice(answer: Mapping[str, Any]) -> dict[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise TroubleError("an answer without choices")
    return choices[0]


def _text(parts: Mapping[str, Any], *names: str) -> str | None:
    """The first of the named parts that is text, halves of characters replaced."""
    for name in names:
        if isinstance(text := parts.get(name), str):
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return None


def _reply(
    text: str, reasoning: str | None, finish: Any, answer: Mapping[str, Any], max_tokens: int
) -> Reply:
    if finish in BROKEN:
        raise TroubleError(f"a completion broken off (finish_reason {finish!r})", sign="health")
    if finish not in FINISHES:
        raise RefusedError(
            f"The server ended it with finish_reason {finish!r}, which is neither stop nor length."
        )
    has_usage = isinstance(answer.get("usage"), dict)
    usage = answer["usage"] if has_usage else {}
    length = _count(usage.get("completion_tokens"), most=max_tokens)
    if length is not None and length * TOKEN_BYTES < len((text + (reasoning or "")).encode()):
        length = None
    details = usage.get("completion_tokens_details")
    thought = details.get("reasoning_tokens") if isinstance(details, dict) else None
    thinking_length = _count(thought, most=length or 0)
    return Reply(text, reasoning, FINISHES[finish], has_usage, length, thinking_length)


def _count(value: Any, *, most: int) -> int | None:
    """A number of tokens that a server states; None if the value cannot be right."""
    possible = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most
    return value if possible else None
