"""Shuts a process in, on Linux: namespaces, a root of its own, no privileges (`inside.py` uses it).

Run inside of the sandbox, so it imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

NEWNS, NEWUTS, NEWIPC = 0x0002_0000, 0x0400_0000, 0x0800_0000
NEWUSER, NEWPID, NEWNET = 0x1000_0000, 0x2000_0000, 0x4000_0000
SPACES = NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x4_0000
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS = 1, 4, 8
PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 24, 36, 38
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000
CAPABILITY_VERSION, CAP_DAC_READ_SEARCH = 0x2008_0522, 1 << 2
#: The number of clone(2) by machine: a fork that also makes namespaces.
CLONE = {"x86_64": 56, "aarch64": 220}
DEVICES = ("null", "zero", "full", "random", "urandom")
LINUX = sys.platform == "linux"


def libc() -> Any:
    """The C library, its errors kept."""
    return ctypes.CDLL(None, use_errno=True)


def check(result: int) -> None:
    """Turn a failed call's result into an error.

    Raises:
        OSError: For any result but 0.
    """
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def prctl(option: int, value: int) -> None:
    """Set something of this process, where there is such a thing."""
    if LINUX:
        libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def die_with_parent() -> None:
    """Have this process killed when its parent ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def attempt(*steps: Callable[[], None]) -> bool:
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


def fork_apart() -> int:
    """Fork a child that is the first process of namespaces of its own; gives what fork gives.

    Raises:
        OSError: Where that is forbidden.
    """
    user, group = os.geteuid(), os.getegid()
    spaces = SPACES if user == 0 else SPACES | NEWUSER
    flags = ctypes.c_ulong(spaces | signal.SIGCHLD)
    number = CLONE.get(os.uname().machine, -1)
    child = int(libc().syscall(ctypes.c_long(number), flags, 0, 0, 0, 0))
    if child < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if child == 0 and user != 0:
        prctl(PR_SET_DUMPABLE, 1)  # else /proc/self is root's
        maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        for name, text in maps.items():
            with open(f"/proc/self/{name}", "w") as stream:
                stream.write(text)
    return child


def try_fork_apart(*, mounts: bool) -> None:
    """Fork such a child, which ends.

    Args:
        mounts: Whether it must be able to mount what a program sees of processes.

    Raises:
        OSError: Where that is not possible.
    """
    child = fork_apart()
    if child == 0:
        state = 1
        with contextlib.suppress(OSError):
            if mounts:
                mount(None, "/", None, MS_REC | MS_PRIVATE)
                _mount_processes("/proc")
            state = 0
        os._exit(state)
    if os.waitpid(child, 0)[1] != 0:
        raise OSError


def build_root(place: str, paths: Sequence[str], links: Sequence[tuple[str, str]]) -> None:
    """Give this process a root that holds little: some paths, read-only, and five devices.

    Args:
        place: A folder to build it at, which is there in the new root as well.
        paths: Files and folders to show, read-only.
        links: Symbolic links of the root: where they are, and what they say.

    Raises:
        OSError: Where a step fails; the old root stays then.
    """
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("tmpfs", place, "tmpfs", MS_NOSUID | MS_NODEV, "size=256k,mode=0755")
    for path in (*paths, *(f"/dev/{name}" for name in DEVICES)):
        _show(path, place + path)
    for path, target in links:
        os.symlink(target, place + path)
    for folder in ("/proc", "/dev/shm", place):
        os.makedirs(place + folder, exist_ok=True)
    _mount_processes(place + "/proc")  # while the old one can be seen, as the kernel asks
    _seal(place)
    os.chdir(place)
    check(libc().pivot_root(b".", b"."))  # the old root lies over the new one now
    check(libc().umount2(b".", MNT_DETACH))
    os.chdir("/")


def seal_root() -> None:
    """Make all that this process sees read-only, and its processes its own, in a small root.

    Raises:
        OSError: Where that is forbidden.
    """
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount_processes("/proc")
    _seal("/")


def _mount_processes(place: str) -> None:
    mount("proc", place, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)


def _seal(place: str) -> None:
    attributes = (ctypes.c_uint64 * 4)(MS_RDONLY | MS_NOSUID, 0, 0, 0)
    arguments = (AT_FDCWD, place.encode(), AT_RECURSIVE, attributes, ctypes.c_size_t(32))
    check(libc().syscall(ctypes.c_long(MOUNT_SETATTR), *arguments))


def _show(path: str, target: str) -> None:
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "a"):
            pass
    mount(path, target, None, MS_BIND | MS_REC)


def mount_own(place: str, size: int) -> None:
    """Mount what a program may write to: its folder and its shared memory.

    Raises:
        OSError: Where a mount is forbidden.
    """
    flags = MS_NOSUID | MS_NODEV
    mount("tmpfs", place, "tmpfs", flags, f"size={size},nr_inodes=4096,mode=0777")
    mount("tmpfs", "/dev/shm", "tmpfs", flags | MS_NOEXEC, f"size={size},nr_inodes=1024,mode=1777")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """Mount a file system.

    Raises:
        OSError: Where it fails.
    """
    words = [None if word is None else word.encode() for word in (source, target, kind)]
    check(libc().mount(*words, ctypes.c_ulong(flags), options.encode() or None))


def change_user(user: int) -> None:
    """Become another user, for good."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def drop_privileges(*, user: int | None, reads: bool) -> None:
    """Give up every privilege for good.

    Args:
        user: Whom to become.
        reads: Whether to keep the right to read any file that can be seen.
    """
    if LINUX:
        for capability in range(64):
            prctl(PR_CAPBSET_DROP, capability)
        prctl(PR_SET_KEEPCAPS, int(reads))
    if user is not None:
        change_user(user)
    if LINUX:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        kept = CAP_DAC_READ_SEARCH if reads else 0
        sets = (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0)  # effective, permitted, inheritable
        libc().capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), sets)
