"""A server on the loopback that speaks OpenAI's protocol, and misbehaves as it is told to."""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

Body = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A completion as the server gives it."""

    text: str
    tokens: int = 5
    finish: str | None = "stop"
    reasoning: str | None = None
    field: str = "reasoning_content"
    reasoning_tokens: int | None = None
    usage: bool = True


def boxed_number(body: Body) -> Answer:
    """Boxes the last number of the user's turn."""
    turn = body["messages"][0]["content"] if "messages" in body else str(body["prompt"])
    return Answer(f"\\boxed{{{re.findall(r'[0-9]+', turn)[-1]}}}")


@dataclass
class Chat:
    """The server, and what it saw.

    Attributes:
        answer: Makes a completion of a request.
        faults: The share of requests that each fault befalls, by its name in `FAULTS`.
        models: The models it lists, with what it says of each; None where it has no list.
        delay: Seconds before an answer.
        slow: Seconds before an answer that is too slow.
        room: The most requests it takes at a time; beyond, it answers 429.
        after: What a 429 asks for in its Retry-After header.
        tokenize: Makes the token ids of a text; None where the server has no such endpoint.
        reload: Takes the weights of a folder, and raises where it cannot; None where the server
            has no such endpoint.
        error: What its scripted errors say; "" for the status.
        escaped: Whether their letters are written as JSON escapes.
        script: What befalls the first requests, in order: a fault or a status; "" for nothing.
        url: Its base URL.
        seen: Requests by what befell them.
        given: Good answers sent in full, by what was asked.
        bodies: The requests for completions.
        headers: The headers of the last request.
        flying: Requests being answered.
        peak: The most of them at a time.
        forgotten: How often it was told to forget kept prefixes.
    """

    answer: Callable[[Body], Answer] = boxed_number
    faults: Mapping[str, float] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] | None = field(
        default_factory=lambda: {"m": {"owned_by": "vllm", "max_model_len": 4096, "root": "/w/m"}}
    )
    delay: float = 0.0
    slow: float = 5.0
    room: int = 1_000_000
    after: str = "0.05"
    tokenize: Callable[[str], list[int]] | None = None
    reload: Callable[[str], None] | None = None
    error: str = ""
    escaped: bool = False
    script: list[str | int] = field(default_factory=list)
    url: str = ""
    seen: Counter[str] = field(default_factory=Counter)
    given: Counter[str] = field(default_factory=Counter)
    bodies: list[Body] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    flying: int = 0
    peak: int = 0
    forgotten: int = 0
    _dice: random.Random = field(default_factory=lambda: random.Random(7))

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until it ends."""
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *rest = head.rstrip().split("\r\n")
                headers = dict(part.split(": ", 1) for part in rest)
                self.headers = {name.lower(): value for name, value in headers.items()}
                body = await reader.readexactly(int(self.headers.get("content-length", 0)))
                self.flying += 1
                self.peak = max(self.peak, self.flying)
                try:
                    await self._route(line.split()[1], body, writer)
                finally:
                    self.flying -= 1
                await writer.drain()
        writer.close()

    async def _route(self, path: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if path == "/v1/models" and self.models is not None:
            entries = [{"id": name, **facts} for name, facts in self.models.items()]
            return send(writer, 200, {"data": entries})
        if path == "/version":
            return send(writer, 200, {"version": "0.11.2"})
        if path == "/tokenize" and self.tokenize is not None:
            return send(writer, 200, {"tokens": self.tokenize(json.loads(body)["prompt"])})
        if path in {"/collective_rpc", "/reset_prefix_cache"} and self.reload is not None:
            return self._renew(path, body, writer, self.reload)
        if path not in {"/v1/chat/completions", "/v1/completions"}:
            return send(writer, 404, {"error": {"message": "Not Found"}})
        request: Body = json.loads(body)
        self.bodies.append(request)
        fault = self._fault()
        self.seen[str(fault)] += 1
        if self.flying > self.room:
            self.seen["full"] += 1
            return send(writer, 429, {"error": "full"})
        if isinstance(fault, int):
            return self._say(writer, fault, self.error or f"scripted {fault}")
        await asyncio.sleep(self.slow if fault == "late" else self.delay)
        answer = self.answer(request)
        chat = path == "/v1/chat/completions"
        if fault == "429 after":
            return send(writer, 429, {"error": "slow down"}, Retry_After=self.after)
        if fault == "error" and self.error:
            return self._say(writer, 200, self.error)
        if fault in ENDLESS:
            return await ENDLESS[fault](writer)
        if fault:
            return PLAIN[fault](writer, write(answer, chat=chat))
        if request.get("stream"):
            stream(writer, answer, chat=chat, cut=False)
        else:
            send(writer, 200, write(answer, chat=chat))
        self.given[asked(request)] += 1
        return None

    def _renew(
        self, path: str, body: bytes, writer: asyncio.StreamWriter, reload: Callable[[str], None]
    ) -> None:
        """What vLLM's server answers to the two requests of its developer mode that are used."""
        if path == "/reset_prefix_cache":
            self.forgotten += 1
            return send(writer, 200, b"")
        request: Body = json.loads(body)
        if request.get("method") != "reload_weights":
            return send(writer, 400, {"detail": "Missing 'method' in request body"})
        try:
            reload(request["kwargs"]["weights_path"])
        except ConnectionAbortedError:
            return writer.transport.abort()
        except Exception as error:  # noqa: BLE001  # a server answers whatever its engine raises
            return send(writer, 500, {"error": {"message": str(error)}})
        return send(writer, 200, {"results": [None]})

    def _say(self, writer: asyncio.StreamWriter, status: int, text: str) -> None:
        spelt = "".join(f"\\u{ord(c):04x}" for c in text) if self.escaped else text
        send(writer, status, f'{{"error": {{"message": "{spelt}"}}}}'.encode())

    def _fault(self) -> str | int:
        if self.script:
            return self.script.pop(0)
        draw = self._dice.random()
        for name, share in self.faults.items():
            draw -= share
            if draw < 0:
                return name
        return ""


