"""Verdicts on disk: asked once, shared by processes, bounded, and never in the way of grading."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from laconic.scoring import verdict_cache as kept
from laconic.scoring.score import Grader
from laconic.scoring.verdict_cache import VerdictCache
from laconic.scoring.worker import Question, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

GOLD, ANSWER = r"\frac{x+1}{2}", r"\frac{1+x}{2}"


def question(n: int) -> Question:
    return Question(str(n), "x", boxed=True)


def count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as base:
        return int(base.execute("select count(*) from verdicts").fetchone()[0])


def test_a_verdict_is_there_for_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "new" / "verdicts"
    with closing(VerdictCache(path, "g/1")) as grades:
        grades.put(Question("2", "x", boxed=False), Verdict("unequal", "7", "compared as words"))
    with closing(VerdictCache(path, "g/1")) as grades:
        found = grades.get(Question("2", "x", boxed=False))
        assert found == Verdict("unequal", "7", "compared as words")
        assert grades.get(Question("2", "x", boxed=True)) is None
        assert grades.get(Question("3", "x", boxed=False)) is None
    with closing(VerdictCache(path, "g/2")) as grades:
        assert grades.get(Question("2", "x", boxed=False)) is None


def test_a_grader_asks_no_worker_what_it_was_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Grader(grades=tmp_path / "verdicts") as grader:
        first = grader.compare(GOLD, ANSWER)
        searched = grader.search("7", "so it is 7")
        assert first.state == searched.state == "equal"
    monkeypatch.setattr("laconic.scoring.grader.Worker", None)  # any question would fail
    with Grader(grades=tmp_path / "verdicts") as grader:
        assert grader.compare(GOLD, ANSWER) == first
        assert grader.search("7", "so it is 7") == searched


def test_timeouts_and_errors_are_asked_again(tmp_path: Path) -> None:
    with closing(VerdictCache(tmp_path / "verdicts", "g")) as grades:
        grades.put(question(1), Verdict("timeout", reason="late"))
        grades.put(question(2), Verdict("error", reason="died"))
        grades.put(question(3), Verdict("none"))
    assert count(tmp_path / "verdicts") == 1


def test_the_oldest_verdicts_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 50)
    monkeypatch.setattr(kept, "BATCH", 10)
    with closing(VerdictCache(tmp_path / "verdicts", "g")) as grades:
        for n in range(200):
            grades.put(question(n), Verdict("equal"))
        assert count(tmp_path / "verdicts") == 50
        assert grades.get(question(199)) is not None
        assert grades.get(question(0)) is None


def test_processes_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from laconic.scoring import verdict_cache\n"
        "from laconic.scoring.worker import Question, Verdict\n"
        "verdict_cache.BATCH = 5\n"
        "kept = verdict_cache.VerdictCache(Path(sys.argv[1]), 'g')\n"
        "for n in range(150):\n"
        "    kept.put(Question(str(n + 100 * int(sys.argv[2])), 'x', True), Verdict('equal'))\n"
        "kept.close()\n"
    )
    path = tmp_path / "verdicts"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), str(n)], stderr=subprocess.PIPE, text=True
        )
        for n in range(3)
    ]
    told = [process.communicate(timeout=120)[1] for process in running]
    assert told == ["", "", ""]
    assert count(path) == 350


def test_a_damaged_file_is_named_and_grading_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "verdicts"
    path.write_bytes(b"years of work, and no database" * 100)
    with caplog.at_level(logging.WARNING), Grader(grades=path) as grader:
        assert grader.compare(GOLD, ANSWER).state == "equal"
    (record,) = caplog.records
    assert f"{path} is not used" in record.getMessage()
    assert path.read_bytes().startswith(b"years of work")


def test_a_folder_that_cannot_be_made_is_no_obstacle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING), Grader(grades=tmp_path / "file" / "x") as grader:
        assert grader.compare("1", "1").state == "equal"
    assert "is not used" in caplog.text
