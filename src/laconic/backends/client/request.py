"""The HTTP client: makes one request, and explains its failures."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Self

from laconic.backends.client.protocol import (
    RefusedError,
    Reply,
    Stream,
    TroubleError,
    read_reply,
    said,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import httpx2

#: The longest answer that is read: bytes of its own, and bytes for each token of the budget (an
#: event of a stream holds a token in some 300 bytes of JSON).
MOST_BYTES: Final = 1 << 20
TOKEN_ANSWER_BYTES: Final = 1 << 10
#: Statuses below 500 that speak of the moment, not of the request.
PASSING: Final = frozenset({408, 409, 425, 429})
#: Statuses that say a server has too much to do.
LOADED: Final = frozenset({408, 429, 503, 504, 529})
#: Statuses with which every other request would be answered, too.
GENERAL: Final = frozenset({401, 403, 404, 405})
CONNECT_SECONDS: Final = 20.0


class Clients:
    """Idle clients by address, each with one connection and for one request at a time.

    The library's own pool looks at every connection for every request, which costs more time than
    the requests themselves where there are hundreds.

    Args:
        open_client: Makes one more.
    """

    def __init__(self, open_client: Callable[[], httpx2.AsyncClient]) -> None:
        self._open = open_client
        self._idle: dict[str, list[httpx2.AsyncClient]] = {}
        self._all: list[httpx2.AsyncClient] = []

    @contextmanager
    def one(self, address: str) -> Iterator[httpx2.AsyncClient]:
        """The client that was idle for the shortest time, or a new one."""
        idle = self._idle.setdefault(address, [])
        if not idle:
            idle.append(self._open())
            self._all.append(idle[-1])
        client = idle.pop()
        try:
            yield client
        finally:
            idle.append(client)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._all:
            await client.aclose()


@dataclass(frozen=True)
class HttpAnswer:
    """The answer to a request that asks for no completion.

    Attributes:
        status: The HTTP status.
        body: What it holds, without the API key.
    """

    status: int
    body: bytes

    @property
    def value(self) -> Any:
        """The parsed JSON of an answer of status 2xx; None for any other."""
        try:
            return json.loads(self.body) if 200 <= self.status < 300 else None
        except (ValueError, RecursionError):
            return None


class HttpClient:
    """Makes requests to the servers of one model.

    Args:
        secret: The API key; empty for none. It goes into headers only, and is taken out of
            everything that servers say.
        timeout: Seconds for one request, from its start to the last byte of its answer.
        stream: Whether answers are streamed.
    """

    def __init__(self, secret: str, timeout: float, *, stream: bool) -> None:
        self._secret = secret
        self._timeout = timeout
        self._stream = stream

    def fetch(
        self, method: str, address: str, body: object = None, seconds: float | None = None
    ) -> HttpAnswer:
        """Make one request that asks for no completion, and wait for its answer.

        It runs in a thread of its own, for the caller may have an event loop running.

        Args:
            method: Such as GET.
            address: The whole URL.
            body: Sent as JSON; None for none.
            seconds: From the start to the last byte; None is for an answer that takes no work.

        Raises:
            TroubleError: If no whole answer comes in time.
        """
        limit = min(CONNECT_SECONDS, self._timeout) if seconds is None else seconds

        async def ask() -> HttpAnswer:
            import httpx2

            async with (
                httpx2.AsyncClient(headers=self._headers(), timeout=limit) as client,
                self._explained(limit),
                client.stream(method, address, json=body) as response,
            ):
                return HttpAnswer(response.status_code, await self._read(response, 0))

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, ask()).result()

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[Clients]:
        """Clients for completions, closed at the end of the block."""
        import httpx2

        trusted = httpx2.create_ssl_context()

        def open_client() -> httpx2.AsyncClient:
            return httpx2.AsyncClient(
                headers=self._headers(),
                timeout=httpx2.Timeout(self._timeout, connect=CONNECT_SECONDS, pool=None),
                verify=trusted,
            )

        async with Clients(open_client) as opened:
            yield opened

    async def ask(self, clients: Clients, address: str, body: dict[str, Any], budget: int) -> Reply:
        """Ask for one completion.

        Args:
            clients: From `clients`.
            address: The endpoint.
            body: The request.
            budget: Its token budget.

        Raises:
            TroubleError: For what may pass: no connection, a timeout, 429, 5xx, half an answer.
            RefusedError: For what will not.
        """
        with clients.one(address) as client:
            async with (
                self._explained(self._timeout),
                client.stream("POST", address, json=body) as response,
            ):
                if response.status_code != 200:
                    raise self._failure(response, await self._read(response, 0))
                if self._stream:
                    reply = await _gather(response, budget)
                else:
                    reply = read_reply(await self._read(response, budget), budget)
        thought = None if reply.reasoning is None else self._hide(reply.reasoning)
        return replace(reply, text=self._hide(reply.text), reasoning=thought)

    @asynccontextmanager
    async def _explained(self, seconds: float) -> AsyncIterator[None]:
        """Limit the time of a request, and turn its failures into sentences without the API key."""
        import httpx2

        try:
            async with asyncio.timeout(seconds):
                yield
        except (TimeoutError, httpx2.TimeoutException):
            raise TroubleError(f"no whole answer in {seconds:g} seconds", sign="load") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = self._hide(str(error)) or type(error).__name__
            raise TroubleError(f"a broken connection ({reason})", sign="health") from None
        except TroubleError as error:
            message = self._hide(str(error))
            raise TroubleError(message, sign=error.sign, wait=error.wait) from None
        except RefusedError as error:
            raise RefusedError(self._hide(str(error)), always=error.always) from None

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._secret}"} if self._secret else {}

    def _hide(self, text: str) -> str:
        """A text without the API key."""
        return text.replace(self._secret, "***") if self._secret else text

    def _failure(self, response: httpx2.Response, body: bytes) -> TroubleError | RefusedError:
        """The error that a status other than 200 stands for."""
        status, reason = response.status_code, said(body)
        status_text = f"status {status}" + (f", '{reason}'" if reason else "")
        if status in PASSING or status >= 500 or status < 300:
            wait = _retry_after(response.headers.get("Retry-After", ""))
            return TroubleError(
                status_text, sign="load" if status in LOADED else "health", wait=wait
            )
        if status in {401, 403}:
            return RefusedError(
                f"The server refuses the API key ({status_text}). Put the right one into the "
                "environment variable that key= names.",
                always=True,
            )
        if 300 <= status < 400:
            place = response.headers.get("Location", "elsewhere")
            return RefusedError(f"The server sends requests to {place}: give that.", always=True)
        advice = ""
        if any(word in reason.lower() for word in ("context", "max_tokens", "too long", "length")):
            advice = " Give a smaller --max-tokens, or a server started with a larger window."
        return RefusedError(
            f"The server refuses the request ({status_text}).{advice}", always=status in GENERAL
        )

    async def _read(self, response: httpx2.Response, budget: int) -> bytes:
        """The body without the API key.

        Raises:
            TroubleError: If it is longer than any answer of that many tokens.
        """
        pieces = [piece async for piece in _bounded(response, budget)]
        body = b"".join(pieces)
        return body.replace(self._secret.encode(), b"***") if self._secret else body


async def _gather(response: httpx2.Response, budget: int) -> Reply:
    """Read a streamed answer to its end."""
    events = Stream()
    pieces: list[bytes] = []
    async for piece in _bounded(response, budget):
        first, *others = piece.split(b"\n")
        pieces.append(first)
        for part in others:
            events.add(b"".join(pieces).decode("utf-8", "replace"))
            pieces = [part]
    events.add(b"".join(pieces).decode("utf-8", "replace"))
    return events.reply(budget)


async def _bounded(response: httpx2.Response, budget: int) -> AsyncIterator[bytes]:
    """The pieces of a body; an error if it is longer than any answer of that many tokens."""
    left = MOST_BYTES + budget * TOKEN_ANSWER_BYTES
    async for piece in response.aiter_bytes():
        left -= len(piece)
        if left < 0:
            raise TroubleError("an answer that does not end", sign="health")
        yield piece


def _retry_after(value: str) -> float | None:
    """The seconds of a Retry-After header, given as such or as a date; None for neither."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
