"""Many requests at once; each is repeated until it is answered or fails for good."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

from laconic.backends.client.protocol import RefusedError, TroubleError
from laconic.backends.client.servers import Server, Servers, back_off
from laconic.errors import BackendError

if TYPE_CHECKING:
    from laconic.backends.contract.call import Call
    from laconic.runs.run import Generation

#: Calls that may fail for good before the rest is given up.
GIVE_UP: Final = 20
#: The longest wait that a server's Retry-After may ask for, in seconds.
PATIENCE: Final = 600.0
Completed = tuple["Call", "Generation"]
log = logging.getLogger(__name__)


class Ask(Protocol):
    """Sends one call to one server."""

    def __call__(self, server: Server, call: Call) -> Awaitable[Generation]:
        """The completion.

        Raises:
            TroubleError: If it may succeed later.
            RefusedError: If it will not.
        """


@dataclass
class PendingCall:
    """A call that is not answered yet.

    Attributes:
        call: What is asked.
        tries: Requests made so far.
        began: The clock's time of the first; below zero before it.
        avoided: The server at which the last one failed.
    """

    call: Call
    tries: int = 0
    began: float = -1.0
    avoided: Server | None = None


@dataclass
class Dispatch:
    """Sends calls to servers, and hands completions over as they come.

    Attributes:
        servers: Where requests go.
        retries: Requests for one call beyond the first.
        deliver: Takes each completion, once.
    """

    servers: Servers
    retries: int
    deliver: Callable[[Completed], None]
    _waiting: deque[PendingCall] = field(default_factory=deque)
    _later: list[tuple[float, int, PendingCall]] = field(default_factory=list)
    _number: Iterator[int] = field(default_factory=itertools.count)
    _flying: set[asyncio.Task[None]] = field(default_factory=set)
    _failed: list[str] = field(default_factory=list)
    _stopped: bool = False
    _last_answer: float = -1.0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _bug: BaseException | None = None

    async def run(self, ask: Ask, calls: Sequence[Call]) -> None:
        """Complete every call.

        Raises:
            BackendError: If some failed for good: after all others were completed, unless
                nothing is answered any more or every request would fail in the same way.
        """
        clock = asyncio.get_running_loop().time
        self._waiting.extend(map(PendingCall, calls))
        try:
            while not self._stopped and (self._waiting or self._later or self._flying):
                self._start(ask, clock)
                await self._pause(clock())
        finally:
            flying = list(self._flying)
            for task in flying:
                task.cancel()
            await asyncio.gather(*flying, return_exceptions=True)
        if self._failed:
            first, more = self._failed[0], len(self._failed) - 1
            count = f" {more} more failed." if more else ""
            raise BackendError(
                f"{first}{count} What was finished is kept: the same command goes on from there."
            )

    def _start(self, ask: Ask, clock: Callable[[], float]) -> None:
        """Send what is due and has room."""
        now = clock()
        while self._later and self._later[0][0] <= now:
            self._waiting.appendleft(heapq.heappop(self._later)[2])
        while self._waiting:
            server = self.servers.pick(now, self._waiting[0].avoided)
            if server is None:
                return
            server.flying += 1
            task = asyncio.create_task(self._try(ask, self._waiting.popleft(), server, clock))
            task.add_done_callback(self._landed)
            self._flying.add(task)

    async def _pause(self, now: float) -> None:
        """Wait until something was answered, is due, or wakes."""
        times = [self._later[0][0]] if self._later else []
        if self._waiting and (awake := self.servers.next_awake(now)) is not None:
            times.append(awake)
        delay = max(0.0, min(times) - now) if times else None
        with suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._changed.wait()
        self._changed.clear()
        if self._bug is not None:
            raise self._bug

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._flying.discard(task)
        self._changed.set()
        if not task.cancelled():
            self._bug = self._bug or task.exception()

    async def _try(
        self, ask: Ask, pending: PendingCall, server: Server, clock: Callable[[], float]
    ) -> None:
        """Make one request, and settle what becomes of its call."""
        pending.tries += 1
        pending.began = clock() if pending.began < 0 else pending.began
        era = server.limit.era
        try:
            generation = await ask(server, pending.call)
            server.answered(generation.length, clock())
            self._last_answer = clock()
            self.deliver((pending.call, generation))
        except TroubleError as trouble:
            self._again(pending, server, era, trouble, clock())
        except RefusedError as refusal:
            self._fail(pending, f"{server.url}: {refusal}", always=refusal.always)
        finally:
            server.flying -= 1

    def _again(
        self, pending: PendingCall, server: Server, era: int, trouble: TroubleError, now: float
    ) -> None:
        """Put a call back for a later try, or give it up."""
        log.debug("%s: %s, try %s of %s", server.url, trouble, pending.tries, pending.call.key)
        wait = trouble.wait
        if wait is not None and wait > PATIENCE:
            self._fail(
                pending, f"{server.url} asks to come back in {wait:,.0f} seconds ({trouble})."
            )
            return
        if trouble.sign != "answer":
            server.troubled(era, now, wait, loaded=trouble.sign == "load")
        if pending.tries > self.retries:
            self._fail(
                pending, f"{server.url}: {pending.tries} requests failed, the last with {trouble}."
            )
            self._stopped |= self._last_answer <= pending.began
            return
        pending.avoided = server
        due = now + (back_off(pending.tries) if wait is None else wait)
        heapq.heappush(self._later, (due, next(self._number), pending))

    def _fail(self, pending: PendingCall, why: str, *, always: bool = False) -> None:
        """Give a call up; stop if the others would fail as well."""
        sample = pending.call.sample
        place = f"{sample.task}, problem '{sample.id}', repeat {sample.repeat}"
        self._failed.append(why if always else f"{place}: {why}")
        self._stopped |= always or len(self._failed) >= GIVE_UP


def complete(
    servers: Servers, retries: int, work: Callable[[Dispatch], Awaitable[None]]
) -> Iterator[list[Completed]]:
    """Run a dispatch in a thread of its own, and yield completions as they arrive.

    Requests go on while the caller scores and keeps what it was given. Closing the iterator
    cancels what is in flight.

    Args:
        servers: Where requests go.
        retries: Requests for one call beyond the first.
        work: Runs the dispatch it is given to its end.

    Raises:
        BackendError: What the dispatch raised, after all that was completed is handed over.
    """
    came: SimpleQueue[Completed | BaseException | None] = SimpleQueue()
    started = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = []

    async def main() -> None:
        dispatch = Dispatch(servers, retries, came.put)
        task = asyncio.ensure_future(work(dispatch))
        running.append((asyncio.get_running_loop(), task))
        started.set()
        await task

    def run() -> None:
        end: BaseException | None = None
        try:
            asyncio.run(main())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
            end = error
        started.set()
        came.put(end)

    thread = threading.Thread(target=run, name="laconic-requests", daemon=True)
    thread.start()
    try:
        yield from _handed_over(came)
    finally:
        started.wait()
        for loop, task in running:
            with suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(task.cancel)
        thread.join()


def _handed_over(came: SimpleQueue[Completed | BaseException | None]) -> Iterator[list[Completed]]:
    """Lists of the completions that have arrived, each as soon as there is one, until the end."""
    while True:
        items = [came.get()]
        with suppress(Empty):
            while True:
                items.append(came.get_nowait())
        pairs = [item for item in items if isinstance(item, tuple)]
        if pairs:
            yield pairs
        if len(pairs) < len(items):
            if isinstance(items[-1], BaseException):
                raise items[-1]
            return
