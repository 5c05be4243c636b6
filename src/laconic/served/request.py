"""One request over HTTP: what is sent, and what its failures mean."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Self

from laconic.served.protocol import RefusedError, Reply, Stream, TroubleError, read_reply, said

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import httpx2

#: The longest answer that is read, in bytes.
MOST_BYTES: Final = 64 << 20
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


class Line:
    """How requests for one model are made.

    Args:
        model: The served model's name.
        secret: The API key; empty for none. It goes into headers only, and is taken out of what
            servers say.
        timeout: Seconds without a byte.
        stream: Whether answers are streamed.
    """

    def __init__(self, model: str, secret: str, timeout: float, *, stream: bool) -> None:
        self._model = model
        self._secret = secret
        self._timeout = timeout
        self._stream = stream

    def client(self) -> httpx2.Client:
        """A client for the questions before the first completion."""
        import httpx2

        return httpx2.Client(headers=self._headers(), timeout=CONNECT_SECONDS)

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
        """Make one request.

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
            return await self._ask(client, address, body, budget)

    async def _ask(
        self, client: httpx2.AsyncClient, address: str, body: dict[str, Any], budget: int
    ) -> Reply:
        import httpx2

        try:
            async with client.stream("POST", address, json=body) as response:
                if response.status_code != 200:
                    raise self._failure(response, await _read(response))
                if not self._stream:
                    return read_reply(await _read(response), budget)
                return await _gather(response, budget)
        except httpx2.TimeoutException as error:
            raise TroubleError(f"no answer in time ({type(error).__name__})", sign="load") from None
        except httpx2.HTTPError as error:
            reason = self._hide(str(error)) or type(error).__name__
            raise TroubleError(f"a broken connection ({reason})", sign="health") from None

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._secret}"} if self._secret else {}

    def _hide(self, text: str) -> str:
        """A text without the API key."""
        return text.replace(self._secret, "***") if self._secret else text

    def _failure(self, response: httpx2.Response, body: bytes) -> TroubleError | RefusedError:
        """What a status other than 200 means."""
        status, reason = response.status_code, self._hide(said(body))
        told = f"status {status}" + (f", '{reason}'" if reason else "")
        if status in PASSING or status >= 500:
            wait = _retry_after(response.headers.get("Retry-After", ""))
            return TroubleError(told, sign="load" if status in LOADED else "health", wait=wait)
        if status in {401, 403}:
            return RefusedError(
                f"The server refuses the API key ({told}). Put the right one into the environment "
                "variable that key= names.",
                always=True,
            )
        if 300 <= status < 400:
            place = response.headers.get("Location", "elsewhere")
            return RefusedError(f"The server sends requests to {place}: give that.", always=True)
        advice = ""
        if any(word in reason.lower() for word in ("context", "max_tokens", "too long", "length")):
            advice = " Give a smaller --max-tokens, or a server started with a larger window."
        return RefusedError(
            f"The server refuses the request ({told}).{advice}", always=status in GENERAL
        )


async def _read(response: httpx2.Response) -> bytes:
    """The body, up to the most that is read."""
    pieces, size = [], 0
    async for piece in response.aiter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > MOST_BYTES:
            raise TroubleError(f"an answer of more than {MOST_BYTES:,} bytes")
    return b"".join(pieces)


async def _gather(response: httpx2.Response, budget: int) -> Reply:
    """A streamed answer, put together."""
    made, size = Stream(), 0
    async for line in response.aiter_lines():
        size += len(line)
        if size > MOST_BYTES:
            raise TroubleError(f"a stream of more than {MOST_BYTES:,} letters")
        made.add(line)
    return made.reply(budget)


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
