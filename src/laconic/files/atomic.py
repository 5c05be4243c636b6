"""Files and folders that appear whole or not at all, also after a power loss; locks on files.

This is the only module that writes to a temporary name and renames. It brings the bytes to the disk
before the rename, and the new name before it returns.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from laconic.errors import LaconicError

#: The errors of a file system on which a folder cannot be synced; it does so itself, or never.
_NOT_FOR_FOLDERS: Final = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES}
#: The errors of a file system without locks.
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
    """A path to write a file to, which is moved to its place when the block ends without an error.

    A reader sees the old file or the new one, after a power loss too. After an error the old file
    is still there, and no partial one.

    Args:
        path: The file's place; its folder must be there.

    Raises:
        OSError: Where it cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, as `writing` does."""
    with writing(path) as partial:
        partial.write_bytes(content)


@contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which is moved to its place when the block ends without an error.

    A reader sees the whole folder or none, after a power loss too. After an error nothing is left.
    What an earlier process that was killed left behind is deleted.

    Args:
        folder: The folder's place: missing, or an empty folder.

    Raises:
        OSError: Where it cannot be written.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        make_folder(partial)
        yield partial
        publish(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync_all(folder: Path) -> None:
    """Bring a folder, its name and all that it holds to the disk; raises what `sync` does."""
    for where, _, names in os.walk(folder, topdown=False):
        here = folder.__class__(where)
        for name in names:
            if (path := here / name).is_file() and not path.is_symlink():
                sync(path)
        sync(here)
    sync(folder.absolute().parent)


def publish(partial: Path, folder: Path) -> None:
    """Move a finished folder to its place, after all that it holds is on the disk.

    Args:
        partial: The folder as it was made, on the same file system.
        folder: Its place: missing, or an empty folder.

    Raises:
        OSError: Where it cannot be brought to the disk or moved.
    """
    sync_all(partial)
    partial.replace(folder)
    sync(folder.parent)
    if partial.parent != folder.parent:
        sync(partial.parent)


def wait_for_lock(stream: IO[Any]) -> None:
    """Hold an open file against every other process, until it is closed; wait for it first.

    Raises:
        OSError: Where the file system knows no locks.
    """
    fcntl.flock(stream, fcntl.LOCK_EX)


def lock(stream: IO[Any], busy: LaconicError) -> None:
    """Hold an open file against every other process, until it is closed, or refuse.

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
