"""The sandbox's own process: it runs the programs that it is sent, each shut in by itself.

Run as a script, and imports nothing of this package: what it imports, programs can reach. Requests
come from standard input, a socket, as a line of JSON each, and are answered there. For each program
it forks a keeper, which leaves the system's namespaces (`confine.py`), forks the program as a
process without privileges, and watches its memory until it ends; all that it leaves behind ends
with the keeper. This process watches the clock and the output.

A program runs as a script, as a ``judged`` one whose functions another process calls, or it is the
``judge``, an exam's tests, which calls them (`remote.py`).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
if TYPE_CHECKING:
    from laconic.scoring.sandbox import confine, memory, remote, syscalls
else:
    import confine
    import memory
    import remote
    import syscalls
del sys.path[0]
for _name in ("confine", "memory", "remote", "syscalls", "values"):
    sys.modules.pop(_name)  # a program's own modules may have these names

STACK = 64 << 20
ERRORS = 4000
#: A program's descriptor that leads to its judge, and a judge's that leads to its program.
CHANNEL = 3
#: Between two looks at a program's memory; in milliseconds, and ten times that where other
#: processes are to be looked at too.
LOOK = 20
LINUX = sys.platform == "linux"

Settings = dict[str, Any]


def main() -> None:
    """Serve; in a program's own process, run it at the very end."""
    settings: Settings = json.loads(sys.argv[1])
    become = partial(confine.change_user, settings["user"])
    root = settings["root"] = os.geteuid() == 0 and confine.attempt(become)
    reads = settings["reads"] = root and not confine.attempt(become, _list_library)
    settings["own user"] = root
    spaces, fork = LINUX and settings["namespaces"], confine.try_fork_apart
    if spaces and root and not reads and confine.attempt(become, partial(fork, mounts=True)):
        become()  # root is not needed again
        settings["root"] = False
    settings["namespaces"] = spaces and confine.attempt(partial(fork, mounts=False))
    settings["extra"] = 0 if root else _tasks_of(os.geteuid())
    settings["calls"] = LINUX and confine.attempt(_try_filter)
    confine.prctl(confine.PR_SET_DUMPABLE, 0)
    confine.prctl(confine.PR_SET_CHILD_SUBREAPER, 1)
    gc.freeze()  # what forks would copy to count it
    request = _serve(settings)
    if request is not None:
        _open_streams()
        _play(settings, request)


def _play(settings: Settings, request: Settings) -> None:
    """Be a program, as it ends: with its last line, an exception or an exit of its own."""
    source, channel = request["source"], request["role"] != "script" and remote.Channel(CHANNEL)
    if request["role"] != "judge":
        confine.prctl(confine.PR_SET_DUMPABLE, 1)
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = ["program.py"]
    if not channel:
        exec(compile(source, "program.py", "exec"), module.__dict__)
    elif request["role"] == "judge":
        remote.examine(source, request["asked"], channel, settings["ended"])
    else:
        remote.serve(source, channel)


def _open_streams() -> None:
    sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _serve(settings: Settings) -> Settings | None:
    """Answer requests until there are no more; in the process of a program, give its request."""
    parent = socket.socket(fileno=0)
    while (received := _receive(parent)) is not None:
        request, channel = received
        if not settings["namespaces"]:
            _clear(settings)
        reply = _run(settings, request, channel)
        if reply is None:
            parent.detach()
            return request
        parent.sendall(json.dumps(reply).encode() + b"\n")
    return None


def _receive(parent: socket.socket) -> tuple[Settings, int | None] | None:
    """The next request and the channel that came with it; None where there are no more."""
    buffer, channels = b"", []
    while not buffer.endswith(b"\n"):
        piece, descriptors, _, _ = socket.recv_fds(parent, 1 << 16, 1)
        channels += descriptors
        if not piece:
            return None
        buffer = (buffer + piece).lstrip(b"\n")  # a lone one stopped a program that had ended
    request: Settings = json.loads(buffer)
    return request, channels[0] if channels else None


def _clear(settings: Settings) -> None:
    """Give the next program an empty folder, where all have the same."""
    place = settings["place"]
    with contextlib.suppress(OSError):
        for entry in os.scandir(place):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        os.chmod(place, 0o777 if settings["root"] else 0o700)


