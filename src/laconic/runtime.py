"""What every long-running function shares: progress callbacks, package versions, torch threads."""

from __future__ import annotations

import platform
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Progress(Protocol):
    """A callback that is called after each finished piece of work."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` pieces are finished; `note` says what they are."""


def silent(done: int, total: int, note: str = "") -> None:
    """Report nothing."""


def versions(*packages: str) -> dict[str, str]:
    """The installed versions of laconic, Python and the named packages."""
    names = ("laconic", *packages)
    installed = {name: _version(name) for name in names}
    return {"laconic": installed.pop("laconic"), "python": platform.python_version()} | installed


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Run with a number of torch threads, then restore the caller's number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
