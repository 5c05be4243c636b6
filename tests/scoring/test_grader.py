"""The grader's workers: killed, replaced, bounded, shared by threads, never outliving us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from laconic.runs.run import Generation, Result, Sample
from laconic.scoring.score import Grader, score, score_all
from laconic.scoring.worker import Question, Worker

SLOW = r"\sum_{k=1}^{100000} \frac{1}{k}"


def scored(grader: Grader, text: str) -> Result:
    return score(Sample("t", "1", "?", "5"), Generation(text, 9, 4, True, "stop"), grader)


def worker_of(grader: Grader) -> subprocess.Popen[bytes]:
    """The process of a worker that has just answered."""
    number = len(grader._known)
    grader.compare(f"x_{number}", "y")
    return grader._idle[-1].process


@pytest.mark.slow
def test_a_comparison_that_outlasts_its_deadline_is_killed_and_the_next_one_works() -> None:
    with Grader(deadline=1) as grader:
        first = worker_of(grader)
        began = time.monotonic()
        result = scored(grader, rf"\boxed{{{SLOW}}}")
        assert (result.outcome, result.reason) == ("grader_timeout", "no verdict within 1 s")
        assert time.monotonic() - began < 30
        assert first.returncode == -signal.SIGKILL
        assert grader.compare("x+1", "1+x").state == "equal"
        assert worker_of(grader).pid != first.pid


@pytest.mark.slow
def test_a_worker_that_waits_for_its_processor_is_not_timed_out() -> None:
    with Grader(deadline=0.5) as grader:
        process = worker_of(grader)
        process.send_signal(signal.SIGSTOP)
        timer = threading.Timer(1.5, process.send_signal, [signal.SIGCONT])
        timer.start()
        assert grader.compare("x+1", "1+x").state == "equal"
        timer.join()


@pytest.mark.slow
def test_a_worker_that_waits_for_ever_is_timed_out() -> None:
    with Grader(deadline=1) as grader:
        worker_of(grader).send_signal(signal.SIGSTOP)
        assert grader.compare("x+1", "1+x").state == "timeout"


def test_a_worker_that_dies_is_an_error_and_is_replaced() -> None:
    with Grader() as grader:
        worker_of(grader).kill()
        assert grader.compare("x", "x+1").state == "error"
        assert grader.compare("x", "x+1").state == "unequal"


@pytest.mark.slow
def test_a_full_memory_is_an_error_and_never_wrong() -> None:
    worker = Worker(60, 2**28)
    verdict = worker.ask(Question("5", "2^{2^{30}}", boxed=True))
    assert (verdict.state, verdict.reason) == ("error", "it needs more than 256 MiB of memory")
    worker.kill()


def test_a_worker_stays_within_its_memory_and_time() -> None:
    resource = pytest.importorskip("resource", reason="this system has no limits to look at")
    if not hasattr(resource, "prlimit"):
        pytest.skip("only Linux shows another process's limits")
    with Grader(deadline=3, memory=2**29) as grader:
        process = worker_of(grader)
        assert resource.prlimit(process.pid, resource.RLIMIT_AS)[0] == 2**29
        assert 5 < resource.prlimit(process.pid, resource.RLIMIT_CPU)[0] < 60


def test_an_interrupt_leaves_no_answer_behind_for_the_next_question(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Grader() as grader:
        process = worker_of(grader)
        worker = grader._idle[-1]

        def interrupt(timeout: float) -> bool:
            raise KeyboardInterrupt

        monkeypatch.setattr(worker, "pipe", Interrupted(worker.pipe, interrupt))
        with pytest.raises(KeyboardInterrupt):
            grader.compare("x", "x+1")
        assert process.poll() is not None
        assert grader.compare("x+1", "1+x").state == "equal"


class Interrupted:
    """A pipe whose wait is cut short."""

    def __init__(self, pipe: Any, poll: Any) -> None:
        self.send, self.recv, self.close, self.poll = pipe.send, pipe.recv, pipe.close, poll


def test_a_grader_serves_many_threads_with_no_more_workers_than_it_may_have() -> None:
    wrong: list[int] = []

    def work(number: int) -> None:
        for extra in range(5):
            right = shared.compare(f"x+{number}", f"{number}+x").state == "equal"
            other = shared.compare(f"x+{number}", f"{number + 1 + extra}+x").state == "unequal"
            if not (right and other):
                wrong.append(number)

    with Grader(workers=2) as shared:
        threads = [threading.Thread(target=work, args=(n,)) for n in range(2, 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in threads)
        assert 1 <= len(shared._idle) <= 2
    assert wrong == []


def test_an_equal_question_is_asked_once() -> None:
    with Grader() as grader:
        assert grader.compare("x+1", "1+x").state == "equal"
        grader._idle[-1].process.kill()
        assert grader.compare("x+1", "1+x").state == "equal"
        assert grader.compare("x+1", "2+x").state == "error"  # the worker was asked, and is dead


@pytest.mark.slow
def test_many_completions_are_scored_in_their_order() -> None:
    pairs = [
        (
            Sample("t", str(n), "?", f"x+{n}"),
            Generation(rf"\boxed{{{n % 3}+x}}", 1, 0, False, "stop"),
        )
        for n in range(12)
    ]
    told: list[tuple[int, int]] = []
    with Grader(workers=2) as grader:
        results = score_all(pairs, grader, lambda done, total, note="": told.append((done, total)))
    assert [r.id for r in results] == [str(n) for n in range(12)]
    assert [r.correct for r in results] == [n < 3 for n in range(12)]
    assert told == [(n, 12) for n in range(1, 13)]


def test_the_worker_imports_no_torch_and_ends_with_its_grader() -> None:
    grader = Grader()
    process = worker_of(grader)
    maps = Path(f"/proc/{process.pid}/maps")
    if maps.exists():
        assert "torch" not in maps.read_text()
    grader.close()
    assert process.returncode == -signal.SIGKILL
    grader.close()


@pytest.mark.parametrize("ending", ["pass", "os.kill(os.getpid(), 9)", "raise KeyboardInterrupt"])
def test_no_worker_outlives_its_parent(ending: str) -> None:
    code = (
        "import os\nfrom laconic.scoring.grader import Grader\ngrader = Grader()\n"
        "grader.compare('x+1', 'y')\nprint(grader._idle[0].process.pid, flush=True)\n" + ending
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").exists() and " Z " in Path(f"/proc/{pid}/stat").read_text():
            return  # ended; nobody has collected it
        time.sleep(0.1)
    pytest.fail(f"the worker {pid} is still there")
