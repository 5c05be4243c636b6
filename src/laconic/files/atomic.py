"""Files and folders that appear whole or not at all, after a power loss too, and who holds them.

Whatever is written beside its place and renamed goes through here: the bytes are on the disk before
the new name is, and the new name is before the call returns.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from laconic.errors import LaconicError

#: What a file system says that brings folders to the disk by itself, or not at all.
_NOT_FOR_FOLDERS: Final = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES}
#: What a file system says that knows no locks.
_NO_LOCKS: Final = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def sync(path: Path) -> None:
    """Bring a file, or the names that a folder holds, to the disk.

    Raises:
        OSError: Where the disk fails; for a file, what was written to it may be lost.
    """
    folder = path.is_dir()
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        if folder and error.errno in _NOT_FOR_FOLDERS:
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if not folder or error.errno not in _NOT_FOR_FOLDERS:
            raise
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and the missing ones above it; their names are on the disk.

    Raises:
        OSError: Where it cannot be made.
    """
    missing = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for one in missing:
        sync(one.parent)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Where to write a file, which takes its place when the block ends well.

    A reader sees the old file or the new one, after a power loss too. After an error the old one
    stands, and nothing is left beside it.

    Args:
        path: The file's place; its folder must be there.

    Raises:
        OSError: Where it cannot be written.
    """
    beside = path.with_name(f"{path.name}.partial")
    try:
        yield beside
        sync(beside)
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, as `writing` does."""
    with writing(path) as beside:
        beside.write_bytes(content)


def sync_all(folder: Path) -> None:
    """Bring a folder, its name and all that it holds to the disk; raises what `sync` does."""
    for where, _, names in os.walk(folder, topdown=False):
        here = folder.__class__(where)
        for name in names:
            if (path := here / name).is_file() and not path.is_symlink():
                sync(path)
        sync(here)
    sync(folder.absolute().parent)


def publish(beside: Path, folder: Path) -> None:
    """Move a finished folder to its place, all that it holds on the disk before.

    Args:
        beside: The folder as it was made, on the same file system.
        folder: Its place: missing, or an empty folder.

    Raises:
        OSError: Where it cannot be brought to the disk or moved.
    """
    sync_all(beside)
    beside.replace(folder)
    sync(folder.parent)
    if beside.parent != folder.parent:
        sync(beside.parent)


def lock(stream: IO[Any], busy: LaconicError) -> None:
    """Hold an open file against every other process, until it is closed.

    Args:
        stream: The file.
        busy: What to raise where another process holds it.

    Raises:
        LaconicError: `busy`; or another of its class, where the file system knows no locks.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise busy from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise type(busy)(
            f"{stream.name} cannot be locked: its file system knows no locks ({error.strerror}). "
            "Choose an output on another one, such as a local disk, and copy it when it is done."
        ) from error
