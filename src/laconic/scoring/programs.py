"""Programs: read out of a completion, run in a sandbox, and judged by their exam."""

from __future__ import annotations

import ast
import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Final

from laconic.errors import SandboxError, TaskError
from laconic.scoring.sandbox.sandbox import ENDED
from laconic.scoring.worker import Verdict
from laconic.tasks.contract.exam import Exam

if TYPE_CHECKING:
    from laconic.scoring.sandbox.sandbox import Ending, Sandbox

_BLOCK = re.compile(
    r"^```[ \t]*(?:python3?|py)?[ \t]*\n(?P<code>.*?)(?P<end>^```|\Z)", re.DOTALL | re.MULTILINE
)
_FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)
#: A longer text without a block is taken for no program.
LONGEST: Final = 50_000
OVER: Final = {
    "time": "it passed the limit of processor time",
    "output": "it wrote more than the limit of output",
    "memory": "its processes passed the limit of memory",
}


def find_program(text: str, entry: str, *, truncated: bool) -> tuple[str, bool] | None:
    """The program in a completion: its last block of Python, or all of it where it is a program.

    Args:
        text: The completion; what follows ``</think>`` is looked at first.
        entry: The function asked for; of several blocks the last that defines it is taken.
        truncated: Whether the completion was cut; a block that never closes is none then.

    Returns:
        The program and whether it stood in a block; None where there is none.
    """
    after = text.rpartition("</think>")[2]
    for part in (after, text):
        found = (match for match in _BLOCK.finditer(part) if match["end"] or not truncated)
        blocks = [match["code"] for match in found if match["code"].strip()]
        if blocks:
            fitting = [block for block in blocks if _defines(block, entry)]
            return (fitting or blocks)[-1], True
    bare = not truncated and len(after) <= LONGEST and _is_program(after)
    return (after, False) if bare else None


def judge(exam: Exam, program: str, box: Sandbox) -> Verdict:
    """Run a program and its exam.

    Returns:
        ``equal`` where it passes; ``unequal`` with the reason where it fails, crashes or passes a
        limit of its own; ``timeout`` where its clock ran out before its processor time did, which a
        busy machine may cause; ``error`` where the sandbox failed.
    """
    source = _assembled(exam, program)
    try:
        if exam.check:
            return _examine(exam, source, box)
        for number, (given, wanted) in enumerate(exam.cases, start=1):
            ending = box.run(source, stdin=given)
            if failed := _failure(ending):
                return Verdict(failed.state, reason=f"test {number}: {failed.reason}")
            if not same_output(ending.output, wanted):
                return Verdict("unequal", reason=f"test {number}: another output")
    except SandboxError as error:
        return Verdict("error", reason=str(error))
    return Verdict("equal") if exam.cases else Verdict("error", reason="there are no tests")


def _examine(exam: Exam, source: str, box: Sandbox) -> Verdict:
    """Run an exam's tests beside a program; they call its functions, and it never sees them."""
    ending = box.examine(source, f"{exam.head}\n{exam.check}", _asked(exam))
    if ending.passed:
        return Verdict("equal")
    left = ending.tests.state == "ended" and ending.tests.code == ENDED
    if left and ending.program.state != "stopped" and (failed := _failure(ending.program)):
        return failed
    return _failure(ending.tests) or Verdict("unequal", reason="its tests did not end")


def _asked(exam: Exam) -> list[str]:
    """The names that tests take from a program even where the interpreter has them too."""
    try:
        body = ast.parse(exam.solution).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        body = []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [exam.entry, *(node.name for node in body if isinstance(node, kinds))]


def same_output(got: str, wanted: str) -> bool:
    """Whether two outputs agree line by line, but for white space and the spelling of numbers."""
    left, right = (text.strip().splitlines() for text in (got, wanted))
    return len(left) == len(right) and all(map(_same_line, left, right))


def read_exam(gold: str) -> Exam | Verdict:
    """The exam in a gold, or the error that it is none."""
    try:
        return Exam.of_gold(gold)
    except TaskError as error:
        return Verdict("error", reason=str(error))


def _failure(ending: Ending) -> Verdict | None:
    """Why a program did not end well; None where it did."""
    if ending.state == "clock":
        return Verdict("timeout", reason="its clock ran out")
    if ending.state in OVER:
        return Verdict("unequal", reason=OVER[ending.state])
    if ending.state == "signal":
        return Verdict("unequal", reason=f"it was killed by signal {ending.code}")
    if ending.code:
        lines = ending.errors.strip().splitlines() or [f"exit status {ending.code}"]
        return Verdict("unequal", reason=lines[-1][:200])
    return None


def _assembled(exam: Exam, program: str) -> str:
    """A program with what stands before it; imports from the future come first."""
    whole = exam.head + "\n" + program
    if exam.prompt and not _defines(program, exam.entry):
        whole = exam.prompt + program
    return "".join(_FUTURE.findall(whole)) + _FUTURE.sub("", whole)


def _defines(program: str, entry: str) -> bool:
    return (
        not entry
        or re.search(rf"^\s*(?:async\s+)?def\s+{re.escape(entry)}\b", program, re.MULTILINE)
        is not None
    )


def _is_program(text: str) -> bool:
    """Whether a text without a block is Python that does something, a function's body included."""
    for source in (text, f"def _():\n{text}"):
        try:
            body = ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return any(not isinstance(n, ast.Expr) or isinstance(n.value, ast.Call) for n in body)
    return False


def _same_line(left: str, right: str) -> bool:
    if left.strip() == right.strip():
        return True
    mine, theirs = left.split(), right.split()
    return len(mine) == len(theirs) and all(map(_same_word, mine, theirs))


def _same_word(left: str, right: str) -> bool:
    if left == right:
        return True
    if not (left + right).isascii() or "_" in left + right:
        return False  # Decimal reads 1_0 and the digits of every script
    try:
        return Decimal(left) == Decimal(right)
    except InvalidOperation:
        return False
