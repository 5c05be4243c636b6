"""A worker process that compares answers by algebra, and its whole life at both ends of a pipe."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import time
import weakref
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from laconic.scoring.answers.algebra import let_memory_errors_out, verify

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

#: Starting means importing sympy, which a busy machine may take long over.
STARTUP: Final = 120.0
#: On a busy machine a worker waits for its processor, this many times the deadline at most.
PATIENCE: Final = 4


@dataclass(frozen=True)
class Verdict:
    """How a comparison ended.

    Attributes:
        state: ``timeout`` where the deadline passed, ``error`` where the worker died, ran out of
            memory, or the answer was refused as too large to parse.
        answer: What was found in a text that was searched for an answer.
        reason: Why it is a timeout or an error, or that only words were compared; else empty.
    """

    state: Literal["equal", "unequal", "none", "timeout", "error"]
    answer: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Question:
    """What a worker is asked.

    Attributes:
        gold: The right answer, LaTeX without its dollar signs.
        text: An extracted answer, or a text to find one in.
        boxed: Whether it is the former.
    """

    gold: str
    text: str
    boxed: bool


class Worker:
    """A running worker and the pipe to it; killed when forgotten and when the interpreter ends.

    It has a session of its own, so that Ctrl-C reaches only the parent, and it ends by itself
    when the pipe closes or when one comparison uses far more processor time than the deadline.

    Args:
        deadline: Processor seconds that one comparison may take.
        memory: Bytes of address space that it may take.

    Raises:
        OSError: Where it does not start.
    """

    def __init__(self, deadline: float, memory: int) -> None:
        self.deadline = deadline
        self.pipe, theirs = Pipe()
        code = (
            "import sys; from laconic.scoring.worker import serve; serve(*map(int, sys.argv[1:]))"
        )
        arguments = map(str, (theirs.fileno(), math.ceil(deadline), memory))
        path = os.pathsep.join(entry for entry in sys.path if entry)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )
        except BaseException:
            self.pipe.close()
            raise
        finally:
            theirs.close()
        self.kill = weakref.finalize(self, _kill, self.process, self.pipe)
        try:
            if not self.pipe.poll(STARTUP):
                raise OSError(f"it did not start within {STARTUP:g} s")
            self.pipe.recv()
        except BaseException:
            self.kill()
            raise

    def ask(self, question: Question) -> Verdict:
        """Have one question answered; a timeout leaves a worker that must be killed.

        Raises:
            OSError, EOFError: Where the worker has died.
        """
        self.pipe.send((question.gold, question.text, question.boxed))
        used, end = self._seconds(), time.monotonic() + PATIENCE * self.deadline
        while not self.pipe.poll(self.deadline / 8):
            if self._seconds() - used >= self.deadline or time.monotonic() >= end:
                return Verdict("timeout", reason=f"no verdict within {self.deadline:g} s")
        state, answer, reason = self.pipe.recv()
        return Verdict(state, answer, reason)

    def _seconds(self) -> float:
        """Processor seconds of the worker; of the clock where the system does not tell them."""
        try:
            stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        except OSError:
            return time.monotonic()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _kill(process: subprocess.Popen[bytes], pipe: Connection) -> None:
    process.kill()
    process.wait()
    pipe.close()


def serve(descriptor: int, deadline: int, memory: int) -> None:
    """Answer comparisons until the pipe closes: the worker's whole life.

    Args:
        descriptor: The file descriptor of the pipe to the parent.
        deadline: Processor seconds that the parent allows for one answer.
        memory: Bytes of address space to stay within.
    """
    from multiprocessing.connection import Connection

    import math_verify  # noqa: F401  # imported before the parent starts its clock

    pipe: Connection[Any, Any] = Connection(descriptor)
    _limit("RLIMIT_AS", memory)
    pipe.send("ready")
    while True:
        try:
            gold, text, boxed = pipe.recv()
        except EOFError:
            return
        # A worker whose parent was killed in the middle of a comparison must not run for ever.
        _limit("RLIMIT_CPU", math.ceil(sum(os.times()[:2])) + 2 * deadline + 5)
        let_memory_errors_out()
        try:
            pipe.send(verify(gold, text, boxed=boxed))
        except MemoryError:
            pipe.send(("error", None, f"it needs more than {memory / 2**20:,.0f} MiB of memory"))
        except Exception as error:  # noqa: BLE001  # sympy raises anything at all
            pipe.send(("error", None, f"{type(error).__name__}: {error}"[:200]))


def _limit(name: str, value: int) -> None:
    """Lower a soft limit of this process, where the system has such a limit."""
    import resource

    limit = getattr(resource, name, None)
    if limit is not None:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
