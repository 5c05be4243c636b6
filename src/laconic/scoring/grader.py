"""A worker process that compares answers by algebra, with a deadline that nothing can outlast."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from laconic.scoring.answers import compare_plain, tidy, too_large

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

#: Part of a run's experiment: runs with other graders are not one experiment.
GRADER: Final = f"laconic/1 math-verify/{version('math-verify')}"
DEADLINE: Final = 5.0
MEMORY: Final = 3 * 2**30
#: Starting means importing sympy, which a busy machine may take long over.
STARTUP: Final = 120.0


@dataclass(frozen=True)
class Verdict:
    """How a comparison ended.

    Attributes:
        state: ``timeout`` where the deadline passed, ``error`` where the worker died, ran out of
            memory, or the answer was refused as too large to parse.
        answer: What was found in a text that was searched for an answer.
        reason: Why it is an error; empty otherwise.
    """

    state: Literal["equal", "unequal", "none", "timeout", "error"]
    answer: str | None = None
    reason: str = ""


class Grader:
    """Compares answers with golds; owns the worker process that runs Math-Verify.

    Plain answers are decided here and at once. The others go to one worker, started at the first
    of them and kept; one that outlasts the deadline or its memory is killed and replaced.
    Any thread may call; one comparison runs at a time. Use it as a context manager, or `close` it;
    what is forgotten is ended with the interpreter.

    Args:
        deadline: Seconds that one comparison may take.
        memory: Bytes of address space that the worker may take.
    """

    def __init__(self, *, deadline: float = DEADLINE, memory: int = MEMORY) -> None:
        self._deadline = deadline
        self._memory = memory
        self._lock = threading.Lock()
        self._worker: _Worker | None = None

    def compare(self, gold: str, answer: str) -> Verdict:
        """Whether an extracted answer equals the gold."""
        plain = compare_plain(gold, answer)
        if plain is not None:
            return Verdict("equal" if plain else "unequal")
        return self._ask(gold, tidy(answer), boxed=True)

    def search(self, gold: str, text: str) -> Verdict:
        """Whether the last answer that Math-Verify finds in a text without a box is the gold."""
        return self._ask(gold, text, boxed=False)

    def close(self) -> None:
        """End the worker."""
        with self._lock:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, gold: str, text: str, *, boxed: bool) -> Verdict:
        for name, part in (("gold", gold), ("answer", text)):
            if reason := too_large(part):
                return Verdict("error", reason=f"the {name} is not parsed: {reason}")
        with self._lock:
            try:
                return self._exchange((gold, text, boxed))
            except (EOFError, OSError) as error:
                self._stop()
                return Verdict("error", reason=f"the worker died ({error or 'end of file'})")
            except BaseException:  # such as Ctrl-C: an answer still to come would be misread later
                self._stop()
                raise

    def _exchange(self, question: tuple[str, str, bool]) -> Verdict:
        if self._worker is None:
            self._worker = _Worker(self._deadline, self._memory)
        pipe = self._worker.pipe
        pipe.send(question)
        if not pipe.poll(self._deadline):
            self._stop()
            return Verdict("timeout", reason=f"no verdict within {self._deadline:g} s")
        state, answer, reason = pipe.recv()
        return Verdict(state, answer, reason)

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker = None


class _Worker:
    """A running worker and the pipe to it; killed when forgotten and when the interpreter ends.

    It has a session of its own, so that Ctrl-C reaches only the parent, and it ends by itself
    when the pipe closes or when one comparison uses far more processor time than the deadline.
    """

    def __init__(self, deadline: float, memory: int) -> None:
        self.pipe, theirs = Pipe()
        code = (
            "import sys; from laconic.scoring.grader import serve; serve(*map(int, sys.argv[1:]))"
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


def _kill(process: subprocess.Popen[bytes], pipe: Connection) -> None:
    process.kill()
    process.wait()
    pipe.close()


def serve(descriptor: int, deadline: int, memory: int) -> None:
    """Answer comparisons until the pipe closes: the worker's whole life.

    Args:
        descriptor: The file descriptor of the pipe to the parent.
        deadline: Seconds that the parent waits for one answer.
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
        try:
            pipe.send(verify(gold, text, boxed=boxed))
        except Exception as error:  # noqa: BLE001  # sympy raises anything at all
            pipe.send(("error", None, f"{type(error).__name__}: {error}"[:200]))


def verify(gold: str, text: str, *, boxed: bool) -> tuple[str, str | None, str]:
    """Compare by Math-Verify, without a time limit: only for the worker.

    Args:
        gold: The right answer, LaTeX without its dollar signs.
        text: An extracted answer, or a text to find one in.
        boxed: Whether it is the former.

    Returns:
        What `Verdict` holds: the state, the answer found in a searched text, the reason.
    """
    from math_verify import parse
    from math_verify import verify as equal

    found = parse(rf"\boxed{{{text}}}" if boxed else text, parsing_timeout=None)
    if not found:
        return ("unequal" if boxed else "none", None, "")
    right = parse(f"${gold.strip().strip('$')}$", parsing_timeout=None)
    same = equal(right, found, timeout_seconds=None, raise_on_error=False)
    return ("equal" if same else "unequal", None if boxed else str(found[-1]), "")


def _limit(name: str, value: int) -> None:
    """Lower a soft limit of this process, where the system has such a limit."""
    import resource

    limit = getattr(resource, name, None)
    if limit is not None:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
