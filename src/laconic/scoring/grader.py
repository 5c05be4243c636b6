"""The grader: decides plain answers at once, and hands the rest to killable worker processes."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, Self

from laconic.errors import SandboxError, TaskError
from laconic.scoring.answers import choices
from laconic.scoring.answers.extract import conclusion, formula, open_box, tail
from laconic.scoring.answers.limits import too_large
from laconic.scoring.answers.plain import compare_plain, elided_parts, same_words
from laconic.scoring.answers.references import is_sentence, readings
from laconic.scoring.answers.spelling import as_latex
from laconic.scoring.programs import judge
from laconic.scoring.sandbox.sandbox import Sandbox
from laconic.scoring.verdict_cache import VerdictCache
from laconic.scoring.worker import Question, Verdict, Worker

if TYPE_CHECKING:
    from pathlib import Path

    from laconic.tasks.contract.exam import Exam

logger = logging.getLogger(__name__)
#: Part of a run's experiment: runs with other graders are not one experiment.
GRADER: Final = f"laconic/3 math-verify/{version('math-verify')}"
#: What Math-Verify rests on: other versions may say otherwise.
ALGEBRA: Final = ("sympy", "latex2sympy2_extended")
DEADLINE: Final = 3.0
MEMORY: Final = 2**29
MOST_WORKERS: Final = 16
NOT_ALLOWED: Final = (
    "Grading programs means running what a model wrote. Read what the sandbox does not cover "
    "(docs/evaluation.md), then give --allow-code."
)


class Grader:
    """Compares answers with golds; owns the worker processes that run Math-Verify.

    Plain answers are decided here and at once. The others go to workers, each started when all
    before it are busy; one that outlasts the deadline or its memory is killed and replaced. Equal
    questions are asked once. Any thread may call. Use it as a context manager, or `close` it; what
    is forgotten is ended with the interpreter.

    Args:
        deadline: Processor seconds that one comparison may take, so that a busy machine does not
            change a verdict; by the clock, four times as many.
        memory: Bytes of address space that one worker may take.
        workers: The most workers at once; by default one a processor.
        allow_code: Whether programs that models wrote may be run, in sandboxes.
        grades: A file of verdicts to use and to add to; None keeps them in memory only.
    """

    def __init__(
        self,
        *,
        deadline: float = DEADLINE,
        memory: int = MEMORY,
        workers: int | None = None,
        allow_code: bool = False,
        grades: Path | None = None,
    ) -> None:
        self.workers = workers or processors()
        self._deadline = deadline
        self._memory = memory
        self._places = threading.Semaphore(self.workers)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._allow_code = allow_code
        self._sandboxes: list[Sandbox] = []
        self._known: dict[Question, Verdict] = {}
        algebra = (f"{package}/{version(package)}" for package in ALGEBRA)
        self._grades = VerdictCache(grades, " ".join([GRADER, *algebra])) if grades else None

    def compare(self, gold: str, answer: str) -> Verdict:
        """Whether an extracted answer equals the gold, or one of its alternatives."""
        if gold.strip() == answer.strip():
            return Verdict("equal")
        if refused := _refused(gold, answer):
            return refused
        verdict = Verdict("unequal")
        for reading in readings(gold):
            found = self._compare(reading, answer)
            if found.state == "equal":
                return found
            verdict = verdict if found.state == "unequal" else found
        return verdict

    def compare_by_algebra(self, gold: str, answer: str) -> Verdict:
        """What Math-Verify says of an answer, equal spelling or not."""
        if refused := _refused(gold, answer):
            return refused
        return self._ask(Question(as_latex(gold), as_latex(answer), boxed=True))

    def conclude(self, gold: str, text: str) -> Verdict:
        """Whether a finished text without a box concludes with the gold.

        A choice is looked for where the gold is a letter, a word where it is one; else a formula,
        and where the text announces none, the last expression that Math-Verify finds near its end.

        Returns:
            The verdict with the answer read; ``none`` where the text shows none.
        """
        if letter := choices.choice(gold):
            said = choices.read_choice(text)
            return _told(said, said == letter)
        if wanted := choices.word(gold):
            said = choices.read_word(text, gold)
            return _told(said, said == wanted)
        begun = open_box(text)
        said = conclusion(text) if begun is None else formula(begun)
        if begun is not None and not said:
            return Verdict("none")
        if said:
            return replace(self.compare(gold, said), answer=said)
        return self.search(gold, tail(text))

    def search(self, gold: str, text: str) -> Verdict:
        """Whether the last answer that Math-Verify finds in a text without a box is the gold."""
        verdict = Verdict("none")
        for reading in readings(gold):
            if refused := _refused(reading, text):
                return refused
            verdict = self._ask(Question(as_latex(reading), text, boxed=False))
            if verdict.state == "equal":
                break
        return verdict

    def judge(self, exam: Exam, program: str) -> Verdict:
        """Whether a program passes its exam.

        Raises:
            TaskError: Where programs may not be run.
        """
        if not self._allow_code:
            raise TaskError(NOT_ALLOWED)
        with self._places:
            try:
                with self._lock:
                    box = self._sandboxes.pop() if self._sandboxes else None
                box = box or Sandbox()
            except SandboxError as error:
                return Verdict("error", reason=str(error))
            verdict = judge(exam, program, box)
            if verdict.state == "error":
                box.close()
            else:
                with self._lock:
                    self._sandboxes.append(box)
        return verdict

    def isolation(self) -> tuple[str, ...]:
        """What the sandbox has in force here, as `laconic.scoring.sandbox` names it.

        Raises:
            SandboxError: Where programs cannot be run here.
        """
        box = Sandbox()
        self._sandboxes.append(box)
        if missing := sorted({"processes", "network", "files"} - set(box.isolation)):
            logger.warning(
                "The sandbox cannot shut off %s here: programs that the model writes run with your "
                "rights. A container or a virtual machine would hold them.",
                ", ".join(missing),
            )
        return box.isolation

    def close(self) -> None:
        """End the workers and sandboxes that are not in use; write the verdicts to their file."""
        with self._lock:
            idle, self._idle = self._idle, []
            boxes, self._sandboxes = self._sandboxes, []
        for worker in idle:
            worker.kill()
        for box in boxes:
            box.close()
        if self._grades:
            self._grades.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _compare(self, reading: str, answer: str) -> Verdict:
        """Whether an answer equals one reading of a gold."""
        plain = compare_plain(reading, answer)
        if plain is not None:
            return Verdict("equal" if plain else "unequal")
        if is_sentence(reading):
            return Verdict("equal" if same_words(reading, answer) else "unequal")
        parts = elided_parts(reading, answer)
        if parts is None:
            return self.compare_by_algebra(reading, answer)
        verdicts = [self._compare(*part) for part in parts]
        unlike = next((v for v in verdicts if v.state != "equal"), None)
        return unlike or Verdict("equal" if verdicts else "unequal")

    def _ask(self, question: Question) -> Verdict:
        if known := self._known.get(question):
            return known
        if self._grades and (kept := self._grades.get(question)):
            self._known[question] = kept
            return kept
        with self._places:
            verdict = self._exchange(question)
        if verdict.state != "error":
            self._known[question] = verdict
        if self._grades:
            self._grades.put(question, verdict)
        return verdict

    def _exchange(self, question: Question) -> Verdict:
        """Ask an idle worker, else a new one; it is idle again unless it failed."""
        worker = None
        try:
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            worker = worker or Worker(self._deadline, self._memory)
            verdict = worker.ask(question)
        except (EOFError, OSError) as error:
            verdict = Verdict("error", reason=f"the worker died ({error or 'end of file'})")
        except BaseException:  # such as Ctrl-C: an answer still to come would be misread later
            if worker:
                worker.kill()
            raise
        if verdict.state in {"timeout", "error"}:
            if worker:
                worker.kill()
        elif worker:
            with self._lock:
                self._idle.append(worker)
        return verdict


def _refused(gold: str, answer: str) -> Verdict | None:
    """The error that a gold or an answer is too large to parse; None where neither is."""
    for name, part in (("gold", gold), ("answer", answer)):
        if reason := too_large(part):
            return Verdict("error", reason=f"the {name} is not parsed: {reason}")
    return None


def _told(said: str, right: bool) -> Verdict:
    """The verdict on a letter or a word; none where nothing was said."""
    if not said:
        return Verdict("none")
    return Verdict("equal" if right else "unequal", said)


def processors() -> int:
    """How many processors this process may use, 16 at most."""
    able = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(able or 1, MOST_WORKERS)
