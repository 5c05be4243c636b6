"""The progress of an evaluation: accuracy, mean length and speed so far."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from laconic.runs.run import Result
    from laconic.runtime import Progress


@dataclass
class Tally:
    """Counts results, and reports accuracy, mean length and speed so far.

    Attributes:
        total: Results of the whole evaluation.
        progress: Is told after each batch.
        done: Results so far.
        correct: Those of them that are right.
        length: Their tokens.
    """

    total: int
    progress: Progress
    done: int = 0
    correct: int = 0
    length: int = 0
    _began: float | None = None
    _resumed: int = 0

    def start(self) -> None:
        """Begin to measure the speed: results that were kept from before do not count."""
        self._began, self._resumed = time.monotonic(), self.length

    @property
    def speed(self) -> float:
        """Tokens per second since the start."""
        elapsed = 0.0 if self._began is None else time.monotonic() - self._began
        return (self.length - self._resumed) / elapsed if elapsed else 0.0

    def add(self, results: Collection[Result]) -> None:
        """Count results, and report."""
        if not results:
            return
        self.done += len(results)
        self.correct += sum(result.correct for result in results)
        self.length += sum(result.length for result in results)
        note = (
            f"{self.correct / self.done:.1%} right, {self.length / self.done:,.0f} tokens a piece"
        )
        if self.speed:
            note += f", {self.speed:,.0f} tokens/s"
        self.progress(self.done, self.total, note)
