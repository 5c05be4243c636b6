"""A sandbox for programs that models write: limits, no network, a throw-away folder, a deadline.

What is in force is decided once, when a sandbox opens, and told by `Sandbox.isolation`:

- always (Linux, macOS): limits of processor time, memory, file size and open files; caps on the
  clock and on output; an empty environment; an empty folder that is removed afterwards;
- ``processes``, ``network``, ``files`` (Linux, where this user may make namespaces): every process
  that a program leaves behind is killed, whatever it did to escape; there is no network, and no
  service's socket in ``/run``; the whole file system is read-only but for the folder, of 64 MiB;
- ``user``: started by root, a program runs as a user that owns nothing; it may read what root may
  where the interpreter lies in folders of root's.

What it does not cover: faults of the kernel; what the user may read (a program sees the files, and
the last line of its error is kept with the results); memory of several processes together (each one
has the limit); time stolen from other processes; services that listen in the file system outside of
``/run``; a program that looks through its own interpreter for the check that follows it, to fake a
pass. Where namespaces are forbidden (a container's default, macOS), a program can also reach the
network, change the user's files, kill the user's processes, and leave one behind on macOS: evaluate
in a container or a virtual machine.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from laconic.errors import SandboxError

INSIDE: Final = Path(__file__).with_name("inside.py")
#: Starting takes an interpreter's start, which a busy machine may take long over; in seconds.
STARTUP: Final = 120.0
#: What the parent waits beyond a program's clock before it kills the whole sandbox; in seconds.
SLACK: Final = 20.0


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
            its processor ``time``, its ``clock`` or its ``output``.
        code: The exit status, or the signal's number.
        output: What it wrote to standard output, as far as the limit lets it.
        errors: The end of what it wrote to standard error.
        seconds: Processor seconds used.
    """

    state: Literal["ended", "signal", "time", "clock", "output"]
    code: int
    output: str
    errors: str
    seconds: float


class Sandbox:
    """A process that runs programs one after the other; use it as a context manager, or `close` it.

    One thread at a time may use it. What is forgotten is killed with the interpreter.

    Args:
        limits: What each program may take.
        namespaces: Whether to use them; False is what there is where they are forbidden.

    Raises:
        SandboxError: Where it cannot be made, or does not run a first trial program.
    """

    def __init__(self, limits: Limits = LIMITS, *, namespaces: bool = True) -> None:
        self._limits = limits
        folder = tempfile.mkdtemp(prefix="laconic-")
        settings = json.dumps({**asdict(limits), "place": folder, "namespaces": namespaces})
        environment = {"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
        environment |= {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-P", str(INSIDE), settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=folder,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise SandboxError(f"The sandbox cannot be started: {error.strerror}.") from error
        self.close = weakref.finalize(self, _end, self._process, folder)
        self._rest = b""
        try:
            ready = self._receive(STARTUP)
            self.isolation: tuple[str, ...] = tuple(ready["isolation"])
            trial = self.run("import decimal, socket, threading\nprint(1)")
        except BaseException:
            self.close()
            raise
        if trial.output != "1\n":
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
        request = json.dumps({"source": source, "stdin": stdin}).encode() + b"\n"
        pipe: IO[bytes] | None = self._process.stdin
        assert pipe is not None
        try:
            view = memoryview(request)
            while view:
                view = view[pipe.write(view) :]
            reply = self._receive(self._limits.clock + SLACK)
        except OSError as error:
            self.close()
            raise SandboxError(f"The sandbox broke ({error.strerror}).") from error
        except BaseException:  # such as Ctrl-C: a reply still to come would be misread later
            self.close()
            raise
        return Ending(**reply)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self, seconds: float) -> dict[str, Any]:
        """The next line that the sandbox answers."""
        pipe = self._process.stdout
        assert pipe is not None
        end = time.monotonic() + seconds
        while b"\n" not in self._rest:
            ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
            piece = os.read(pipe.fileno(), 1 << 16) if ready else b""
            if not piece:
                self.close()
                why = "ended" if ready else f"gave no answer within {seconds:g} s"
                raise SandboxError(f"The sandbox {why}.")
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _end(process: subprocess.Popen[bytes], folder: str) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
    shutil.rmtree(folder, ignore_errors=True)
