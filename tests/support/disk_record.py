"""A record of what a program has brought to the disk, to see what a loss of power would leave."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

State = tuple[int, int, int, int]


class Disk:
    """Watches `os.fsync` and every renaming in this process.

    A file is safe where it was brought to the disk as it now is, by number, time of change and
    size; a folder where its names were.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.synced: set[State] = set()
        self.listed: dict[tuple[int, int], set[str]] = {}
        self.renamed: list[tuple[str, str, list[str]]] = []
        fsync = os.fsync

        def brought(handle: int) -> None:
            fsync(handle)
            self.synced.add(_state(os.fstat(handle)))
            if os.path.isdir(where := f"/proc/self/fd/{handle}"):  # noqa: PTH112
                found = os.fstat(handle)
                self.listed[found.st_dev, found.st_ino] = set(os.listdir(where))  # noqa: PTH208

        patch.setattr(os, "fsync", brought)
        for name in ("rename", "replace"):
            patch.setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, real: Any) -> Any:
        def rename(source: Any, target: Any, **more: Any) -> None:
            path = Path(source)
            unsafe = self.unsafe(path) if path.exists() else []
            self.renamed.append((str(source), str(target), unsafe))
            real(source, target, **more)

        return rename

    def unsafe(self, root: Path) -> list[str]:
        """What a loss of power now could cost, of a file or of all that a folder holds."""
        return [
            str(path)
            for path in (root, *sorted(root.rglob("*")))
            if not path.is_symlink()
            and not {".lock", ".workers"} & set(path.parts)
            and _state(path.stat()) not in self.synced
        ]

    def named(self, path: Path) -> bool:
        """Whether the folder was brought to the disk when it had this name in it."""
        found = path.parent.stat()
        return path.name in self.listed.get((found.st_dev, found.st_ino), set())


def _state(found: os.stat_result) -> State:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
