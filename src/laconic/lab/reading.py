"""What the lab's models wrote, line by line: slips, checks and repairs, worked out exactly."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laconic.arithmetic import MODULUS, two_digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from laconic.run import Result


@dataclass(frozen=True)
class Work:
    """What the responses of a model show beyond being right or wrong.

    Attributes:
        checks: Checks and second checks a response.
        wrong: Wrong first values of lines, all responses together.
        repaired: How many of them a check put right.
        broken: Responses whose lines were all right at first and whose answer is wrong.
    """

    checks: float
    wrong: int
    repaired: int
    broken: int


def work(results: Sequence[Result]) -> Work:
    """Count checks, slips and repairs in what a model wrote."""
    checks = wrong = repaired = broken = 0
    for result in results:
        text = result.prefill + result.text
        checks += len(re.findall(r"^(?:Wait|Hmm),", text, re.MULTILINE))
        slips = [
            (name, value)
            for name, value in right_values(result.problem).items()
            if re.search(rf"^{name}=.*=(?!{value})\d\d$", text, re.MULTILINE)
        ]
        wrong += len(slips)
        repaired += sum(f"so {name}={value}" in text for name, value in slips)
        broken += not slips and not result.correct
    return Work(checks / len(results), wrong, repaired, broken)


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
            left, constant = values[found[1]], int(found[3])
            done = {"+": left + constant, "-": left - constant, "*": left * constant}
            values[name] = done[found[2]] % MODULUS
    return {name: two_digits(value) for name, value in values.items()}
