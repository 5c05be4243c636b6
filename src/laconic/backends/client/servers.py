"""Servers: how many requests each is sent at a time, and when one is given time to recover."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

#: Requests in flight that a server is given at first.
START: Final = 8
#: Below this many in flight, growth is not held back by the measured speed.
SMALL: Final = 32
#: Rounds for which a limit stays once more requests at a time brought no more tokens.
HOLD: Final = 20
#: How much larger a limit must be for its speed to be compared with an earlier one's.
STEP: Final = 1.5
#: The gain of speed that such a step must bring.
GAIN: Final = 1.05
#: Failures per answer that are no sign of load.
LOSSES: Final = 0.1
#: How many more failures than that are forgiven.
BURST: Final = 3
#: Failures in a row after which a server gets one request at a time, after a rest.
ILL: Final = 8
#: The longest rest that we choose ourselves, in seconds.
LONGEST: Final = 60.0


def back_off(tries: int) -> float:
    """The seconds to wait after so many tries: doubling from half a second, with jitter."""
    return min(LONGEST, 0.5 * 2.0 ** min(tries - 1, 10)) * random.uniform(0.5, 1.0)


@dataclass
class ConcurrencyLimit:
    """How many requests one server is sent at a time: grows by adding, shrinks by halving.

    It grows by one for every answer until it is first halved, then by one for every round of
    answers. A sign of load halves it once, however many of the requests then in flight fail; other
    failures do where there is more than about one in ten answers, for a few lost connections say
    nothing about load. It stays, for a while, where half as many again have brought no more tokens
    per second.

    Attributes:
        most: It never grows beyond this.
        size: The limit now.
        era: How often it was halved; a request remembers the era it was sent in.
    """

    most: int
    size: float = START
    era: int = 0
    _slow: bool = False
    _hold: int = 0
    _mark: tuple[float, float] | None = None
    _began: float | None = None
    _done: int = 0
    _tokens: int = 0
    _goal: float = 2 * SMALL
    _losses: float = 0.0

    def __post_init__(self) -> None:
        self.size = min(self.size, self.most)

    def answered(self, tokens: int, now: float, *, full: bool) -> None:
        """Take note of an answer.

        Args:
            tokens: Its length.
            now: The clock, in seconds.
            full: Whether the limit was in use; one that is not says nothing about a larger one.
        """
        if self._began is None:
            self._began = now
        self._done += 1
        self._tokens += tokens
        self._losses = max(0.0, self._losses - LOSSES)
        if full and not self._hold:
            self.size = min(self.most, self.size + (1 / self.size if self._slow else 1))
        if self._done >= self._goal:
            self._end_round(now, full=full)

    def troubled(self, era: int, *, loaded: bool) -> None:
        """Take note of a failure.

        Args:
            era: That in which the request was sent; a limit halved since then stays.
            loaded: Whether it is a sign of load.
        """
        self._losses += 1
        if era == self.era and (loaded or self._losses > BURST):
            self._losses = 0.0
            self.size = max(1.0, self.size / 2)
            self.era += 1
            self._slow, self._hold, self._mark = True, 0, None
            self._restart(None)

    def _end_round(self, now: float, *, full: bool) -> None:
        speed = self._tokens / max(now - (self._began or now), 1e-6)
        self._restart(now)
        self._hold = max(0, self._hold - 1)
        if not full or self._hold:
            return
        if self._mark is None or self._mark[0] > self.size:
            self._mark = self.size, speed
        elif self.size >= STEP * self._mark[0]:
            if speed < GAIN * self._mark[1] and self.size > SMALL:
                self.size, self._hold, self._slow = max(self._mark[0], SMALL), HOLD, True
                self._mark = None
            else:
                self._mark = self.size, speed

    def _restart(self, now: float | None) -> None:
        self._began, self._done, self._tokens = now, 0, 0
        self._goal = 2 * max(self.size, SMALL)


@dataclass
class Server:
    """The state of one server.

    Attributes:
        url: The base URL, without a slash at its end.
        limit: How many requests it is given.
        flying: How many it has.
        failures: How many of its last requests failed in a row.
        rests_until: The clock's time before which it is left alone.
    """

    url: str
    limit: ConcurrencyLimit
    flying: int = 0
    failures: int = 0
    rests_until: float = 0.0

    @property
    def room(self) -> int:
        """How many more requests it may be sent now, unless it rests."""
        return (1 if self.failures >= ILL else int(self.limit.size)) - self.flying

    def answered(self, tokens: int, now: float) -> None:
        """Take note of an answer; call it while the request still counts as flying."""
        self.failures = 0
        self.limit.answered(tokens, now, full=self.flying >= int(self.limit.size))

    def troubled(self, era: int, now: float, wait: float | None, *, loaded: bool) -> None:
        """Take note of a failure, a sign of load or not, and of the seconds the server asked for.

        A server that fails again and again rests, longer each time.
        """
        self.failures += 1
        self.limit.troubled(era, loaded=loaded)
        if wait is None and self.failures >= ILL:
            wait = back_off(self.failures - ILL + 1)
        if wait is not None:
            self.rests_until = max(self.rests_until, now + wait)


@dataclass
class Servers:
    """The servers of one model, which take turns.

    Attributes:
        members: The servers.
    """

    members: Sequence[Server]
    _turn: int = field(default=0)

    def pick(self, now: float, avoided: Server | None) -> Server | None:
        """The server for the next request: the least busy one that has room; None if there is none.

        Args:
            now: The clock, in seconds.
            avoided: The server that this request failed at, taken where it is the only one.
        """
        count = len(self.members)
        turned = [self.members[(self._turn + i) % count] for i in range(count)]
        able = [s for s in turned if s.room > 0 and s.rests_until <= now]
        if not able:
            return None
        chosen = min(able, key=lambda s: (s is avoided, s.flying / s.limit.size))
        self._turn += 1
        return chosen

    def next_awake(self, now: float) -> float | None:
        """The earliest time at which a resting server may be used; None if none rests."""
        return min((s.rests_until for s in self.members if s.rests_until > now), default=None)
