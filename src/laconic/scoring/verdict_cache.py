"""Verdicts kept on disk: what was compared once is not compared again."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
from typing import TYPE_CHECKING, Final

from laconic.scoring.worker import Question, Verdict

if TYPE_CHECKING:
    from pathlib import Path

#: The file holds the last so many verdicts, about 100 bytes each.
MOST: Final = 500_000
#: New verdicts that are written together.
BATCH: Final = 200
#: Seconds to wait for another process that is writing.
PATIENCE: Final = 5.0
LOG = logging.getLogger(__name__)


class VerdictCache:
    """A file of verdicts by grader, gold and answer, used by any number of processes at once.

    It only saves time: where it is damaged or cannot be written, a warning is logged and grading
    goes on without it. Timeouts and errors are not kept: on another day they may end otherwise.

    Args:
        path: An SQLite file, made where it is missing.
        grader: The grader's version; another's verdicts are not seen.
    """

    def __init__(self, path: Path, grader: str) -> None:
        self._path = path
        self._grader = grader
        self._lock = threading.Lock()
        self._new: dict[bytes, Verdict] = {}
        self._base: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)
            self._base.execute(
                "create table if not exists verdicts (number integer primary key, key blob not "
                "null unique, state text not null, answer text, reason text not null)"
            )
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def get(self, question: Question) -> Verdict | None:
        """The verdict on a question; None where it was never asked."""
        with self._lock:
            if self._base is None:
                return None
            try:
                row = self._base.execute(
                    "select state, answer, reason from verdicts where key = ?",
                    (self._key(question),),
                ).fetchone()
            except sqlite3.Error as error:
                self._give_up(error)
                return None
        return Verdict(*row) if row else None

    def put(self, question: Question, verdict: Verdict) -> None:
        """Keep a verdict; it is on disk once some more have come, or after `close`."""
        if verdict.state in {"timeout", "error"}:
            return
        with self._lock:
            self._new[self._key(question)] = verdict
            if len(self._new) >= BATCH:
                self._write()

    def close(self) -> None:
        """Write what is not on disk yet, and close the file."""
        with self._lock:
            self._write()
            if self._base is not None:
                self._base.close()
                self._base = None

    def _write(self) -> None:
        if self._base is None or not self._new:
            return
        rows = [(key, v.state, v.answer, v.reason) for key, v in self._new.items()]
        self._new.clear()
        try:
            with self._base:
                self._base.executemany(
                    "insert or ignore into verdicts (key, state, answer, reason) "
                    "values (?, ?, ?, ?)",
                    rows,
                )
                self._base.execute(
                    "delete from verdicts where number <= (select max(number) from verdicts) - ?",
                    (MOST,),
                )
        except (sqlite3.Error, UnicodeError) as error:
            self._give_up(error)

    def _key(self, question: Question) -> bytes:
        told = [self._grader, question.gold, question.text, question.boxed]
        return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).digest()

    def _give_up(self, error: Exception) -> None:
        LOG.warning(
            "%s is not used, grading is slower (%s). Delete it if it is damaged.", self._path, error
        )
        if self._base is not None:
            self._base.close()
            self._base = None