def _run(settings: Settings, request: Settings, channel: int | None) -> Settings | None:
    """Run a program and say how it ended; None in the program's own process."""
    given = os.memfd_create("stdin") if LINUX else os.dup(tempfile.TemporaryFile().fileno())  # noqa: SIM115
    with open(given, "w+b", closefd=False) as stream:
        stream.write(request["stdin"].encode(errors="replace"))
    os.lseek(given, 0, os.SEEK_SET)
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    (report, report_end), (leash_end, leash) = os.pipe(), os.pipe()
    keeper = confine.fork_apart() if settings["namespaces"] else os.fork()
    if keeper == 0:
        os.close(leash)
        streams = [given, out_end, err_end, *([] if channel is None else [channel])]
        if _keep(settings, streams, report_end, leash_end):
            return None
        os._exit(0)
    for descriptor in (given, out_end, err_end, report_end, leash_end, channel):
        if descriptor is not None:
            os.close(descriptor)
    try:
        return _watch(settings, {"out": out, "err": err, "report": report}, leash)
    finally:
        for descriptor in (out, err, report):
            os.close(descriptor)
        os.waitpid(keeper, 0)
        _kill_rest(keeper)


def _watch(settings: Settings, pipes: dict[str, int], leash: int) -> Settings:
    """Collect what a program writes and what its keeper reports; stop it at a limit."""
    held = {name: bytearray() for name in pipes}
    poll = select.poll()
    poll.register(0, select.POLLIN)
    names = {pipe: name for name, pipe in pipes.items()}
    for pipe in names:
        os.set_blocking(pipe, False)
        poll.register(pipe, select.POLLIN)
    end, state, ended = time.monotonic() + settings["clock"], "", False
    while not ended:
        for pipe, event in poll.poll(
            max(0.0, end - time.monotonic()) * 1000 if not state else None
        ):
            if pipe == 0:
                if event & select.POLLHUP or os.read(0, 1) != b"\n":
                    os._exit(0)  # and with it keeper and program
                state = state or "stopped"
            elif not _drain(pipe, held[names[pipe]], settings["output"]):
                poll.unregister(pipe)
                ended = ended or names[pipe] == "report"
        if len(held["out"]) + len(held["err"]) > settings["output"]:
            state = state or "output"
        if time.monotonic() >= end:
            state = state or "clock"
        if state and leash >= 0:
            os.close(leash)
            leash = -1
    for name in ("out", "err"):
        _drain(pipes[name], held[name], settings["output"])
    if leash >= 0:
        os.close(leash)
    return _reply(settings, state, held)


def _reply(settings: Settings, state: str, held: dict[str, bytearray]) -> Settings:
    if not held["report"]:
        return {"broken": "its keeper was killed"}
    report: Settings = json.loads(held["report"])
    if "broken" in report:
        return report
    code, seconds = os.waitstatus_to_exitcode(report["status"]), report["seconds"]
    if state == "stopped" and code != -signal.SIGKILL:
        state = ""  # it ended while it was told to
    state = state or ("memory" if report["full"] else "ended")
    if state == "ended" and code < 0:
        late = seconds >= settings["seconds"] or -code == signal.SIGXCPU
        state = "time" if late else "signal"
    out, err = (held[name].decode("utf-8", errors="replace") for name in ("out", "err"))
    return {
        "state": state,
        "code": abs(code),
        "output": out[: settings["output"]],
        "errors": err[-ERRORS:],
        "seconds": seconds,
        "isolation": report["isolation"],
    }


def _drain(pipe: int, held: bytearray, most: int) -> bool:
    """Read what a pipe holds, up to a little more than the most; False at its end."""
    while len(held) <= most:
        try:
            piece = os.read(pipe, 1 << 16)
        except BlockingIOError:
            return True
        if not piece:
            return False
        held += piece
    return True


