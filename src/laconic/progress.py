"""How long work reports where it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called after each finished piece of work."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` pieces are finished; `note` says what they are."""


def silent(done: int, total: int, note: str = "") -> None:
    """Report nothing."""
