"""The memory that a program's processes hold together, as Linux tells it.

Run inside of the sandbox, so it imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import os
import resource
import sys

LINUX = sys.platform == "linux"


def used(folders: list[str], limit: int) -> int:
    """Bytes that the descendants of this process hold, files in memory included.

    What several share counts for each of them, but where that would pass the limit.
    """
    every = parents()
    mine, found = {os.getpid()}, -1
    while len(mine) > found:
        found = len(mine)
        mine |= {process for process, parent in every.items() if parent in mine}
    mine.discard(os.getpid())
    files = 0
    for folder in folders:
        state = os.statvfs(folder)
        files += (state.f_blocks - state.f_bfree) * state.f_frsize
    rough = sum(map(_resident, mine)) + files
    return rough if rough <= limit else sum(map(_proportional, mine)) + files


def _resident(process: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{process}/statm") as stream:
        return int(stream.read().split()[1]) * resource.getpagesize()
    return 0


def _proportional(process: int) -> int:
    """Bytes of a process, where what n share counts for one nth."""
    try:
        with open(f"/proc/{process}/smaps_rollup") as stream:
            return next(int(line.split()[1]) for line in stream if line.startswith("Pss:")) << 10
    except (OSError, StopIteration):
        return _resident(process)


def parents() -> dict[int, int]:
    """The parent of each process that can be seen."""
    found = {}
    for name in os.listdir("/proc") if LINUX else []:
        path = f"/proc/{name}/stat"
        with contextlib.suppress(OSError, ValueError, IndexError), open(path) as stream:
            found[int(name)] = int(stream.read().rpartition(")")[2].split()[1])
    return found