def _keep(settings: Settings, streams: list[int], report: int, leash: int) -> bool:
    """Be a program's keeper; True in the program's own process."""
    try:
        isolation = _shut_in(settings)
        os.chdir(settings["place"])
        program = os.fork()
        if program == 0:
            _become_program(settings, isolation, streams)
            return True
    except OSError as error:
        os.write(report, json.dumps({"broken": f"{error}"}).encode())
        return False
    for stream in streams:
        os.close(stream)
    status, seconds, full = _guard(settings, isolation, program, leash)
    answer = {"status": status, "seconds": seconds, "full": full, "isolation": isolation}
    os.write(report, json.dumps(answer).encode())
    return False


def _shut_in(settings: Settings) -> list[str]:
    """Shut this process in, as far as that is permitted; gives what is in force."""
    held = ["memory"] if LINUX else []
    held += ["calls"] if settings["calls"] else []
    held += ["bubblewrap"] if settings["closed"] else []
    if settings["namespaces"]:
        confine.die_with_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all that a program may send its keeper
        held += ["processes", "network"]
        with contextlib.suppress(OSError):
            socket.sethostname("sandbox")
            if settings["closed"]:
                confine.seal_root()
            else:
                confine.build_root(settings["place"], settings["paths"], settings["links"])
            confine.mount_own(settings["place"], settings["folder"])
            held.append("files")
            if settings["reads"]:  # what was closed to its user may have been a folder above
                become = partial(confine.change_user, settings["user"])
                settings["reads"] = not confine.attempt(become, _list_library)
    elif settings["calls"]:
        held.append("network")
    return held + (["user"] if settings["own user"] and not settings["reads"] else [])


def _guard(
    settings: Settings, isolation: list[str], program: int, leash: int
) -> tuple[int, float, bool]:
    """Wait for a program's end: its status, its processor seconds, and whether memory ended it."""
    folders = [settings["place"], "/dev/shm"] if "files" in isolation else []
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(woken, select.POLLIN)
    poll.register(leash, select.POLLIN)
    full = killed = False
    while True:
        with contextlib.suppress(ChildProcessError):
            child, status, used = os.wait4(-1, os.WNOHANG)
            if child == program:
                _kill_rest(program)
                return status, used.ru_utime + used.ru_stime, full
            if child:
                continue
        for descriptor, _ in poll.poll(LOOK if folders else 10 * LOOK):
            if descriptor == woken:
                os.read(woken, 1 << 10)
            elif not killed:
                os.kill(program, signal.SIGKILL)
                killed = True
                poll.unregister(leash)
        if not (killed or full) and memory.used(folders, settings["memory"]) > settings["memory"]:
            full = True
            os.kill(program, signal.SIGKILL)


def _kill_rest(child: int) -> None:
    """Kill every process that a program left behind, and wait until they are gone."""
    if os.getpid() == 1:
        return  # of a namespace of its own: the kernel does it as this process ends
    while True:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        if not LINUX:
            return
        for orphan in [each for each, parent in memory.parents().items() if parent == os.getpid()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _become_program(settings: Settings, isolation: list[str], streams: list[int]) -> None:
    """Turn this process into one that may run what it does not trust."""
    os.setsid()
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
    os.closerange(len(streams), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    limits: dict[str, int] = {
        "AS": settings["memory"],
        "FSIZE": settings["file"],
        "NOFILE": 64,
        "CORE": 0,
        "STACK": STACK,
        "NPROC": settings["processes"] + settings["extra"],
    }
    for name, value in limits.items():
        with contextlib.suppress(ValueError, OSError, AttributeError):
            kind = getattr(resource, f"RLIMIT_{name}")
            resource.setrlimit(kind, (value, value))
    seconds = settings["seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    user = settings["user"] if settings["root"] else None
    confine.drop_privileges(user=user, reads=settings["reads"])
    confine.die_with_parent()
    if settings["calls"]:
        families = syscalls.PLAIN if "processes" in isolation else ()
        if not syscalls.refuse(families):
            raise OSError("the system calls cannot be filtered")


def _list_library() -> None:
    for folder in sys.path:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.listdir(folder)


def _try_filter() -> None:
    confine.prctl(confine.PR_SET_NO_NEW_PRIVS, 1)
    if not syscalls.refuse(()):
        raise OSError


def _tasks_of(user: int) -> int:
    """The processes and threads of a user, which a limit of processes may count as well."""
    count = 0
    for name in os.listdir("/proc") if LINUX else []:
        with contextlib.suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


if __name__ == "__main__":
    main()
