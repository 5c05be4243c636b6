"""Refuses system calls to a process and to all that it starts, by a kernel filter (seccomp).

Programs are refused what namespaces leave open or what escapes the limits: sockets of other kinds
than those allowed (AF_VSOCK reaches the host of a virtual machine), io_uring (which opens sockets
past any filter), memory that belongs to no process (System V's, memfd), new namespaces and mounts,
other processes' memory, the kernel's keys, and parts of the kernel that programs need not see.
Numbers are those of x86-64 and of ARM64; elsewhere `refuse` says that it cannot.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Collection

#: A call's numbers on x86-64 and on ARM64.
REFUSED = {
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
}
SOCKET, SOCKETPAIR = (41, 198), (53, 199)
CLONE, CLONE3 = (56, 220), (435, 435)
IOCTL = (16, 29)
#: What a clone must not ask for: any namespace of its own.
NAMESPACES = 0x7E02_0000
#: Typing into a terminal, and the console's own calls.
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
AF_UNIX = 1
#: The families that lead nowhere from a network namespace of its own: AF_UNIX, INET and INET6.
PLAIN = (AF_UNIX, 2, 10)
#: The machine, the number of its kind in the kernel's audit, and its column above.
MACHINES = {"x86_64": (0xC000_003E, 0), "aarch64": (0xC000_00B7, 1)}
X32 = 0x4000_0000

LOAD, EQUAL, ATLEAST, ANYBIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, FAIL, KILL = 0x7FFF_0000, 0x0005_0000, 0x8000_0000
NUMBER, ARCHITECTURE, FIRST, SECOND = 0, 4, 16, 24
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2

Step = tuple[int, int, int, int]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def refuse(sockets: Collection[int]) -> bool:
    """Refuse the calls above from now on, for good; new privileges must be ruled out before.

    Args:
        sockets: The address families that may still be opened.

    Returns:
        Whether the kernel took the filter.
    """
    machine = os.uname().machine
    if machine not in MACHINES or ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    steps = _steps(*MACHINES[machine], sockets)
    packed = b"".join(
        code.to_bytes(2, "little") + bytes((yes, no)) + value.to_bytes(4, "little")
        for code, yes, no, value in steps
    )
    buffer = ctypes.create_string_buffer(packed, len(packed))
    program = _Program(len(steps), ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    mode = ctypes.c_ulong(SECCOMP_MODE_FILTER)
    return bool(libc.prctl(PR_SET_SECCOMP, mode, ctypes.byref(program), 0, 0) == 0)


def _steps(audit: int, column: int, sockets: Collection[int]) -> list[Step]:
    """The filter: a jump skips as many steps as it says, if true and if false."""
    steps: list[Step] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, audit),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]
    if column == 0:
        steps += [(ATLEAST, 0, 1, X32), (RETURN, 0, 0, FAIL | errno.ENOSYS)]
    for numbers in REFUSED.values():
        steps += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, FAIL | errno.EPERM)]
    steps += [(EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, FAIL | errno.ENOSYS)]
    steps += _when(CLONE[column], FIRST, [(ANYBIT, 0, 1, NAMESPACES)], errno.EPERM)
    typing = [(EQUAL, 1, 0, TIOCSTI), (EQUAL, 0, 1, TIOCLINUX)]
    steps += _when(IOCTL[column], SECOND, typing, errno.EPERM)
    for call, families in ((SOCKET, sorted(sockets)), (SOCKETPAIR, [AF_UNIX])):
        left = len(families)
        kept = [(EQUAL, left - place, 0, family) for place, family in enumerate(families)]
        steps += _when(call[column], FIRST, kept, errno.EAFNOSUPPORT)
    return [*steps, (RETURN, 0, 0, ALLOW)]


def _when(number: int, argument: int, tests: list[Step], error: int) -> list[Step]:
    """The steps that fail a call with an error unless tests of one argument jump over that."""
    inner: list[Step] = [(LOAD, 0, 0, argument), *tests, (RETURN, 0, 0, FAIL | error)]
    inner.append((RETURN, 0, 0, ALLOW))
    return [(EQUAL, 0, len(inner), number), *inner]
