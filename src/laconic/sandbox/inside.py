"""The sandbox's own process: it shuts itself in, then runs programs that it is sent, one by one.

Run as a script, and imports nothing of this package: what it imports, programs can reach. It reads
requests from standard input and answers on standard output, a line of JSON each. Its parent guards
nothing but the clock.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

NEWNS, NEWUTS, NEWIPC = 0x0002_0000, 0x0400_0000, 0x0800_0000
NEWUSER, NEWPID, NEWNET = 0x1000_0000, 0x2000_0000, 0x4000_0000
SPACES = NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 0x4000, 0x4_0000
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS = 1, 4, 8
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
CAPABILITY_VERSION, CAP_DAC_READ_SEARCH = 0x2008_0522, 1 << 2
#: Users that own nothing: one for each sandbox, so that each counts its own processes.
FIRST_USER, USERS = 60_000, 5_000
STACK = 64 << 20
ERRORS = 4000
LINUX = sys.platform == "linux"

Settings = dict[str, Any]


def main() -> None:
    """Shut in, fork the process that serves, and wait for it; a program runs at the very end."""
    settings: Settings = json.loads(sys.argv[1])
    settings["user"] = FIRST_USER + os.getpid() % USERS
    become = partial(_change_user, settings["user"])
    settings["root"] = os.geteuid() == 0 and _attempt(become)
    settings["reads"] = settings["root"] and not _attempt(become, _list_library)
    settings["extra"] = 0 if settings["root"] else _tasks_of(os.geteuid())
    isolation = _isolate(settings)
    settings["isolation"] = isolation
    server = os.fork()
    if server:
        _, status = os.waitpid(server, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    if LINUX:
        _libc().prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _libc().prctl(PR_SET_CHILD_SUBREAPER, 1)
    program = _serve(settings)
    if program is not None:
        _execute(program)


def _isolate(settings: Settings) -> list[str]:
    """Leave the system's namespaces, as far as that is permitted; gives what is in force."""
    held = ["user"] if settings["root"] else []
    if not (LINUX and settings["namespaces"]):
        return held
    if not (settings["root"] and _libc().unshare(SPACES) == 0):
        if not _attempt(lambda: _leave_as_user(settings)):
            return held
        _leave_as_user(settings)
    libc = _libc()
    held += ["processes", "network"]
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    closed = (
        libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0
        and libc.syscall(ctypes.c_long(MOUNT_SETATTR), AT_FDCWD, b"/", AT_RECURSIVE, attributes, 32)
        == 0
    )
    if closed and _mount_folder(settings):
        held.append("files")
    if not settings["place"].startswith("/run/"):
        libc.mount(b"tmpfs", b"/run", b"tmpfs", MS_NOSUID | MS_NODEV, b"size=4k,mode=0555")
    return held


def _mount_folder(settings: Settings) -> bool:
    """Put a small file system of its own in the folder's place."""
    place = settings["place"].encode()
    options = f"size={settings['folder']},nr_inodes=4096,mode=0777".encode()
    flags = MS_NOSUID | MS_NODEV
    return bool(_libc().mount(b"tmpfs", place, b"tmpfs", flags, options) == 0)


def _serve(settings: Settings) -> str | None:
    """Answer requests until there are no more; in the process of a program, give its source."""
    _answer({"isolation": settings["isolation"]})
    buffer = b""
    while True:
        piece = os.read(0, 1 << 16)
        if not piece:
            return None
        buffer += piece
        if not buffer.endswith(b"\n"):
            continue
        request, buffer = json.loads(buffer), b""
        _clear(settings)
        reply = _run(settings, request)
        if reply is None:
            source: str = request["source"]
            return source
        _answer(reply)


def _answer(reply: Settings) -> None:
    _write(1, json.dumps(reply).encode() + b"\n")


def _write(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _clear(settings: Settings) -> None:
    """Give the next program an empty folder."""
    place = settings["place"]
    os.chdir("/")
    if "files" in settings["isolation"]:
        _libc().umount2(place.encode(), MNT_DETACH)
        _mount_folder(settings)
        return
    with contextlib.suppress(OSError):
        for entry in os.scandir(place):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)
        os.chmod(place, 0o777 if settings["root"] else 0o700)


def _run(settings: Settings, request: Settings) -> Settings | None:
    """Run a program and say how it ended; None in the program's own process."""
    os.chdir(settings["place"])
    given, name = tempfile.mkstemp()
    os.unlink(name)
    _write(given, request["stdin"].encode())
    os.lseek(given, 0, os.SEEK_SET)
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _become_program(settings, (given, out_end, err_end))
        return None
    os.close(given)
    os.close(out_end)
    os.close(err_end)
    try:
        return _watch(settings, child, (out, err), began)
    finally:
        os.close(out)
        os.close(err)


