"""A sandbox for programs that models write: limits, no network, a throw-away folder, a deadline.

Each program is a process of its own (`inside.py`), and what is in force for it is told by
`Sandbox.isolation`:

- always (Linux, macOS): limits of processor time, address space, file size and open files for each
  process; caps on the clock and on output; an empty environment; an empty folder that is removed;
- ``memory`` (Linux): a limit of what all its processes hold together, files in memory included;
  looked at every 20 ms, so that a burst can pass it for that long;
- ``calls`` (Linux on x86-64 and ARM64): system calls that reach past the rest are refused
  (`syscalls.py`): sockets of other families, shared memory of System V, io_uring, tracing, mounts;
- ``processes``, ``network``, ``files`` (Linux, where this user may make namespaces): PID, IPC,
  mount, network and UTS namespaces for each program, and a user namespace unless root set them up.
  What it leaves behind is killed, whatever it did to escape. It sees no other process, no network,
  no service, no terminal, no home and no configuration: of files only the system's programs and
  libraries and this interpreter with its packages, read-only, and a folder of 64 MiB;
- ``network`` alone, where only ``calls`` is in force: no socket can be opened;
- ``user``: started by root, a program runs as a user that owns nothing, without any privilege;
- ``bubblewrap``: the sandbox's own process runs inside of bubblewrap, which shows it the same
  files; used where it is installed and where namespaces can be made inside of it.

What it does not cover: faults of the kernel and of the processor; time stolen from other processes;
what the installed packages say. Without ``files`` (a container's default, macOS) a program reads
what the user may, the user's terminal included, writes it, sees the command lines of all processes,
and kills the user's processes; where root's interpreter lies in folders of root's, it reads what
root may (``user`` is missing then). Evaluate in a container or a virtual machine.

Function exams take two sandboxes: the program runs in one and its tests in the other, see
`Sandbox.examine`.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from laconic.errors import SandboxError
from laconic.scoring.sandbox.rooms import shown, wrapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["ENDED", "LIMITS", "Ending", "Examined", "Limits", "Sandbox"]

INSIDE: Final = Path(__file__).with_name("inside.py")
#: Starting takes an interpreter's start, which a busy machine may take long over; in seconds.
STARTUP: Final = 120.0
#: What the parent waits beyond a program's clock before it kills the whole sandbox; in seconds.
SLACK: Final = 20.0
#: Users that own nothing: one for each sandbox, so that each counts its own processes.
FIRST_USER, USERS = 60_000, 5_000
#: Bytes of a request that travel with a descriptor.
SOME: Final = 1 << 12
#: The exit status of tests whose program ended before they did.
ENDED: Final = 3
TRIAL: Final = "import decimal, socket, threading\nprint(1)"


@dataclass(frozen=True)
class Limits:
    """What one program may take.

    Attributes:
        seconds: Processor seconds of each of its processes.
        clock: Seconds by the clock.
        memory: Bytes of address space of each of its processes.
        output: Bytes of standard output and error together.
        file: Bytes of one file.
        folder: Bytes of all files, where the folder is a file system of its own.
        processes: Processes and threads at a time.
    """

    seconds: int = 10
    clock: float = 30.0
    memory: int = 1 << 30
    output: int = 1 << 20
    file: int = 16 << 20
    folder: int = 64 << 20
    processes: int = 32


LIMITS: Final = Limits()


@dataclass(frozen=True)
class Ending:
    """How a program ended.

    Attributes:
        state: ``ended`` by itself; killed by a ``signal`` of its own making or the system's; over
            its processor ``time``, its ``clock``, its ``output`` or the ``memory`` of all its
            processes; ``stopped`` where its judge was done with it.
        code: The exit status, or the signal's number.
        output: What it wrote to standard output, as far as the limit lets it.
        errors: The end of what it wrote to standard error.
        seconds: Processor seconds used.
    """

    state: Literal["ended", "signal", "time", "clock", "output", "memory", "stopped"]
    code: int
    output: str
    errors: str
    seconds: float


@dataclass(frozen=True)
class Examined:
    """How an exam ended.

    Attributes:
        program: How the program ended.
        tests: How its tests ended: with status 0 where it passed them all, with `ENDED` where it
            ended before they did, and else with what they raised.
    """

    program: Ending
    tests: Ending

    @property
    def passed(self) -> bool:
        """Whether the program passed its tests."""
        return self.tests.state == "ended" and self.tests.code == 0


class Sandbox:
    """A process that runs programs one after the other; use it as a context manager, or `close` it.

    One thread at a time may use it. What is forgotten is killed with the interpreter.

    Args:
        limits: What each program may take.
        namespaces: Whether to use them; False is what there is where they are forbidden.
        bubblewrap: Whether to run inside of bubblewrap, where it is installed and works.

    Raises:
        SandboxError: Where it cannot be made, or does not run a first trial program.
    """

    def __init__(
        self, limits: Limits = LIMITS, *, namespaces: bool = True, bubblewrap: bool = True
    ) -> None:
        self._limits = limits
        self._namespaces = namespaces
        self._judge: Sandbox | None = None
        self._bubblewrap = bubblewrap
        usable = namespaces and bubblewrap and sys.platform == "linux"
        if found := shutil.which("bwrap") if usable else None:
            with contextlib.suppress(SandboxError):
                self._start(found, namespaces=True)
                return
        self._start(None, namespaces=namespaces)

    def _start(self, bubblewrap: str | None, *, namespaces: bool) -> None:
        """Start the sandbox's process and run a trial program in it.

        Raises:
            SandboxError: Where that fails.
        """
        folder = tempfile.mkdtemp(prefix="laconic-")
        paths, links = shown()
        settings = {
            **asdict(self._limits),
            "place": folder,
            "namespaces": namespaces,
            "closed": bubblewrap is not None,
            "paths": paths,
            "links": links,
            "ended": ENDED,
            "user": FIRST_USER + secrets.randbelow(USERS),
        }
        environment = {"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
        environment |= {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-s", "-P", str(INSIDE), json.dumps(settings)]
        if bubblewrap:
            command = [bubblewrap, *wrapping(folder, paths, links), "--", *command]
        self._socket, theirs = socket.socketpair()
        try:
            process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        except OSError as error:
            self._socket.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise SandboxError(f"The sandbox cannot be started: {error.strerror}.") from error
        finally:
            theirs.close()
        self._finish = weakref.finalize(self, _end, process, self._socket, folder)
        self._process = process
        self._rest = b""
        self.isolation: tuple[str, ...] = ()
        with self._whole():
            self._send({"source": TRIAL, "stdin": "", "role": "script"})
            reply = self._receive(STARTUP)
            self.isolation = tuple(reply.get("isolation", ()))
            trial = self._ending(reply)
        if trial.output != "1\n" or (bubblewrap and "files" not in self.isolation):
            self.close()
            raise SandboxError(
                f"The sandbox does not run a program of one line ({trial.state} {trial.code}: "
                f"{trial.errors[-200:]!r})."
            )

    def run(self, source: str, *, stdin: str = "") -> Ending:
        """Run a Python program to its end or to a limit.

        Args:
            source: The program.
            stdin: What it reads.

        Raises:
            SandboxError: Where the sandbox itself failed; it is closed then.
        """
        with self._whole():
            self._send({"source": source, "stdin": stdin, "role": "script"})
            return self._ending(self._receive(self._limits.clock + SLACK))

    def examine(self, source: str, tests: str, asked: Sequence[str] = ()) -> Examined:
        """Run tests of a program's functions, in a sandbox of their own (see `remote`).

        The program is loaded as a module whose name is not ``__main__``. It never sees the tests.

        Args:
            source: The program.
            tests: Python that raises where the program is wrong.
            asked: Names that the tests take from the program though the interpreter has them too.

        Raises:
            SandboxError: Where a sandbox itself failed; both are closed then.
        """
        if self._judge is None:
            limits = replace(self._limits, clock=self._limits.clock + SLACK)
            spaces, wrap = self._namespaces, self._bubblewrap
            self._judge = Sandbox(limits, namespaces=spaces, bubblewrap=wrap)
        judge = self._judge
        with self._whole(), judge._whole():
            ours, theirs = socket.socketpair()
            with ours, theirs:
                self._send({"source": source, "stdin": "", "role": "judged"}, ours)
                request = {"source": tests, "stdin": "", "role": "judge", "asked": [*asked]}
                judge._send(request, theirs)
            verdict = judge._ending(judge._receive(judge._limits.clock + SLACK))
            self._socket.sendall(b"\n")  # ends a program that has not ended
            program = self._ending(self._receive(self._limits.clock + SLACK))
        return Examined(program, verdict)

    def close(self) -> None:
        """End the sandbox, and the one of its judge."""
        self._finish()
        if self._judge:
            self._judge.close()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Close after any failure, Ctrl-C too: a reply still to come would be misread later."""
        try:
            yield
        except OSError as error:
            self.close()
            raise SandboxError(f"The sandbox broke ({error.strerror}).") from error
        except BaseException:
            self.close()
            raise

    def _send(self, request: dict[str, Any], channel: socket.socket | None = None) -> None:
        content = json.dumps(request).encode() + b"\n"
        descriptors = [channel.fileno()] if channel else []
        sent = socket.send_fds(self._socket, [content[:SOME]], descriptors)
        self._socket.sendall(content[sent:])

    def _ending(self, reply: dict[str, Any]) -> Ending:
        """How a program ended, by the sandbox's reply."""
        if "broken" in reply or tuple(reply.pop("isolation")) != self.isolation:
            self.close()
            why = reply.get("broken", "it no longer isolates programs as it did")
            raise SandboxError(f"The sandbox broke ({why}).")
        return Ending(**reply)

    def _receive(self, seconds: float) -> dict[str, Any]:
        """The next line that the sandbox answers."""
        end = time.monotonic() + seconds
        while b"\n" not in self._rest:
            piece = b""
            ready, _, _ = select.select([self._socket], [], [], max(0.0, end - time.monotonic()))
            with contextlib.suppress(ConnectionError):
                piece = self._socket.recv(1 << 16) if ready else b""
            if not piece:
                self.close()
                why = "ended" if ready else f"gave no answer within {seconds:g} s"
                raise SandboxError(f"The sandbox {why}.")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _end(process: subprocess.Popen[bytes], channel: socket.socket, folder: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # bubblewrap and what it started
    process.wait()
    channel.close()
    shutil.rmtree(folder, ignore_errors=True)
