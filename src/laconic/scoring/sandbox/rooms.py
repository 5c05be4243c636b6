"""What a sandboxed program may see of the file system, and how bubblewrap is told so."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

#: What an interpreter needs of a system.
SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
    "/etc/localtime",
)
DEVICES: Final = ("null", "zero", "full", "random", "urandom")
#: What the sandbox's process needs of root's rights, to give them up itself for each program.
RIGHTS: Final = (
    "SYS_ADMIN",
    "SETUID",
    "SETGID",
    "SETPCAP",
    "KILL",
    "SYS_PTRACE",
    "DAC_READ_SEARCH",
)


def shown() -> tuple[list[str], list[tuple[str, str]]]:
    """The files that a program may read, and links to some of them: where they are, what they say.

    These are the system's programs and libraries, and this interpreter with its packages: no home,
    no configuration, no folder of data.
    """
    own = [Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parent]
    own = [*own, Path(sys.executable).resolve().parent, *(path.resolve() for path in own)]
    system = [Path(path) for path in SYSTEM]
    links = [(str(path), str(path.readlink())) for path in system if path.is_symlink()]
    found = (path for path in (*system, *own) if path.exists() and path != Path("/"))
    paths = {str(path) for path in found} - {path for path, _ in links}
    links.append(("/dev/fd", "/proc/self/fd"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        links.append((f"/dev/{name}", f"/proc/self/fd/{number}"))
    apart = [path for path in paths if not any(path.startswith(f"{other}/") for other in paths)]
    return sorted(apart), links


def wrapping(place: str, paths: list[str], links: list[tuple[str, str]]) -> list[str]:
    """Bubblewrap's arguments: namespaces, and a root that holds what is `shown` and little else.

    Args:
        place: A program's folder.
        paths: Files and folders to show, read-only.
        links: Symbolic links of the root.
    """
    words = ["--unshare-pid", "--unshare-ipc", "--unshare-net", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--cap-drop", "ALL"]
    if os.geteuid() == 0:
        words += [word for right in RIGHTS for word in ("--cap-add", f"CAP_{right}")]
    else:
        words.append("--unshare-user")
    inner = (*paths, place, "/dev/shm")
    parents = {str(parent) for path in inner for parent in Path(path).parents[:-1]}
    for parent in sorted(parents):  # bubblewrap's own would be closed to all but root
        words += ["--perms", "0755", "--dir", parent]
    for path in paths:
        words += ["--ro-bind", path, path]
    for path, target in links:
        words += ["--symlink", target, path]
    for name in DEVICES:
        words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    words += ["--dir", "/dev/shm", "--proc", "/proc", "--dir", place, "--chdir", place]
    return words
