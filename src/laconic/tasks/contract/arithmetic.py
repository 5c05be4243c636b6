"""The lab's problems: chains of two-digit arithmetic, drawn from a seed, scored by their end.

Training and the lab's tasks draw from here, so this file is part of what decides about the lab's
weights. Which split a question belongs to is a property of its text (a hash), so training, dev and
test never share one, whatever the seed and the amount.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from laconic.errors import TaskError

if TYPE_CHECKING:
    import random

Operator = Literal["+", "-", "*"]
Split = Literal["train", "dev", "test"]
Levels = Mapping[int, tuple[int, int]]

MODULUS: Final = 100
NAMES: Final = "abcdefghijklmnopqrstuvwxyz"
SUMS: Final[tuple[Operator, ...]] = ("+", "-")
#: Level -> (operations in the chain, how many of them are multiplications).
LEVELS: Final[Levels] = {1: (2, 0), 2: (3, 0), 3: (4, 1), 4: (5, 2), 5: (6, 3)}
#: The same for models with room for long thoughts.
LONG_LEVELS: Final[Levels] = {1: (8, 2), 2: (12, 4), 3: (16, 6), 4: (20, 8), 5: (25, 11)}
#: Per cent of all questions that are kept away from training.
DEV_SHARE: Final = 5
TEST_SHARE: Final = 5
#: Draws without a new question after which a split counts as exhausted.
PATIENCE: Final = 20_000


@dataclass(frozen=True)
class ChainLine:
    """One operation: ``name = left op constant``, where `left` is the previous value.

    Attributes:
        name: The variable that is set.
        left: The previous variable's value, 0 to 99.
        operator: ``+``, ``-`` or ``*``.
        constant: 1 to 9 (2 to 9 for a product).
    """

    name: str
    left: int
    operator: Operator
    constant: int

    @property
    def value(self) -> int:
        """The exact result, modulo 100."""
        return operate(self.left, self.operator, self.constant)

    @property
    def before(self) -> str:
        """The previous variable's name."""
        return NAMES[NAMES.index(self.name) - 1]

    def asked(self) -> str:
        """The line's working up to its result: ``d=c*6=84*6=``."""
        step = f"{self.operator}{self.constant}="
        return f"{self.name}={self.before}{step}{two_digits(self.left)}{step}"

    @property
    def carries(self) -> bool:
        """Whether the units of a sum or difference reach into the tens (False for a product)."""
        units = self.left % 10
        if self.operator == "*":
            return False
        return units + self.constant > 9 if self.operator == "+" else units < self.constant


@dataclass(frozen=True)
class Chain:
    """A problem: a start value and the operations applied to it, one variable each."""

    level: int
    start: int
    lines: tuple[ChainLine, ...]

    @property
    def question(self) -> str:
        r"""The prompt, for example ``Work mod 100.\na=71\nb=a-9\nc=b*6\nc=?``."""
        rows = [f"{line.name}={line.before}{line.operator}{line.constant}" for line in self.lines]
        head = f"Work mod {MODULUS}.", f"{NAMES[0]}={self.start}"
        return "\n".join([*head, *rows, f"{self.lines[-1].name}=?"])

    @property
    def name(self) -> str:
        """A short name of the question, the same wherever it is drawn."""
        return hashlib.blake2b(self.question.encode(), digest_size=6).hexdigest()

    @property
    def answer(self) -> str:
        """The last variable's value, always two digits."""
        return two_digits(self.lines[-1].value)


def operate(left: int, operator: Operator, constant: int) -> int:
    """``left operator constant`` modulo 100."""
    if operator == "*":
        return left * constant % MODULUS
    return (left + constant if operator == "+" else left - constant) % MODULUS


def two_digits(value: int) -> str:
    """How the lab writes every value, so that 7 is ``07``."""
    return f"{value:02d}"


def slip(value: int, rng: random.Random) -> int:
    """A wrong value near a right one: mostly its tens digit is off by one to three."""
    kind = rng.random()
    if kind < 0.75:
        return (value + rng.choice((-30, -20, -10, 10, 20, 30))) % MODULUS
    if kind < 0.9:
        return value - value % 10 + (value + rng.randint(1, 9)) % 10
    return (value + rng.randint(1, MODULUS - 1)) % MODULUS


def draw(level: int, rng: random.Random, levels: Levels = LEVELS) -> Chain:
    """One chain of a level; its operators stand in random order.

    Args:
        level: 1 to 5, a key of `levels`.
        rng: Where the draw comes from.
        levels: `LEVELS` or `LONG_LEVELS`.
    """
    length, products = levels[level]
    operators: list[Operator] = ["*"] * products
    operators += [rng.choice(SUMS) for _ in range(length - products)]
    rng.shuffle(operators)
    start = value = rng.randint(10, MODULUS - 1)
    lines = []
    for name, operator in zip(NAMES[1:], operators, strict=False):
        constant = rng.randint(2 if operator == "*" else 1, 9)
        lines.append(ChainLine(name, value, operator, constant))
        value = lines[-1].value
    return Chain(level, start, tuple(lines))


def split_of(question: str) -> Split:
    """The split that a question belongs to: 5 % dev, 5 % test, the rest train."""
    digest = hashlib.blake2b(question.encode(), digest_size=8).digest()
    percent = int.from_bytes(digest, "big") % 100
    if percent < TEST_SHARE:
        return "test"
    return "dev" if percent < TEST_SHARE + DEV_SHARE else "train"


def chains(
    count: int, *, split: Split, rng: random.Random, levels: Levels = LEVELS
) -> tuple[Chain, ...]:
    """Distinct problems of one split, levels interleaved: problem i has level i % 5 + 1.

    Args:
        count: How many.
        split: Only questions of this split are returned.
        rng: Where the draws come from.
        levels: `LEVELS` or `LONG_LEVELS`.

    Raises:
        TaskError: The split holds fewer problems of some level than were asked for.
    """
    order = sorted(levels)
    seen: set[str] = set()
    found: list[Chain] = []
    for index in range(count):
        level = order[index % len(order)]
        for _ in range(PATIENCE):
            chain = draw(level, rng, levels)
            question = chain.question
            if question not in seen and split_of(question) == split:
                break
        else:
            raise TaskError(
                f"lab: split '{split}' has no more level-{level} problems after {index} problems. "
                "Ask for a smaller size."
            )
        seen.add(question)
        found.append(chain)
    return tuple(found)


def planted(chain: Chain, rng: random.Random) -> str:
    """The beginning of a thought about a chain, which ends with its first wrong line."""
    last = rng.randrange(len(chain.lines))
    right = (f"{line.asked()}{two_digits(line.value)}\n" for line in chain.lines[:last])
    wrong = chain.lines[last]
    return f"<think>\n{''.join(right)}{wrong.asked()}{two_digits(slip(wrong.value, rng))}\n"