def _watch(settings: Settings, child: int, pipes: tuple[int, int], began: float) -> Settings:
    """Collect a program's output until it ends or passes a limit, then kill all that is left."""
    held = {pipe: bytearray() for pipe in pipes}
    poll = select.poll()
    poll.register(0, select.POLLHUP)
    for pipe in pipes:
        os.set_blocking(pipe, False)
        poll.register(pipe, select.POLLIN)
    state, ended, status, used = "ended", 0, 0, None
    while not ended:
        elapsed = time.monotonic() - began
        for pipe, _ in poll.poll(1 if elapsed < 0.1 else 20):
            if pipe == 0:
                _kill_rest(child)
                os._exit(0)
            if not _drain(pipe, held, settings["output"]):
                poll.unregister(pipe)
        if sum(map(len, held.values())) > settings["output"]:
            state = "output"
        elif elapsed > settings["clock"]:
            state = "clock"
        if state != "ended":
            os.kill(child, signal.SIGKILL)
            ended, status, used = os.wait4(child, 0)
        else:
            ended, status, used = os.wait4(child, os.WNOHANG)
    _kill_rest(child)
    for pipe in pipes:
        _drain(pipe, held, settings["output"])
    code = os.waitstatus_to_exitcode(status)
    seconds = used.ru_utime + used.ru_stime if used else 0.0
    if state == "ended" and code < 0:
        late = seconds >= settings["seconds"]
        state, code = "time" if late or -code == signal.SIGXCPU else "signal", -code
    out, err = (held[pipe].decode("utf-8", errors="replace") for pipe in pipes)
    return {
        "state": state,
        "code": abs(code),
        "output": out[: settings["output"]],
        "errors": err[-ERRORS:],
        "seconds": seconds,
    }


def _drain(pipe: int, held: dict[int, bytearray], most: int) -> bool:
    """Read what a pipe holds, up to a little more than the most; False at its end."""
    while sum(map(len, held.values())) <= most:
        try:
            piece = os.read(pipe, 1 << 16)
        except BlockingIOError:
            return True
        if not piece:
            return False
        held[pipe] += piece
    return True


def _kill_rest(child: int) -> None:
    """Kill every process that a program left behind, and wait until they are gone."""
    first = os.getpid() == 1  # of a namespace of our own: all others in it are the program's
    while True:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if first:
                os.kill(-1, signal.SIGKILL)
            else:
                os.killpg(child, signal.SIGKILL)
        for orphan in [] if first else _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
        try:
            if os.waitpid(-1, 0 if first or LINUX else os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def _children() -> list[int]:
    """The processes whose parent is this one, orphans of its descendants included."""
    found = []
    for name in os.listdir("/proc") if LINUX else []:
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{int(name)}/stat") as stream:
                parent = int(stream.read().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                found.append(int(name))
    return found


def _become_program(settings: Settings, streams: tuple[int, int, int]) -> None:
    """Turn this process into one that may run what it does not trust."""
    os.setsid()
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
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
    if LINUX and settings["reads"]:
        _libc().prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    if settings["root"]:
        _change_user(settings["user"])
    if LINUX:
        _libc().prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        kept = CAP_DAC_READ_SEARCH if settings["reads"] else 0
        sets = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)  # effective, permitted, inheritable
        _libc().capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), sets)


def _change_user(user: int) -> None:
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def _leave_as_user(settings: Settings) -> None:
    """Leave the system's namespaces without being root, in a namespace of users of our own.

    Raises:
        OSError: Where that is forbidden, or root would have to do it: no limit of processes holds
            for root, whatever the namespace.
    """
    if settings["root"]:
        if settings["reads"]:
            raise PermissionError
        os.chmod(settings["place"], 0o777)
        _change_user(settings["user"])
        _libc().prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self stays root's
        settings["root"] = False
    user, group = os.geteuid(), os.getegid()
    if user == 0 or _libc().unshare(SPACES | NEWUSER) != 0:
        raise PermissionError
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as stream:
            stream.write(text)


def _list_library() -> None:
    for folder in sys.path[1:]:
        if not folder.endswith(".zip"):
            os.listdir(folder)


def _attempt(*steps: Callable[[], None]) -> bool:
    """Whether a child of this process can do something."""
    child = os.fork()
    if child == 0:
        state = 1
        with contextlib.suppress(OSError):
            for step in steps:
                step()
            state = 0
        os._exit(state)
    return os.waitpid(child, 0)[1] == 0


def _execute(source: str) -> None:
    """Run a program as an interpreter's own script; it ends as any script ends."""
    sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.argv = ["program.py"]
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(source, "program.py", "exec"), module.__dict__)


def _tasks_of(user: int) -> int:
    """The processes and threads of a user, which a limit of processes may count as well."""
    count = 0
    for name in os.listdir("/proc") if LINUX else []:
        with contextlib.suppress(OSError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == user:
                count += len(os.listdir(f"/proc/{name}/task"))
    return count


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    main()
