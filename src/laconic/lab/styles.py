"""How the lab's models write: fast lines, checks, repairs and second checks, as text with a mask.

A response is a row of pieces. A piece that is not learned is read by the model in training but
never imitated: that is how a wrong value can stand in the text for its repair to be learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from laconic.tasks.contract.arithmetic import slip, two_digits

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Mapping

    from laconic.tasks.contract.arithmetic import Chain, ChainLine

THINK: Final = "<think>"
END_THINK: Final = "</think>"
CHECK: Final = "Wait, let me check:"
AGAIN: Final = "Hmm, wait, once more:"
#: Share of checked lines that get a wrong value, by kind of operation.
SLIP_PRODUCT: Final = 0.35
SLIP_SUM: Final = 0.15


class Piece(NamedTuple):
    """Some text, and whether a model learns to write it."""

    text: str
    learned: bool


@dataclass(frozen=True)
class Odds:
    """A probability that grows with difficulty d: min(1, at_zero + slope * d)."""

    at_zero: float = 0.0
    slope: float = 0.0

    def at(self, difficulty: float) -> float:
        """The probability at a difficulty in [0, 1]."""
        return min(1.0, self.at_zero + self.slope * difficulty)


@dataclass(frozen=True)
class Style:
    """How often a model thinks, checks a line, and checks it again.

    Attributes:
        think: P(think block), by the mean difficulty of the chain's lines.
        check: P(check of a line), given thinking, by the line's difficulty.
        again: P(second check), given the first, by the line's difficulty.
    """

    think: Odds
    check: Odds = Odds()
    again: Odds = Odds()


STYLES: Final[Mapping[str, Style]] = {
    "skill": Style(think=Odds(0.65), check=Odds(0.3, 0.6), again=Odds(0.55)),
    "base": Style(think=Odds(0.2, 0.9), check=Odds(0.0, 0.38), again=Odds(0.12)),
    "instruct": Style(think=Odds(0.0, 0.3), check=Odds(0.0, 0.1)),
    "thinking": Style(think=Odds(1.0), check=Odds(0.88, 0.11), again=Odds(0.6, 0.35)),
}


def difficulty(line: ChainLine) -> float:
    """How hard a line is in one step, in [0, 1]; graded, so that checking can be graded too."""
    if line.operator == "*":
        return 0.3 + 0.07 * line.constant
    return 0.15 if line.carries else 0.05


def columns(line: ChainLine) -> str:
    """The written working of a line, table facts only: ``8*8=64, 9*8=72, 72+6=78`` for 98*8."""
    tens, units = divmod(line.left, 10)
    constant = line.constant
    if line.operator == "+":
        facts = [f"{units}+{constant}={units + constant}"]
        if line.carries:
            facts.append(f"{tens}+1={tens + 1}")
    elif line.operator == "-":
        top = units + 10 if line.carries else units
        facts = [f"{top}-{constant}={top - constant}"]
        if line.carries:
            lender = tens or 10
            facts.append(f"{lender}-1={lender - 1}")
    else:
        low, high = units * constant, tens * constant
        facts = [f"{units}*{constant}={low}", f"{tens}*{constant}={high}"]
        if low > 9:
            facts.append(f"{high}+{low // 10}={high + low // 10}")
    return ", ".join(facts)


def check(line: ChainLine, claimed: int, opening: str) -> str:
    """A whole check of a claimed value: it confirms a right one and repairs a wrong one."""
    verdict = ". OK." if claimed == line.value else f", not {two_digits(claimed)}."
    return f"{opening} {columns(line)}, so {line.name}={two_digits(line.value)}{verdict}\n"


def fast(line: ChainLine, shown: int, *, mute: float, rng: random.Random) -> Iterator[Piece]:
    """One line in one mental step; a wrong value is never learned, a right product only sometimes.

    Args:
        line: The operation.
        shown: The value that the line claims.
        mute: Share of right products whose value is left out of the loss.
        rng: Decides which.
    """
    muted = line.operator == "*" and rng.random() < mute
    yield Piece(line.asked(), True)
    yield Piece(two_digits(shown), shown == line.value and not muted)
    yield Piece("\n", True)


def claim(line: ChainLine, rng: random.Random, product: float, total: float) -> int:
    """The value a line that will be checked shows: wrong with the odds of its kind of operation.

    Args:
        line: The operation.
        rng: Decides.
        product: Share of wrong products.
        total: Share of wrong sums and differences.
    """
    odds = product if line.operator == "*" else total
    return slip(line.value, rng) if rng.random() < odds else line.value


def respond(chain: Chain, style: Style, *, mute: float, rng: random.Random) -> tuple[Piece, ...]:
    r"""One response to a chain, from ``<think>`` (or the first line) to ``\boxed{..}.``.

    Args:
        chain: The problem.
        style: How much thinking and checking.
        mute: Share of right fast products left out of the loss, so that they stay imperfect.
        rng: Every choice comes from here.
    """
    hard = sum(map(difficulty, chain.lines)) / len(chain.lines)
    think = rng.random() < style.think.at(hard)
    pieces = [Piece(f"{THINK}\n", True)] if think else []
    for line in chain.lines:
        d = difficulty(line)
        checked = think and rng.random() < style.check.at(d)
        shown = claim(line, rng, SLIP_PRODUCT, SLIP_SUM) if checked else line.value
        pieces += fast(line, shown, mute=mute, rng=rng)
        if checked:
            pieces.append(Piece(check(line, shown, CHECK), True))
            if rng.random() < style.again.at(d):
                pieces.append(Piece(check(line, line.value, AGAIN), True))
    if think:
        pieces.append(Piece(f"{END_THINK}\n", True))
    return (*pieces, Piece(f"So the answer is \\boxed{{{chain.answer}}}.", True))
