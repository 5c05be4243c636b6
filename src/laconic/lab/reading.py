"""Counts of errors, checks and repairs in the texts of the lab's models, line by line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from laconic.tasks.contract.arithmetic import operate, two_digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.runs.run import Result
    from laconic.tasks.contract.arithmetic import Operator


#: A line of working: its variable, what it takes from the question, what it works out, its value.
LINE: Final = re.compile(r"^(\w)=(\w[+*-]\d+)=(\d\d)([+*-])(\d+)=(\d\d)$", re.MULTILINE)
CHECK: Final = re.compile(r"^(?:Wait|Hmm),", re.MULTILINE)


@dataclass(frozen=True)
class WorkingCounts:
    """Counts over all responses of a model.

    Attributes:
        checks: The mean number of checks, including second checks, of a response.
        misread: Lines with another operation than the question's; no check can notice these.
        slips: Lines with a wrong result of their own operation.
        repaired: The number of slips that a check corrected.
        broken: Responses whose lines were all right at first and whose answer is wrong.
    """

    checks: float
    misread: int
    slips: int
    repaired: int
    broken: int


def count_workings(results: Sequence[Result]) -> WorkingCounts:
    """Count checks, misread lines, slips and repairs in what a model wrote."""
    checks = misread = slips = repaired = broken = 0
    for result in results:
        text = result.prefill + result.text
        checks += len(CHECK.findall(text))
        asked = dict(row.split("=") for row in result.problem.split("\n")[1:-1])
        lines = LINE.findall(text)
        wrong = [line for line in lines if line[5] != _value(line)]
        elsewhere = sum(
            asked.get(name) != taken or taken[1:] != operator + constant
            for name, taken, _, operator, constant, _ in lines
        )
        misread += elsewhere
        slips += len(wrong)
        repaired += sum(f"so {line[0]}={_value(line)}" in text for line in wrong)
        broken += not (wrong or elsewhere or result.correct)
    return WorkingCounts(checks / len(results), misread, slips, repaired, broken)


def _value(line: tuple[str, ...]) -> str:
    """What a line's own operation gives."""
    _, _, left, operator, constant, _ = line
    return two_digits(operate(int(left), cast("Operator", operator), int(constant)))


def mended(result: Result) -> bool:
    """Whether a response to ``lab_planted`` checks the wrong line it got and puts it right."""
    name = result.prefill.rstrip("\n").rpartition("\n")[2].partition("=")[0]
    return f"so {name}={right_values(result.problem)[name]}" in result.text


def right_values(question: str) -> dict[str, str]:
    """The right value of each variable of a question, two digits, worked out from its text."""
    values: dict[str, int] = {}
    for row in question.split("\n")[1:-1]:
        name, right = row.split("=")
        found = re.fullmatch(r"(\w)([+*-])(\d+)", right)
        if found is None:
            values[name] = int(right)
        else:
            operator = cast("Operator", found[2])
            values[name] = operate(values[found[1]], operator, int(found[3]))
    return {name: two_digits(value) for name, value in values.items()}