def asked(body: Body) -> str:
    """What tells one sample's requests from another's."""
    turn = body["messages"][0]["content"] if "messages" in body else str(body["prompt"])
    return f"{turn}#{body.get('seed')}"


def write(answer: Answer, *, chat: bool) -> Body:
    """A whole answer's body."""
    usage: Body = {"prompt_tokens": 3, "completion_tokens": answer.tokens}
    if answer.reasoning_tokens is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": answer.reasoning_tokens}
    message: Body = {"role": "assistant", "content": answer.text}
    if answer.reasoning is not None:
        message[answer.field] = answer.reasoning
    part: Body = {"message": message} if chat else {"text": answer.text}
    whole: Body = {"choices": [{"index": 0, **part, "finish_reason": answer.finish}]}
    return {**whole, "usage": usage} if answer.usage else whole


def send(writer: asyncio.StreamWriter, status: int, body: object, **headers: str) -> None:
    """Send a body whole: as JSON, or as the bytes it is."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)


def stream(writer: asyncio.StreamWriter, answer: Answer, *, chat: bool, cut: bool) -> None:
    """Send an answer as server-sent events, a few letters each; cut: without its second half."""
    events: list[object] = []
    for name, text in ((answer.field, answer.reasoning or ""), ("content", answer.text)):
        for start in range(0, len(text), 7):
            piece = text[start : start + 7]
            part = {"delta": {name: piece}} if chat else {"text": piece}
            events.append({"choices": [{**part, "finish_reason": None}]})
    last: Body = {"delta": {}} if chat else {"text": ""}
    events.append({"choices": [{**last, "finish_reason": answer.finish}]})
    events.append({"choices": [], "usage": write(answer, chat=chat).get("usage")})
    lines = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for line in lines[: len(lines) // 2] if cut else lines:
        writer.write(f"{len(line):x}\r\n{line}\r\n".encode())
    if cut:
        writer.close()
    else:
        writer.write(b"0\r\n\r\n")


def _reset(writer: asyncio.StreamWriter, _: Body) -> None:
    writer.transport.abort()


def _cut(writer: asyncio.StreamWriter, body: Body) -> None:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    writer.write(head + content[: len(content) // 2])
    writer.close()


def _usage(number: object) -> Callable[[asyncio.StreamWriter, Body], None]:
    """Send an answer with another count of tokens."""
    return lambda writer, body: send(writer, 200, {**body, "usage": {"completion_tokens": number}})


PLAIN: Final[dict[str, Callable[[asyncio.StreamWriter, Body], None]]] = {
    "429": lambda w, _: send(w, 429, {"error": {"message": "slow down"}}),
    "500": lambda w, _: send(w, 500, {"error": {"message": "out of memory"}}),
    "503": lambda w, _: send(w, 503, b"<html>Service Unavailable</html>"),
    "reset": _reset,
    "cut": _cut,
    "cut stream": lambda w, _: stream(w, Answer("half of it"), chat=True, cut=True),
    "late": lambda w, body: send(w, 200, body),
    "garbage": lambda w, _: send(w, 200, b'{"choices": [{"mess\xff'),
    "text": lambda w, _: send(w, 200, b"OK"),
    "list": lambda w, _: send(w, 200, []),
    "deep": lambda w, _: send(w, 200, b"[" * 100_000),
    "none": lambda w, body: send(w, 200, {**body, "choices": []}),
    "error": lambda w, _: send(w, 200, {"error": {"message": "engine died"}}),
    "abort": lambda w, body: send(w, 200, write(Answer("half", 2, "abort"), chat=True)),
    "usage 0": _usage(0),
    "usage -1": _usage(-1),
    "usage much": _usage(10**9),
    "usage text": _usage("12"),
    "usage null": _usage(None),
}


async def _pour(writer: asyncio.StreamWriter, head: bytes, piece: bytes, pause: float) -> None:
    """Send a head, and a piece again and again until nobody listens."""
    writer.write(head)
    while not writer.is_closing():
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


OK: Final = b"HTTP/1.1 200 OK\r\n"
EVENTS: Final = OK + b"Content-Type: text/event-stream\r\n\r\n"
#: Answers without an end, in drops or in floods.
ENDLESS: Final[dict[str, Callable[[asyncio.StreamWriter], Awaitable[None]]]] = {
    "drops": lambda w: _pour(w, OK + b"Content-Length: 1000000\r\n\r\n", b" ", 0.05),
    "flood": lambda w: _pour(w, OK + b"\r\n", b" " * 65_536, 0),
    "interim": lambda w: _pour(w, b"", b"HTTP/1.1 102 Processing\r\n\r\n", 0.05),
    "keep-alives": lambda w: _pour(w, EVENTS, b": still here\n\n", 0.05),
    "endless line": lambda w: _pour(w, EVENTS + b"data: ", b"x" * 65_536, 0),
}
#: Every fault that passes, by its name.
FAULTS: Final = (*PLAIN, "429 after")


@contextmanager
def serve(chat: Chat) -> Iterator[Chat]:
    """Run a server in a thread until the block ends."""
    started = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        server = await asyncio.start_server(chat.connect, "127.0.0.1", 0, backlog=1024)
        chat.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        over = asyncio.Event()
        running.append((asyncio.get_running_loop(), over))
        started.set()
        await over.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    started.wait()
    try:
        yield chat
    finally:
        for loop, over in running:
            loop.call_soon_threadsafe(over.set)
        thread.join()
